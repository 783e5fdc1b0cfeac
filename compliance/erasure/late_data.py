"""Erase late data of completed deletions.

A late document of an erased chatter may belong to a stored conversation. Intake then marks that conversation for the
completed deletion, and the next sweep erases it here.
"""

import logging
import random
import time
from collections.abc import Callable
from uuid import UUID

from django.db import DatabaseError, transaction

from common.db import array, fetch
from common.isolation import Isolation
from common.logs import describe_kind
from compliance.erasure import exports, objects, rows
from compliance.errors import StepFailed
from compliance.ledger import journal, lines
from compliance.work.outbox import log
from compliance.work.sql import chatbot_of_each
from compliance.work.transitions import completion
from conversations.placement import by_place, machines

logger = logging.getLogger(__name__)

# Erases late data of some deletions, whose chatbots live in one place; returns those that have to wait.
_Erase = Callable[[list[UUID]], set[UUID]]

# How long rows may take in a sweep, and how long files; the next one continues.
_SECONDS = 10.0
_REQUESTS_AT_ONCE = 100

# An array, since PostgreSQL expects thousands of marked conversations, where there are hardly any, and would join by
# reading all requests.
_LATE = """
WITH late AS MATERIALIZED ({found})
SELECT id, chatbot_id FROM compliance_compliancerequest
 WHERE status = 'completed' AND id = ANY(ARRAY(SELECT deletion_request_id FROM late))
   AND id <> ALL(%(postponed)s::uuid[])
 ORDER BY hashtextextended(id::text, %(order)s) LIMIT %(most)s
"""
_ROWS = """
SELECT DISTINCT deletion_request_id FROM conversations_conversation AS c
 WHERE deletion_request_id IS NOT NULL AND deleted_at IS NULL AND c.{answering}
"""
_FILES = """
SELECT DISTINCT c.deletion_request_id
  FROM conversations_uploadedfile f
  JOIN conversations_conversation c ON c.id = f.conversation_id AND c.chatbot_id = f.chatbot_id
 WHERE f.state = 'removing' AND c.deleted_at IS NOT NULL AND c.{answering}
"""


def erase() -> None:
    """Erase conversations that were marked after their deletion completed, in chunks, and then their files.

    Other chatters' exports with such a conversation, and exports in clients' buckets, are removed when they expire;
    the deletion lists them. Data that cannot be erased now is left to the next call. If there is much of it, this
    call ends before all was tried, and the next call begins with others. Raises PartsFailed after all chatbots.
    """
    with Isolation() as parts:
        for found, erase_some in ((_ROWS, _erase_rows), (_FILES, _erase_files)):
            with parts.part(f"late_data.{erase_some.__name__}"), Isolation() as isolated:
                _erase_late(isolated, found, erase_some)


def _erase_late(isolated: Isolation, found: str, erase_some: _Erase) -> None:
    late = _LATE.format(found=found.format(answering=machines.on_answering()))
    # In another order in each call.
    values = {"order": random.getrandbits(32), "most": _REQUESTS_AT_ONCE}
    postponed: set[UUID] = set()
    end = time.monotonic() + _SECONDS

    def erased(request_ids: list[UUID]) -> set[UUID]:
        """Return the requests that did not fail, and need not wait."""
        try:
            return set(request_ids) - erase_some(request_ids)
        except DatabaseError as error:
            if not machines.has_failed(error):
                raise
            logger.warning("late_data.postponed %s", describe_kind(error))
            return set()

    while not (postponed and time.monotonic() > end):
        chatbots = dict(fetch(late, {**values, "postponed": array(postponed)}))
        if not chatbots:
            return
        for request_ids in by_place(chatbots):
            done = isolated.by_chatbot({one: chatbots[one] for one in request_ids}, erased)
            postponed.update(set(request_ids).difference(*done))


def _erase_rows(request_ids: list[UUID]) -> set[UUID]:
    try:
        # Written again, with the late conversations. A restored machine of Citus can make those of a retention run
        # late.
        written = journal.conclude({**lines.exact(request_ids), **lines.retention(request_ids)})
    except StepFailed as failure:
        logger.warning("late_data.postponed code=%s", failure.code)
        return set(request_ids)
    with transaction.atomic():
        written.confirm()
        counts = rows.erase_marked_chunk(request_ids)
        if not counts:
            return set(request_ids)  # the rest is locked by another transaction
        completion.add_late_counts(counts)
        exports.record_remaining(list(counts))
        chatbots = chatbot_of_each(list(counts))
        log(
            "request.late_data_erased",
            [
                (request_id, chatbots[request_id], {name: count[name] for name in ("conversations", "messages")})
                for request_id, count in counts.items()
            ],
        )
    # The remaining exports have expired: the sweep removes them.
    objects.erase_exports(transaction.atomic, list(counts), at_clients=False)
    return set()


def _erase_files(request_ids: list[UUID]) -> set[UUID]:
    failures = objects.erase_files(transaction.atomic, request_ids, forgets_names=True)
    if failures:
        logger.warning("late_data.postponed requests=%s", ",".join(map(str, failures)))
    return set(failures)
