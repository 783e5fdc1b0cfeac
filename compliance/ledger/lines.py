"""The ledger's lines: request ids, public ids, keyed digests, cutoffs and times. No value; no text but `matter`.

Chatbots and variables have their public ids: a restored database can have given their numbers to others. A variable
has its name and category too, since it can be lost with the database. Digests are in lower-case hex, times in ISO
8601 with their zone. An actor is a key's prefix (`api:...`), a command, or the public id of a member of staff
(`user:...`). Each line lists exactly what it covers.

    accepted      a request was accepted: what it names, and when it is due; again when it is extended or answered
    intended      the same of one that has begun to erase: files of it may be gone
    withdrawn     it was cancelled or rejected
    exact         a deletion's chatter or named conversations, its cutoff, and all conversations that it has erased
    redacted      a redaction's messages, and whether it covers the CSAT comment
    retention     a run, and conversations that it erases: a line for each slice, and one without any at the end
    key_revoked   a key that authenticates nothing any more
    hold          a legal hold as it is now: what it covers, its review, and its release
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.contrib.auth import get_user_model

from chatbots.models import ApiKey
from common import crypto
from common.db import array, fetch
from compliance.ledger.content import Line
from compliance.models import (
    ComplianceRequest,
    LegalHold,
    LegalHoldConversation,
    LineKind,
    Redaction,
    RetentionRun,
)
from compliance.work.scope import IN_SCOPE_WITH
from compliance.work.sql import REQUESTS, digests_of, subjects
from conversations.models import Conversation, Message
from conversations.tombstones import message_digest

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

# The number of a request's digests in a line, at most: the next line has more of them.
CONVERSATIONS_PER_LINE = 10_000

# The members that name an actor.
ACTORS = ("filed_by", "approved_by", "extended_by")
# The members of a hold's line that are named as its fields.
OF_HOLD = ("scope", "matter", "basis", "disclosure", "release_reason")
HOLD_ACTORS = ("placed_by", "reviewed_by", "released_by")
HOLD_TIMES = ("began_from", "began_before", "placed_at", "review_at", "reviewed_at", "released_at")

# As texts, since a claim has hundreds of requests, and a journal thousands: PostgreSQL makes them in a fraction of
# the time that Python takes to.
_DIGESTS = "string_agg(encode(external_id_digest, 'hex'), ' ' ORDER BY id)"
# Conversations in former lines of a replayed request may have no row here: another restore of the same backup must
# find them.
_AND_FORMER = f"""
, former AS MATERIALIZED (
    SELECT l.request_id, unnest(l.conversation_digests) AS external_id_digest
      FROM compliance_ledgerline l JOIN compliance_compliancerequest q ON q.id = l.request_id
     WHERE l.request_id = ANY(%(ids)s::uuid[]) AND (q.origin = 'replay' OR l.kind IN ('exact', 'retention'))
)
SELECT request_id, {_DIGESTS}
  FROM (SELECT request_id, id, external_id_digest FROM present
         UNION ALL SELECT request_id, NULL, external_id_digest FROM former) AS every
 WHERE external_id_digest IS NOT NULL GROUP BY 1
"""  # noqa: S608  (texts of ours)
# All data in the scope of a deletion has been erased, whichever request has marked it.
_IN_SCOPE = f"""
{REQUESTS}, present AS MATERIALIZED (
    SELECT r.id AS request_id, s.*
      FROM r CROSS JOIN LATERAL ({IN_SCOPE_WITH.format(columns="c.id, c.external_id_digest")}) AS s
)
{_AND_FORMER}
"""  # noqa: S608
_MARKED = f"""
WITH present AS MATERIALIZED (
    SELECT deletion_request_id AS request_id, id, external_id_digest
      FROM conversations_conversation
     WHERE deletion_request_id = ANY(%(ids)s::uuid[]) AND chatbot_id = ANY(%(chatbots)s)
)
{_AND_FORMER}
"""  # noqa: S608
_NUMBERED = f"""
SELECT {_DIGESTS} FROM conversations_conversation
 WHERE id = ANY(%(numbers)s::bigint[]) AND chatbot_id = %(chatbot)s AND external_id_digest IS NOT NULL
"""  # noqa: S608
_TIME = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""
_REQUESTS = f"""
SELECT r.id, r.kind, r.status, r.kind <> 'export' AND coalesce(r.started_at, r.cutoff_at) IS NOT NULL,
       json_build_object(
           'request', r.id, 'chatbot', b.public_id, 'received_at', {_TIME.format("r.received_at")},
           'requested_at', {_TIME.format("r.requested_at")}, 'due_at', {_TIME.format("r.due_at")},
           'deadline', r.deadline, 'extended_at', {_TIME.format("r.extended_at")}, 'extended_by', r.extended_by,
           'extension_reason', r.extension_reason, 'answered_at', {_TIME.format("r.answered_at")},
           'filed_by', r.filed_by, 'approved_by', r.approved_by)::text,
       json_build_object(
           'variable', v.public_id, 'variable_name', v.name, 'variable_category', v.category,
           'chatter', nullif(encode(r.uci_digest, 'hex'), ''), 'erase_exports', r.erase_exports)::text,
       {digests_of("r")}, {_TIME.format("r.cutoff_at")}, {_TIME.format("coalesce(r.cancelled_at, r.rejected_at)")},
       r.withholds, r.withheld, r.continues_id::text
  FROM compliance_compliancerequest r
  JOIN LATERAL (SELECT public_id FROM chatbots_chatbot WHERE id = r.chatbot_id) AS b ON TRUE
  LEFT JOIN LATERAL (SELECT public_id, name, category FROM chatbots_variable WHERE id = r.variable_id) AS v ON TRUE
 WHERE r.id = ANY(%s) ORDER BY r.seq
"""  # noqa: S608
_FORMER_REDACTIONS = """
SELECT l.request_id, l.line->>'conversation', ARRAY(SELECT jsonb_array_elements_text(l.line->'messages')),
       (l.line->>'csat_comment')::boolean, l.line->>'reason'
  FROM compliance_ledgerline l JOIN compliance_compliancerequest r ON r.id = l.request_id
 WHERE l.request_id = ANY(%s) AND r.kind = 'redaction' AND (r.origin = 'replay' OR l.kind = 'redacted')
"""


class _Row(NamedTuple):
    """A request. `filed` and `named` are parts of its lines; `conversations` are digests of its conversations."""

    id: UUID
    kind: str
    status: str
    has_begun: bool
    filed: Line
    named: Line
    conversations: list[bytes] | None
    cutoff_at: str | None
    withdrawn_at: str | None
    withholds: bool
    withheld: int
    continues: str | None


def accepted(request_ids: Collection[UUID]) -> list[Line]:
    """Return a line for each of these requests, `accepted` or `intended`, in the order of filing."""
    rows = _rows(request_ids)
    redactions = _redactions([row.id for row in rows if row.kind == Kind.REDACTION])
    return [
        {
            "kind": str(LineKind.INTENDED if row.has_begun else LineKind.ACCEPTED),
            **row.filed,
            **row.named,
            "request_kind": row.kind,
            "conversations": _hex(row.conversations),
            **({"continues": row.continues} if row.continues else {}),
            **redactions.get(row.id, {}),
        }
        for row in rows
    ]


def withdrawn(request_ids: Collection[UUID]) -> list[Line]:
    return [
        {
            "kind": str(LineKind.WITHDRAWN),
            "request": row.filed["request"],
            "chatbot": row.filed["chatbot"],
            "status": row.status,
            "at": row.withdrawn_at,
            "answered_at": row.filed["answered_at"],
            **({"continues": row.continues} if row.continues else {}),
        }
        for row in _rows(request_ids)
    ]


def exact(request_ids: Collection[UUID]) -> dict[UUID, list[Line]]:
    """Return the lines of these deletions, in the order of filing, with the conversations in their scope.

    For a replayed deletion also with those in its former lines.
    """
    digests = dict(fetch(_IN_SCOPE, subjects(request_ids))) if request_ids else {}
    found: dict[UUID, list[Line]] = {}
    for row in _rows(request_ids):
        about = {**row.filed, **row.named, "named": _hex(row.conversations), "cutoff_at": row.cutoff_at}
        if row.withholds:
            about |= {"withholds": True, "withheld": row.withheld}
        found[row.id] = _split_lines(LineKind.EXACT, about, digests.get(row.id))
    return found


def retention(request_ids: Collection[UUID], digests: Mapping[UUID, str] | None = None) -> dict[UUID, list[Line]]:
    """Return the lines of these retention runs, with digests of conversations that they erase.

    Without `digests` the lines have none: then earlier lines have them.
    """
    runs = {run.request_id: run for run in RetentionRun.objects.filter(request__in=request_ids)}
    found: dict[UUID, list[Line]] = {}
    for row in _rows([one for one in request_ids if one in runs]):
        run = runs[row.id]
        about = {
            **row.filed,
            "older_than": run.older_than.isoformat(),
            "day": run.day.isoformat(),
            "retention_days": run.retention_days,
            "announced": run.announced,
            "previous_days": run.previous_days,
        }
        found[row.id] = _split_lines(LineKind.RETENTION, about, (digests or {}).get(row.id))
    return found


def retention_slice(request_id: UUID, *, chatbot_id: int, numbers: Collection[int]) -> dict[UUID, list[Line]]:
    """Return the lines of a retention run that is about to erase the conversations with these numbers."""
    [(digests,)] = fetch(_NUMBERED, {"chatbot": chatbot_id, "numbers": array(numbers)})
    return retention([request_id], {request_id: digests})


def redacted(request_ids: Collection[UUID]) -> dict[UUID, list[Line]]:
    """Return the lines of these redactions: the conversation and its messages, by digests of their ids, and whether
    they cover the CSAT comment.

    Without those that a deletion has erased meanwhile: its own line has the conversation.
    """
    redactions = _redactions(request_ids)
    return {
        row.id: [
            {
                "kind": str(LineKind.REDACTED),
                **row.filed,
                **row.named,
                "cutoff_at": row.cutoff_at,
                **redactions[row.id],
            }
        ]
        for row in _rows(redactions)
    }


def revoked(prefixes: Collection[str]) -> list[Line]:
    keys = ApiKey.objects.filter(prefix__in=prefixes).order_by("pk")
    return [
        {
            "kind": str(LineKind.KEY_REVOKED),
            "chatbot": str(chatbot),
            "key": prefix,
            "revoked_at": at and at.isoformat(),
        }
        for chatbot, prefix, at in keys.values_list("chatbot__public_id", "prefix", "revoked_at")
    ]


def held(ids: Collection[UUID]) -> list[Line]:
    """Return a line for each legal hold among these ids, as it is now."""
    holds = LegalHold.objects.filter(pk__in=ids).select_related("chatbot", "variable").order_by("pk")
    staff = _staff_ids(name for hold in holds for name in (hold.placed_by, hold.reviewed_by, hold.released_by))
    digests: dict[UUID, list[str]] = defaultdict(list)
    for hold_id, digest in (
        LegalHoldConversation.objects.filter(hold__in=ids).order_by("pk").values_list("hold_id", "digest")
    ):
        digests[hold_id].append(bytes(digest).hex())
    return [
        {
            "kind": str(LineKind.HOLD),
            "hold": str(hold.pk),
            "chatbot": str(hold.chatbot.public_id),
            "variable": hold.variable and str(hold.variable.public_id),
            "variable_name": hold.variable and hold.variable.name,
            "variable_category": hold.variable and hold.variable.category,
            "chatter": bytes(hold.uci_digest).hex() if hold.uci_digest else None,
            "conversations": digests[hold.pk],
            **{name: getattr(hold, name) for name in OF_HOLD},
            **{name: staff.get(getattr(hold, name), getattr(hold, name)) for name in HOLD_ACTORS},
            **{name: at and at.isoformat() for name in HOLD_TIMES for at in [getattr(hold, name)]},
        }
        for hold in holds
    ]


def current(request_ids: Collection[UUID], prefixes: Collection[str]) -> list[Line]:
    """Return the present lines of an object about these requests and keys, instead of its former ones."""
    of_kind: dict[str, list[UUID]] = defaultdict(list)
    for row in _rows(request_ids):
        if row.status in {Status.CANCELLED, Status.REJECTED}:
            of_kind["withdrawn"].append(row.id)
        elif row.kind == Kind.RETENTION or (row.status == Status.COMPLETED and row.kind != Kind.EXPORT):
            of_kind[row.kind].append(row.id)
        else:
            of_kind["accepted"].append(row.id)
    runs = of_kind[Kind.RETENTION]
    marked = dict(fetch(_MARKED, subjects(runs))) if runs else {}
    by_request = exact(of_kind[Kind.DELETION]) | redacted(of_kind[Kind.REDACTION]) | retention(runs, marked)
    return [
        *accepted(of_kind["accepted"]),
        *withdrawn(of_kind["withdrawn"]),
        *(line for lines in by_request.values() for line in lines),
        *held(request_ids),
        *revoked(prefixes),
    ]


def staff_id(number: int, joined_at: datetime) -> str:
    """Return the public id of a member of staff. A user who gets the number after a restore has another id."""
    return crypto.digest("staff", number, joined_at.isoformat()).hex()[:32]


def known_actors(names: Iterable[str | None]) -> dict[str | None, str]:
    """Return the names of the lines' actors in this database, without staff who are no longer in it."""
    wanted = {name for name in names if name}
    found: dict[str | None, str] = {name: name for name in wanted if not name.startswith("user:")}
    if len(found) < len(wanted):
        staff = get_user_model().objects.filter(is_staff=True).values_list("pk", "date_joined")
        found |= {f"user:{staff_id(pk, at)}": f"user:{pk}" for pk, at in staff}
    return found


def _rows(request_ids: Collection[UUID]) -> list[_Row]:
    found = fetch(_REQUESTS, [array(request_ids)]) if request_ids else []
    # Each column is parsed at once: in parts, that takes three times as long.
    filed, named = (json.loads(f"[{','.join(row[place] for row in found)}]") for place in (4, 5))
    rows = [_Row._make([*row[:4], *parts, *row[6:]]) for row, *parts in zip(found, filed, named, strict=True)]
    acted = [(row.filed, name) for row in rows for name in ACTORS]
    staff = _staff_ids(filed[name] for filed, name in acted)
    for filed, name in acted if staff else ():
        filed[name] = staff.get(filed[name], filed[name])
    return rows


def _staff_ids(actors: Iterable[str]) -> dict[str, str]:
    """Return the members of staff among these actors, each with the name of the lines."""
    staff = {actor for actor in actors if actor.startswith("user:")}
    if not staff:
        return {}
    users = get_user_model().objects.filter(pk__in=[int(actor.removeprefix("user:")) for actor in staff])
    return {f"user:{pk}": f"user:{staff_id(pk, at)}" for pk, at in users.values_list("pk", "date_joined")}


def _split_lines(kind: LineKind, about: Line, digests: str | None) -> list[Line]:
    """Return the line with these conversations, as several where they are many."""
    conversations = list(dict.fromkeys((digests or "").split()))
    return [
        {"kind": str(kind), **about, "conversations": conversations[start : start + CONVERSATIONS_PER_LINE]}
        for start in range(0, max(len(conversations), 1), CONVERSATIONS_PER_LINE)
    ]


def _redactions(request_ids: Collection[UUID]) -> dict[UUID, Line]:
    """Return the conversation and the messages of each redaction among these requests.

    A deletion may have erased a message since: the request's own digests name it, or a replayed one's former lines.
    """
    if not request_ids:
        return {}
    found: dict[UUID, Line] = {
        request_id: {"conversation": conversation, "messages": messages, "csat_comment": comment, "reason": reason}
        for request_id, conversation, messages, comment, reason in fetch(_FORMER_REDACTIONS, [array(request_ids)])
    }
    for redaction in Redaction.objects.filter(request__in=request_ids).select_related("chatbot", "request"):
        chatbot, number = redaction.chatbot, redaction.conversation_id
        messages = Message.objects.filter(chatbot=chatbot, conversation=number, pk__in=redaction.message_numbers)
        conversations = Conversation.objects.filter(chatbot=chatbot, pk=number)
        conversation = bytes(conversations.values_list("external_id_digest", flat=True).first() or b"")
        digests = [bytes(digest).hex() for digest in redaction.request.message_digests or ()]
        digests += (
            message_digest(chatbot.public_id, conversation, external_id).hex()
            for external_id in messages.order_by("pk").values_list("external_id", flat=True)
        )
        former = found.get(redaction.request_id, {"conversation": "", "messages": []})
        found[redaction.request_id] = {
            "conversation": conversation.hex() or former["conversation"],
            "messages": list(dict.fromkeys([*digests, *former["messages"]])),
            "csat_comment": redaction.csat_comment,
            "reason": redaction.reason,
        }
    return found


def _hex(digests: Sequence[bytes] | None) -> list[str] | None:
    return None if digests is None else [each.hex() for each in digests]
