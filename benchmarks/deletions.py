"""Many queued deletions, filing excluded, against plain SQL that erases the same rows and does nothing else."""

import time
from collections.abc import Iterator

import psycopg
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from benchmarks.world import cluster, fill
from chatbots.secrets import digest
from compliance import queue
from compliance.models import ComplianceRequest

CONVERSATIONS, MESSAGES = 5, 10  # of each chatter, and of each conversation

# The same effect on the same rows: find the conversations, then erase what hangs on them.
_FIND = """
SELECT conversation_id FROM conversations_identity
 WHERE chatbot_id = %(chatbot)s AND variable_id = %(variable)s AND value = ANY(%(values)s)
"""
_ERASE = (
    "DELETE FROM conversations_message WHERE conversation_id = ANY(%(conversations)s)",
    "DELETE FROM conversations_identity WHERE conversation_id = ANY(%(conversations)s)",
    """
    UPDATE conversations_conversation
       SET external_id = NULL, uci_variable_id = NULL, language = NULL, user_name = NULL, last_message_at = NULL,
           message_count = NULL, csat_comment = NULL, deletion_request_id = %(request)s, deleted_at = now(),
           started_at = date_trunc('day', started_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
     WHERE id = ANY(%(conversations)s)
    """,
)


def run(chatters: int) -> Iterator[tuple[str, float]]:
    """Yield name and seconds: plain SQL with 100 chatters and with one chatter a transaction, then ours."""
    for name, per_transaction in (("set-wise SQL", 100), ("one transaction a request", 1)):
        chatbot, variable = fill(f"floor-{per_transaction}", chatters=chatters, **_SIZE)
        yield name, _floor(chatbot, variable, chatters, per_transaction)
    chatbot, variable = fill("ours", chatters=chatters, **_SIZE)
    yield "ours", _ours(chatbot, variable, chatters)


_SIZE = {"conversations": CONVERSATIONS, "messages": MESSAGES}


def _values(chatters: int) -> list[str]:
    return [f"member-{number}" for number in range(chatters)]


def _floor(chatbot: int, variable: int, chatters: int, per_transaction: int) -> float:
    values = _values(chatters)
    params = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**params) as plain:
        began = time.perf_counter()
        for start in range(0, chatters, per_transaction):
            batch = values[start : start + per_transaction]
            rows = plain.execute(_FIND, {"chatbot": chatbot, "variable": variable, "values": batch})
            arguments = {"conversations": [row[0] for row in rows], "request": uuid7()}
            for statement in _ERASE:
                plain.execute(statement, arguments)
            plain.commit()
        return time.perf_counter() - began


def _ours(chatbot: int, variable: int, chatters: int) -> float:
    with cluster():
        _file(chatbot, variable, ["nobody"])
        _wait(chatbot)  # until the cluster has shown that it works
        _file(chatbot, variable, _values(chatters))
        began = time.perf_counter()
        _wait(chatbot)
        return time.perf_counter() - began


def _file(chatbot: int, variable: int, values: list[str]) -> None:
    with transaction.atomic():
        ComplianceRequest.objects.bulk_create(
            [
                ComplianceRequest(
                    id=uuid7(),
                    chatbot_id=chatbot,
                    variable_id=variable,
                    kind=ComplianceRequest.Kind.DELETION,
                    origin=ComplianceRequest.Origin.COMMAND,
                    filed_by="command",
                    uci_value=value,
                    uci_digest=digest("chatter", variable, value),
                    queued_at=Now(),
                    due_at=timezone.now(),
                )
                for value in values
            ]
        )
        queue.ring_after_commit()


def _wait(chatbot: int) -> None:
    open_ones = ComplianceRequest.objects.filter(chatbot=chatbot).exclude(status="completed")
    while open_ones.exists():
        time.sleep(0.05)
