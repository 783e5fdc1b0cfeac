"""Track the machines of Citus that do not answer; skip work on them.

Each process asks them while it has work, and keeps the answer for some seconds. On one PostgreSQL there is no check:
the next statement fails if the database does not answer.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from django.db import OperationalError
from django.db.models import QuerySet
from psycopg import Error as PsycopgError
from psycopg import errors

from chatbots.models import Chatbot
from common.db import array, fetch
from conversations import placement
from conversations.placement import TABLE, coordinator

# The code and the text of work that waits for a machine.
SILENT = "machine_silent"
LOST = "A machine of the database was lost in the middle of the work."

# Work reaches a machine that has stopped for this long at most. A machine that is back waits as long.
ASK_SECONDS = 5.0

_ALL = "SELECT nodename || ':' || nodeport FROM pg_dist_node WHERE isactive AND noderole = 'primary' ORDER BY nodeid"
_GROUPS = "SELECT groupid FROM pg_dist_node WHERE nodename || ':' || nodeport = ANY(%s)"
_ELSEWHERE = """
SELECT each.chatbot_id
  FROM unnest(%s::bigint[]) AS each(chatbot_id)
  JOIN pg_dist_placement p ON p.shardid = get_shard_id_for_distribution_column(%s::regclass, each.chatbot_id)
 WHERE p.groupid <> ALL(%s::int[])
"""
_CONNECTION_EXCEPTION = "08"
# Citus has no code of its own for these: a connection that was open while the machine restarted, and a commit that
# the machine did not take part in any more.
_INTERNAL_ERROR = "XX000"
_LOST = ("failure on connection marked as essential", "could not commit transaction", "server closed the connection")


@dataclass
class _LastAnswers:
    """The last answers to this process: the machines that were silent, by their groups."""

    silent: list[int] = field(default_factory=list)
    asked_at: float = float("-inf")


_last = _LastAnswers()


def ask_if_due() -> None:
    """Ask the machines whether they answer, unless they were asked just now.

    Outside a transaction: it sets timeouts, and can take some seconds.
    """
    if time.monotonic() - _last.asked_at >= ASK_SECONDS:
        ask()


def ask() -> list[str]:
    """Ask the machines in any case. Return the silent ones, as "host:port"."""
    names = silent_nodes()
    _last.silent = [group for (group,) in fetch(_GROUPS, [names])] if names else []
    _last.asked_at = time.monotonic()
    return names


def silent_nodes() -> list[str]:
    """Return the machines that do not answer, as "host:port", after some seconds at most. None on one PostgreSQL.

    Returns all machines if one accepts the connection, and then answers so late that the others cannot be read.
    """
    if not placement.is_distributed():
        return []
    try:
        return [name for name, has_answered, _ in coordinator.ask("SELECT 1") if not has_answered]
    except OperationalError as error:
        if not isinstance(error.__cause__, errors.QueryCanceled):
            raise
    return [name for (name,) in fetch(_ALL)]


def any_silent() -> bool:
    """Return whether a machine was silent when this process asked last."""
    return bool(_last.silent)


def reachable(chatbots: Collection[int]) -> list[int]:
    """Return those of the chatbots, in their order, whose machine was not silent."""
    if not _last.silent:
        return list(chatbots)
    found = {chatbot for (chatbot,) in fetch(_ELSEWHERE, [array(chatbots), TABLE, array(_last.silent)])}
    return [chatbot for chatbot in chatbots if chatbot in found]


def answering(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return those of the rows whose chatbot's machine was not silent."""
    return rows.filter(chatbot__in=_reachable_chatbots()) if _last.silent else rows


def on_answering() -> str:
    """Return the SQL condition that excludes silent machines from a statement about all chatbots.

    It begins with the column, so the name of a table can stand before it.
    """
    if not _last.silent:
        return "chatbot_id IS NOT NULL"
    return f"chatbot_id = ANY('{array(_reachable_chatbots())}'::bigint[])"


def _reachable_chatbots() -> list[int]:
    return reachable(Chatbot.objects.values_list("pk", flat=True))


def are_behind(error: BaseException, chatbots: Collection[int]) -> bool:
    """Return whether an error comes from a machine that failed, or a machine of these chatbots is silent now.

    Outside a transaction, as `ask`.
    """
    if not placement.is_distributed():
        return False
    ask()
    return has_failed(error) or len(reachable(chatbots)) < len(chatbots)


def has_failed(error: BaseException) -> bool:
    """Return whether an error of the database comes from a machine that the coordinator has lost or did not reach.

    The error of a lost coordinator has no code, and does not count.
    """
    cause = error if isinstance(error, PsycopgError) else error.__cause__
    if not isinstance(cause, PsycopgError) or cause.sqlstate is None:
        return False
    is_lost = cause.sqlstate.startswith(_CONNECTION_EXCEPTION) or (
        cause.sqlstate == _INTERNAL_ERROR and (cause.diag.message_primary or "").startswith(_LOST)
    )
    return is_lost and placement.is_distributed()
