"""Decide what becomes of each line here.

A conversation is meant if the line names it by its id's digest, since nothing is stored under an erased id. It is
also meant if the line names its chatter, and it was stored when the restore was noticed (`reach`), or is open and
began before the cutoff. A request that has marked in this database keeps its own cutoff: what its chatter said after
that is new.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

from chatbots.models import Chatbot
from common.db import array, execute, fetch
from compliance.ledger import lines as lines_of_ledger
from compliance.ledger.content import Line
from compliance.models import ComplianceRequest, LedgerLine, LineKind
from compliance.redaction import messages
from compliance.replay.loading import ACTOR, declare_ucis
from compliance.retention import due
from conversations.placement import by_place
from conversations.sql import SELECTED_CONVERSATIONS

Kind = ComplianceRequest.Kind
Plan = LedgerLine.Plan
Status = ComplianceRequest.Status

# Lines that one transaction plans and files.
LINES = 500
# Before every request.
FIRST = UUID(int=0)

_OPEN = {Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING, Status.FAILED}

_NEXT = """
SELECT request_id, chatbot_id FROM compliance_ledgerline
 WHERE plan = '' AND outcome = '' AND incarnation = %s AND request_id > %s ORDER BY request_id LIMIT %s
"""
# What this database has of lines whose chatbots live in one place. OFFSET 0 keeps PostgreSQL at one look-up for each.
_READ = f"""
WITH l AS MATERIALIZED (
    SELECT l.request_id, l.kind, l.line, l.chatbot_id, b.slug, b.public_id, b.four_eyes,
           b.max_conversations_per_deletion, make_interval(mins => b.grace_minutes) AS grace,
           (SELECT id FROM chatbots_variable
             WHERE public_id = (l.line->>'variable')::uuid AND chatbot_id = l.chatbot_id) AS variable_id,
           decode(l.line->>'chatter', 'hex') AS uci_digest, l.conversation_digests,
           known.kind AS known_kind, known.status AS known_status,
           known.cutoff_at AS known_cutoff_at, known.cutoff_number AS known_cutoff_number
      FROM (SELECT * FROM compliance_ledgerline WHERE request_id = ANY(%(lines)s::uuid[])) AS l
      LEFT JOIN LATERAL (SELECT * FROM chatbots_chatbot WHERE id = l.chatbot_id) AS b ON TRUE
      LEFT JOIN LATERAL (
           SELECT kind, status, cutoff_at, cutoff_number
             FROM compliance_compliancerequest WHERE id = l.request_id) AS known ON TRUE
), met AS MATERIALIZED (
    SELECT r.*, named.is_any, named.numbers, named.of_others, person.value
      FROM l AS r
      LEFT JOIN LATERAL (
           SELECT count(*) > 0 AS is_any,
                  array_agg(DISTINCT c.id ORDER BY c.id) FILTER (WHERE c.deleted_at IS NULL AND c.is_meant)
                      AS numbers,
                  array_agg(DISTINCT c.id) FILTER (WHERE c.deleted_at IS NULL AND c.is_of_other) AS of_others
             FROM ({SELECTED_CONVERSATIONS}) AS named
            CROSS JOIN LATERAL (
                  SELECT id, deleted_at,
                         named.identity_id IS NULL AND deletion_request_id <> r.request_id AND NOT EXISTS (
                             SELECT FROM conversations_identity i
                              WHERE i.chatbot_id = ANY(%(chatbots)s) AND i.conversation_id = named.conversation_id
                                AND i.variable_id = r.variable_id AND i.digest = r.uci_digest) AS is_of_other,
                         CASE WHEN r.kind IN ('accepted', 'intended') OR named.identity_id IS NULL THEN TRUE
                              ELSE id <= coalesce(r.known_cutoff_number, %(reach)s)
                                   OR (deletion_request_id IS NULL
                                       AND started_at < coalesce(r.known_cutoff_at,
                                                                 (r.line->>'cutoff_at')::timestamptz))
                              END AND (named.identity_id IS NULL OR r.known_status IS DISTINCT FROM 'completed')
                              AS is_meant
                    FROM conversations_conversation
                   WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
           ) AS named ON TRUE
      LEFT JOIN LATERAL (
           SELECT value FROM conversations_identity
            WHERE chatbot_id = r.chatbot_id AND chatbot_id = ANY(%(chatbots)s) AND variable_id = r.variable_id
              AND variable_id > 0 AND digest = r.uci_digest AND value IS NOT NULL LIMIT 1) AS person ON TRUE
)
SELECT l.request_id, l.kind, l.line, l.chatbot_id, l.slug, l.public_id, l.four_eyes,
       l.max_conversations_per_deletion, l.grace, l.variable_id, l.uci_digest, l.conversation_digests[1:100],
       l.known_kind, l.known_status, l.known_cutoff_at,
       l.is_any, l.numbers, l.of_others, l.value,
       EXISTS (SELECT FROM compliance_compliancerequest
                WHERE variable_id = l.variable_id AND uci_digest = l.uci_digest AND kind = 'export'),
       statement_timestamp()
  FROM met AS l
"""  # noqa: S608  (a text of ours)
_STORE = """
UPDATE compliance_ledgerline l
   SET plan = given.plan, numbers = given.numbers, conversations = given.conversations
  FROM jsonb_to_recordset(%s::jsonb)
         AS given(request_id uuid, plan text, numbers bigint[], conversations int)
 WHERE l.request_id = given.request_id
"""


@dataclass
class Planned:
    """A line, what this database has of it, and what becomes of it.

    `numbers` are the conversations that it means, `of_others` those of them that bear another request's mark and are
    named by the ledger alone, `left_out` how many a retention run leaves to an export. Of a redaction, `messages`
    have a row here, `lost_messages` have none.
    """

    request_id: UUID
    kind: LineKind
    line: Line
    chatbot_id: int | None
    slug: str | None
    public_id: UUID | None
    four_eyes: bool
    guard: int
    grace: timedelta
    variable_id: int | None
    uci_digest: bytes | None
    conversation_digests: Sequence[bytes]
    known_kind: str | None
    known_status: str | None
    known_cutoff_at: datetime | None
    names_any: bool
    numbers: list[int]
    of_others: set[int]
    uci_value: str | None
    has_exports: bool
    now: datetime  # the database's
    plan: Plan = Plan.LEAVE
    conversations: int = 0
    messages: list[int] = field(default_factory=list)
    lost_messages: list[bytes] = field(default_factory=list)
    left_out: int = 0
    filed_by: str = ACTOR
    approved_by: str = ""

    @property
    def chatbot(self) -> int:
        """The chatbot of a line that names a known one."""
        return self.chatbot_id or 0

    @property
    def had_begun(self) -> bool:
        """Whether it had marked, past all holds: files may be gone, which no restore brings back."""
        return self.kind == LineKind.INTENDED

    def time(self, name: str) -> datetime:
        return datetime.fromisoformat(self.line[name])

    @property
    def named(self) -> list[bytes] | None:
        """The conversations that the request names by their ids' digests, None for one of a chatter."""
        if self.kind == LineKind.EXACT:
            given = self.line["named"]
            return None if given is None else [bytes.fromhex(one) for one in given]
        return list(self.conversation_digests) or None


def plan_next(*, reach: int, incarnation: UUID, after: UUID = FIRST, most: int = LINES) -> list[Planned]:
    """Plan the next lines, in the order of filing, and store the plans, in the caller's transaction.

    Those up to the request `after` are planned already.
    """
    found = fetch(_NEXT, [incarnation, after, most])
    if not found:
        return []
    # A line of a chatbot that is unknown here is about nothing here, wherever that is looked for.
    chatbot_of = {request_id: chatbot_id or 0 for request_id, chatbot_id in found}
    declare_ucis(list(chatbot_of))
    planned = []
    for lines in by_place(chatbot_of):
        values = {"lines": array(lines), "chatbots": array({chatbot_of[line] for line in lines}), "reach": reach}
        planned += [_read(row) for row in fetch(_READ, values)]
    planned.sort(key=attrgetter("request_id"))
    actors = lines_of_ledger.actors_here(
        name for one in planned for name in (one.line.get("filed_by"), one.line.get("approved_by"))
    )
    for one in planned:
        one.plan = _PLANS[one.kind](one, reach)
        one.conversations = one.conversations or len(one.numbers)
        one.filed_by = actors.get(one.line.get("filed_by")) or ACTOR
        one.approved_by = actors.get(one.line.get("approved_by"), "")
    _store(planned)
    return planned


def leave_next(*, incarnation: UUID, after: UUID) -> list[UUID]:
    """Have the next line wait for a decision, since it cannot be filed; return it."""
    ids = [request_id for request_id, _ in fetch(_NEXT, [incarnation, after, 1])]
    LedgerLine.objects.filter(pk__in=ids).update(plan=Plan.UNFILED, outcome=LedgerLine.Outcome.UNDECIDED)
    return ids


def _read(row: tuple[Any, ...]) -> Planned:
    request_id, kind, line, chatbot_id, slug, public_id, four_eyes, guard, grace, *rest = row
    variable_id, chatter, digests, known_kind, known_status, known_cutoff_at, *rest = rest
    names_any, numbers, of_others, value, has_exports, now = rest
    return Planned(
        request_id=request_id,
        kind=LineKind(kind),
        line=line if isinstance(line, dict) else json.loads(line),
        chatbot_id=chatbot_id,
        slug=slug,
        public_id=public_id,
        four_eyes=bool(four_eyes),
        guard=guard or 0,
        grace=grace or timedelta(),
        variable_id=variable_id,
        uci_digest=bytes(chatter) if chatter is not None else None,
        conversation_digests=[bytes(one) for one in digests],
        known_kind=known_kind,
        known_status=known_status,
        known_cutoff_at=known_cutoff_at,
        names_any=bool(names_any),
        numbers=numbers or [],
        of_others=set(of_others or ()),
        uci_value=value,
        has_exports=bool(has_exports),
        now=now,
    )


def _store(planned: Sequence[Planned]) -> None:
    rows = [
        {
            "request_id": str(one.request_id),
            "plan": one.plan,
            "numbers": one.numbers or None,
            "conversations": one.conversations,
        }
        for one in planned
    ]
    execute(_STORE, [json.dumps(rows)])


def _accepted(one: Planned, _reach: int) -> Plan:
    """A request that was accepted, and maybe begun, but has not ended by what the ledger says."""
    kind = one.line["request_kind"]
    if one.known_status is not None:
        one.numbers = []
        # Whatever holds it here, or has failed it, was over in the life that was lost.
        return Plan.FILE if one.had_begun and one.known_status in _OPEN else Plan.LEAVE
    if one.chatbot_id is None:
        return Plan.UNKNOWN_CHATBOT
    if kind == Kind.EXPORT:
        one.numbers = []
        return Plan.LOST_EXPORT
    return _accepted_redaction(one) if kind == Kind.REDACTION else _accepted_deletion(one)


def _accepted_redaction(one: Planned) -> Plan:
    _find_messages(one)
    is_held = one.four_eyes and not one.had_begun
    if one.messages:
        return Plan.HOLD if is_held else Plan.FILE
    return Plan.LOST_REDACTION if is_held else Plan.REMEMBER


def _accepted_deletion(one: Planned) -> Plan:
    if one.line["variable"] is not None and one.variable_id is None:
        return Plan.UNKNOWN_VARIABLE
    if not one.had_begun and (one.four_eyes or len(one.numbers) > one.guard):
        return Plan.HOLD
    return Plan.FILE if one.names_any or one.has_exports else Plan.COMPLETE


def _withdrawn(one: Planned, _reach: int) -> Plan:
    one.numbers = []
    # What has marked cannot be withdrawn: then this is of another life.
    has_begun = one.known_cutoff_at is not None and one.known_kind != Kind.EXPORT
    return Plan.WITHDRAW if one.known_status in _OPEN and not has_begun else Plan.LEAVE


def _exact(one: Planned, _reach: int) -> Plan:
    if plan := _unusable(one, Kind.DELETION):
        return plan
    if one.line["variable"] is not None and one.variable_id is None and not one.numbers:
        return Plan.UNKNOWN_VARIABLE
    if one.known_status == Status.COMPLETED:
        return Plan.LATE if one.numbers else Plan.LEAVE
    if one.known_status is None and not one.names_any and not one.has_exports:
        return Plan.RECORD
    return Plan.ERASE


def _redacted(one: Planned, _reach: int) -> Plan:
    if plan := _unusable(one, Kind.REDACTION):
        return plan
    found = _find_messages(one)
    if one.known_status == Status.COMPLETED:
        # Of Citus, a machine can have been restored alone.
        one.messages = [number for number in one.messages if number in found.with_text]
        return Plan.REDACT if one.messages else Plan.LEAVE
    has_begun = one.known_status is not None and found.conversation is not None
    return Plan.REDACT if one.messages or has_begun else Plan.REMEMBER


def _retention(one: Planned, _reach: int) -> Plan:
    if plan := _unusable(one, Kind.RETENTION):
        return plan
    if "up_to" in one.line:
        # Lines of the former format do not say what was erased: a person decides whether to erase by age.
        return Plan.HOLD if one.known_status is None else Plan.LEAVE
    slices = (one.numbers[start : start + due.SLICE] for start in range(0, len(one.numbers), due.SLICE))
    kept = {number for some in slices for number in due.left_out(one.chatbot, some)}
    one.numbers, one.left_out = [number for number in one.numbers if number not in kept], len(kept)
    if one.known_status == Status.COMPLETED:
        return Plan.LATE if one.numbers else Plan.LEAVE
    return Plan.RUN if one.known_status is not None or one.conversation_digests else Plan.LEAVE


def _unusable(one: Planned, kind: Kind) -> Plan | None:
    """Return how a line is named that can be about nothing here, or contradicts this database; None for any other."""
    if one.chatbot_id is None:
        return Plan.UNKNOWN_CHATBOT
    if one.known_status in {Status.CANCELLED, Status.REJECTED} or one.known_kind not in {None, kind}:
        one.numbers = []
        return Plan.CONFLICT
    return None


def _find_messages(one: Planned) -> messages.FoundMessages:
    """Find the messages of a redaction by their ids' digests, and note them."""
    conversation = bytes.fromhex(one.line["conversation"])
    wanted = [bytes.fromhex(each) for each in one.line["messages"]]
    found = messages.find(Chatbot.objects.get(pk=one.chatbot), conversation, wanted)
    one.messages = list(found.numbers.values())
    # A conversation that is closed refuses all of its messages.
    one.lost_messages = [] if found.is_closed else [each for each in wanted if each not in found.numbers]
    one.numbers = [found.conversation] if found.conversation and one.messages else []
    return found


_PLANS: Mapping[LineKind, Any] = {
    LineKind.ACCEPTED: _accepted,
    LineKind.INTENDED: _accepted,
    LineKind.WITHDRAWN: _withdrawn,
    LineKind.EXACT: _exact,
    LineKind.REDACTED: _redacted,
    LineKind.RETENTION: _retention,
}
