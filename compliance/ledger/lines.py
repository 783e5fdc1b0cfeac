"""What the ledger's lines say: request ids, public ids, keyed digests, cutoffs and times. No value and no text.

Chatbots and variables have their public ids: a restored database can have given their numbers to others. Digests are
in lower-case hex, times in ISO 8601 with their zone.

    accepted      a request was accepted: what it names, and when it is due
    intended      the same, written by the worker that is about to carry it out
    withdrawn     it was cancelled or rejected
    exact         a deletion's chatter or named conversations, its cutoff, and all conversations that it has marked
    redacted      a redaction's messages
    retention     a run's chatbot, age and last number
    key_revoked   a key that authenticates nothing any more
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from common import crypto
from common.db import array, fetch
from compliance.ledger.content import Line
from compliance.models import ComplianceRequest, LineKind, Redaction, RetentionRun
from compliance.work.sql import subjects
from conversations.models import Conversation, Message

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status


# Of a deletion, at most so many in a line: the next line has more of them.
CONVERSATIONS_PER_LINE = 10_000

# As texts, since a claim has hundreds of requests, and a journal thousands: PostgreSQL makes them in a fraction of
# the time that Python takes to.
_CONVERSATIONS = """
SELECT ours.id, marked.digests
  FROM unnest(%(ids)s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT string_agg(encode(external_id_digest, 'hex'), ' ' ORDER BY id) AS digests
         FROM conversations_conversation
        WHERE deletion_request_id = ours.id AND chatbot_id = ANY(%(chatbots)s)
          AND external_id_digest IS NOT NULL) AS marked
 WHERE marked.digests IS NOT NULL
"""
_TIME = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""
_REQUESTS = f"""
SELECT r.id, r.kind, r.status, (SELECT public_id::text FROM chatbots_chatbot WHERE id = r.chatbot_id),
       (SELECT public_id::text FROM chatbots_variable WHERE id = r.variable_id),
       encode(r.uci_digest, 'hex'), r.conversation_digests, r.erase_exports, {_TIME.format("r.received_at")},
       {_TIME.format("r.due_at")}, {_TIME.format("r.cutoff_at")},
       {_TIME.format("coalesce(r.cancelled_at, r.rejected_at)")}
  FROM compliance_compliancerequest r
 WHERE r.id = ANY(%s) ORDER BY r.seq
"""  # noqa: S608  (texts of ours)
_KEYS = """
SELECT (SELECT public_id FROM chatbots_chatbot WHERE id = k.chatbot_id), k.prefix, k.revoked_at
  FROM chatbots_apikey k WHERE k.prefix = ANY(%s) AND k.revoked_at IS NOT NULL ORDER BY k.id
"""


def accepted(request_ids: Collection[UUID], kind: LineKind = LineKind.ACCEPTED) -> list[Line]:
    """Return a line for each of these requests, `accepted` or `intended`, in the order of filing."""
    rows = _rows(request_ids)
    redactions = _redactions([row[0] for row in rows if row[1] == Kind.REDACTION])
    return [
        {
            "kind": str(kind),
            **_named(row),
            "request_kind": row[1],
            "conversations": _hex(row[6]),
            **redactions.get(row[0], {}),
        }
        for row in rows
    ]


def withdrawn(request_ids: Collection[UUID]) -> list[Line]:
    return [
        {
            "kind": str(LineKind.WITHDRAWN),
            "request": str(row[0]),
            "chatbot": row[3],
            "status": row[2],
            "at": row[11],
        }
        for row in _rows(request_ids)
    ]


def exact(request_ids: Sequence[UUID]) -> dict[UUID, list[Line]]:
    """Return the lines of these deletions, in the order of filing.

    Conversations are those with the deletion's mark, and those that it named by id: others may have marked them.
    """
    digests = dict(fetch(_CONVERSATIONS, subjects(request_ids)))
    found: dict[UUID, list[Line]] = {}
    for row in _rows(request_ids):
        named = _hex(row[6])
        every = list(dict.fromkeys([*digests.get(row[0], "").split(), *(named or ())]))
        line = {"kind": str(LineKind.EXACT), **_named(row), "named": named, "cutoff_at": row[10]}
        found[row[0]] = [
            {**line, "conversations": every[start : start + CONVERSATIONS_PER_LINE]}
            for start in range(0, max(len(every), 1), CONVERSATIONS_PER_LINE)
        ]
    return found


def retention(request_ids: Collection[UUID]) -> dict[UUID, list[Line]]:
    """Return the lines of these retention runs: the age, and the last number that was examined, say what was due.

    Before a run has examined anything, the last number that it will examine.
    """
    runs = RetentionRun.objects.filter(request__in=request_ids).select_related("chatbot", "request")
    return {
        cast("UUID", run.request_id): [
            {
                "kind": str(LineKind.RETENTION),
                "request": str(run.request_id),
                "chatbot": str(run.chatbot.public_id),
                "older_than": run.older_than.isoformat(),
                "up_to": run.examined_number or cast("ComplianceRequest", run.request).cutoff_number,
                "day": run.day.isoformat(),
                "retention_days": run.retention_days,
                "received_at": _time(cast("ComplianceRequest", run.request).received_at),
                "due_at": _time(cast("ComplianceRequest", run.request).due_at),
            }
        ]
        for run in runs
    }


def redacted(request_ids: Collection[UUID]) -> dict[UUID, list[Line]]:
    """Return the lines of these redactions: the conversation and its messages, by digests of their ids.

    Without those that a deletion has erased meanwhile: its own line names the conversation.
    """
    redactions = _redactions(request_ids)
    return {
        row[0]: [{"kind": str(LineKind.REDACTED), **_named(row), "cutoff_at": row[10], **redactions[row[0]]}]
        for row in _rows(redactions)
    }


def revoked(prefixes: Collection[str]) -> list[Line]:
    return [
        {"kind": str(LineKind.KEY_REVOKED), "chatbot": str(chatbot), "key": prefix, "revoked_at": _time(revoked_at)}
        for chatbot, prefix, revoked_at in (fetch(_KEYS, [list(prefixes)]) if prefixes else ())
    ]


def current(request_ids: Collection[UUID], prefixes: Collection[str]) -> list[Line]:
    """Return what an object about these requests and keys says today, whatever it said when it was written."""
    of_kind: dict[str, list[UUID]] = defaultdict(list)
    for request_id, kind, status, *_ in _rows(request_ids):
        if status in {Status.CANCELLED, Status.REJECTED}:
            of_kind["withdrawn"].append(request_id)
        elif kind == Kind.RETENTION:
            of_kind["retention"].append(request_id)
        elif status == Status.COMPLETED and kind in {Kind.DELETION, Kind.REDACTION}:
            of_kind[kind].append(request_id)
        else:
            of_kind["accepted"].append(request_id)
    by_request = {
        **exact(of_kind[Kind.DELETION]),
        **redacted(of_kind[Kind.REDACTION]),
        **retention(of_kind["retention"]),
    }
    return [
        *accepted(of_kind["accepted"]),
        *withdrawn(of_kind["withdrawn"]),
        *(line for lines in by_request.values() for line in lines),
        *revoked(prefixes),
    ]


def _rows(request_ids: Collection[UUID]) -> list[tuple[Any, ...]]:
    return fetch(_REQUESTS, [array(request_ids)]) if request_ids else []


def _named(row: tuple[Any, ...]) -> Line:
    request_id, _, _, chatbot, variable, chatter, _, erase_exports, received_at, due_at, *_ = row
    return {
        "request": str(request_id),
        "chatbot": chatbot,
        "variable": variable,
        "chatter": chatter or None,
        "erase_exports": erase_exports,
        "received_at": received_at,
        "due_at": due_at,
    }


def _redactions(request_ids: Collection[UUID]) -> dict[UUID, Line]:
    """Return the conversation and the messages of those of these requests that are redactions."""
    found: dict[UUID, Line] = {}
    for redaction in Redaction.objects.filter(request__in=request_ids).select_related("chatbot"):
        chatbot = redaction.chatbot
        messages = Message.objects.filter(
            chatbot=chatbot, conversation=redaction.conversation_id, pk__in=redaction.message_numbers
        )
        conversations = Conversation.objects.filter(chatbot=chatbot, pk=redaction.conversation_id)
        conversation = bytes(conversations.values_list("external_id_digest", flat=True).first() or b"").hex()
        found[redaction.request_id] = {
            "conversation": conversation,
            "messages": [
                message_digest(chatbot.public_id, conversation, external_id)
                for external_id in messages.order_by("pk").values_list("external_id", flat=True)
            ],
            "reason": redaction.reason,
        }
    return found


def message_digest(chatbot: UUID, conversation: str, external_id: str) -> str:
    """Return the digest by which lines name a message of a conversation, of which the digest is given, in hex."""
    return crypto.digest("message", chatbot, f"{conversation}:{external_id}").hex()


def _hex(digests: Sequence[bytes] | None) -> list[str] | None:
    return None if digests is None else [bytes(each).hex() for each in digests]


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
