"""Carry plans into the database: requests written again under their ids, and their conversations closed.

All of it in the transaction that plans. What is closed is exactly what the plan names, and stays hidden from then on,
whenever it is erased. The ledger has these requests already, so the journal forgets them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection
from psycopg import sql

from chatbots import changelog
from chatbots.models import Chatbot
from common.db import array, as_json, execute
from compliance.erasure import exports, marking
from compliance.models import ComplianceRequest, JournalEntry, LedgerLine, LineKind, Redaction, RetentionRun
from compliance.redaction import messages
from compliance.replay.loading import ACTOR
from compliance.replay.planning import Plan, Planned
from compliance.requests import insert
from compliance.retention import policy
from compliance.work.outbox import announce
from compliance.work.scope import REDACTIONS
from conversations.placement import by_place

HoldReason = ComplianceRequest.HoldReason
Kind = ComplianceRequest.Kind
Outcome = LedgerLine.Outcome
Status = ComplianceRequest.Status

OUTCOMES: Mapping[Plan, Outcome] = {
    Plan.ERASE: Outcome.FILED,
    Plan.LATE: Outcome.FILED,
    Plan.REDACT: Outcome.FILED,
    Plan.RUN: Outcome.FILED,
    Plan.RECORD: Outcome.NOTHING_FOUND,
    Plan.FILE: Outcome.FILED_AGAIN,
    Plan.HOLD: Outcome.ON_HOLD,
    Plan.COMPLETE: Outcome.NOTHING_FOUND,
    Plan.WITHDRAW: Outcome.WITHDRAWN,
    Plan.LEAVE: Outcome.UNCHANGED,
    Plan.LOST_EXPORT: Outcome.LOST_EXPORT,
    Plan.REMEMBER: Outcome.NOTHING_FOUND,
    Plan.LOST_REDACTION: Outcome.LOST_REDACTION,
    Plan.UNKNOWN_CHATBOT: Outcome.UNKNOWN_CHATBOT,
    Plan.UNKNOWN_VARIABLE: Outcome.UNDECIDED,
    Plan.CONFLICT: Outcome.UNDECIDED,
    Plan.UNFILED: Outcome.UNDECIDED,
}

# Not what waits for a decision.
_REMEMBERED = {Plan.ERASE, Plan.LATE, Plan.RECORD, Plan.COMPLETE, Plan.RUN}

# A conversation keeps its mark, unless the ledger alone leads the request to it. In the order of the numbers, each
# for the first request that means it.
_MARK = """
UPDATE conversations_conversation c SET deletion_request_id = given.request_id
  FROM (SELECT DISTINCT ON (number) number, request_id, takes
          FROM unnest(%(numbers)s::bigint[], %(requests)s::uuid[], %(takes)s::bool[])
               WITH ORDINALITY AS each(number, request_id, takes, place)
         ORDER BY number, NOT takes, place) AS given
 WHERE c.id = given.number AND c.chatbot_id = ANY(%(chatbots)s::bigint[]) AND c.deleted_at IS NULL
   AND (c.deletion_request_id IS NULL OR given.takes)
"""
# The columns of a request that is written again which may differ from their defaults.
_WRITTEN = (
    *("id", "chatbot_id", "kind", "origin", "filed_by", "approved_by", "approved_holds", "variable_id", "uci_value"),
    *("uci_digest", "named_conversations", "erase_exports", "received_at", "requested_at"),
    *("due_at", "status", "hold_reason"),
    *("held_at", "not_before", "started_at", "cutoff_at", "cutoff_number", "completed_at", "result", "lane", "slice"),
)
_DROP_JOURNAL = "DELETE FROM compliance_journalentry WHERE request_id = ANY(%s::uuid[]) AND kind = %s"
_OUTCOME = """
UPDATE compliance_ledgerline l SET outcome = given.outcome
  FROM unnest(%s::uuid[], %s::text[]) AS given(request_id, outcome) WHERE l.request_id = given.request_id
"""


def file(planned: Sequence[Planned], *, reach: int) -> None:
    """File what was planned, in the caller's transaction, which has planned it."""
    known = _lock_known(planned)
    filed: list[ComplianceRequest] = []
    entries: list[changelog.Entry] = []
    for one in planned:
        do = _FILE.get(one.plan)
        if do:
            request = do(one, known.get(one.request_id), reach)
            filed.append(request)
            entries.append(_entry(one, request))
    _insert([request for request in filed if request._state.adding])
    insert.store_subjects(filed)
    _add_what_they_name(planned, reach)
    settle({one.request_id: OUTCOMES[one.plan] for one in planned})
    _mark([one for one in planned if one.plan in {Plan.ERASE, Plan.LATE, Plan.RUN}])
    for together in by_place({one.request_id: one.chatbot for one in planned if one.plan == Plan.ERASE}):
        exports.expire_marked(together)
    _remember(planned)
    announce([one.request_id for one in planned if _ends_here(one)])
    changelog.record_all(entries)
    execute(_DROP_JOURNAL, [array(one.request_id for one in planned), JournalEntry.Kind.ACCEPTED])
    withdrawn = array(one.request_id for one in planned if one.plan == Plan.WITHDRAW)
    execute(_DROP_JOURNAL, [withdrawn, JournalEntry.Kind.WITHDRAWN])


def _ends_here(one: Planned) -> bool:
    """Return whether a request that is not carried out again reaches a state of which nobody was told yet.

    What the ledger says was erased or redacted was announced in the life that was lost, unless it was open there.
    """
    if one.plan == Plan.REMEMBER:
        return one.known_status is not None or one.kind != LineKind.REDACTED
    return one.plan in {Plan.HOLD, Plan.COMPLETE}


def _insert(requests: Sequence[ComplianceRequest]) -> None:
    """Insert requests in this order. By one parameter: there can be very many, with very many columns."""
    if requests:
        rows = [
            {"place": place} | {name: as_json(getattr(one, name)) for name in _WRITTEN}
            for place, one in enumerate(requests)
        ]
        execute(_insert_statement(), [json.dumps(rows, default=str)])


@cache
def _insert_statement() -> str:
    fields = {field.attname: field for field in ComplianceRequest._meta.concrete_fields}
    types = ", ".join(f"{name} {fields[name].db_type(connection)}" for name in _WRITTEN)
    defaults = {
        name: sql.Literal(field.get_db_prep_save(field.get_default(), connection)).as_string()
        for name, field in fields.items()
        if not field.has_db_default() and name not in _WRITTEN
    }
    return f"""
INSERT INTO compliance_compliancerequest ({", ".join([*_WRITTEN, *defaults])})
SELECT {", ".join([*_WRITTEN, *defaults.values()])}
  FROM jsonb_to_recordset(%s::jsonb) AS given(place int, {types}) ORDER BY place
"""  # noqa: S608  (names and defaults of columns)


def settle(outcomes: Mapping[UUID, Outcome]) -> None:
    execute(_OUTCOME, [array(outcomes), [str(one) for one in outcomes.values()]])


def _lock_known(planned: Iterable[Planned]) -> dict[UUID, ComplianceRequest]:
    ids = [one.request_id for one in planned if one.known_status is not None and one.plan in _FILE]
    found = ComplianceRequest.objects.select_for_update(of=("self",)).filter(pk__in=ids).order_by("seq")
    return {request.pk: request for request in found}


def _made(one: Planned, kind: Kind, **fields: Any) -> ComplianceRequest:
    """Return a request, unsaved, under its old id and with its old times."""
    return ComplianceRequest(
        **{
            "id": one.request_id,
            "chatbot_id": one.chatbot,
            "kind": kind,
            "origin": ComplianceRequest.Origin.REPLAY,
            "filed_by": one.filed_by,
            "approved_by": one.approved_by,
            "received_at": one.time("received_at"),
            "requested_at": one.time("requested_at") if one.line.get("requested_at") else None,
            "due_at": one.time("due_at"),
        }
        | fields
    )


def _subject(one: Planned) -> dict[str, Any]:
    if one.line["variable"] is None:
        return {"conversation_digests": one.named}
    if one.variable_id is None:
        # Conversations that the line names are here, but its variable is not.
        return {"conversation_digests": list(one.conversation_digests)}
    return {"variable_id": one.variable_id, "uci_digest": one.uci_digest}


def _begin_again(one: Planned, request: ComplianceRequest) -> ComplianceRequest:
    """Save a request that this database has as one that goes on."""
    if request.selector == ComplianceRequest.Selector.CONVERSATIONS and request.named_conversations is None:
        request.conversation_digests = one.named  # forgotten, since nothing of them was left
    if request.status == Status.COMPLETED:
        request.messages = 0  # a redaction counts them again
    request.approved_by = request.approved_by or one.approved_by
    request.origin = ComplianceRequest.Origin.REPLAY
    request.status, request.hold_reason = Status.ACCEPTED, None
    request.completed_at = request.result = None
    request.not_before = request.failed_at = request.waiting_for = request.claim = None
    request.attempts, request.error_code, request.error_detail = 0, "", ""
    request.save()
    return request


def _erase(one: Planned, known: ComplianceRequest | None, reach: int) -> ComplianceRequest:
    cutoff_at = one.time("cutoff_at")
    if known is None:
        return _made(
            one,
            Kind.DELETION,
            **_subject(one),
            uci_value=one.uci_value,
            erase_exports=one.line["erase_exports"],
            started_at=cutoff_at,
            cutoff_at=cutoff_at,
            cutoff_number=reach,
        )
    if known.cutoff_at is None:
        known.cutoff_at, known.cutoff_number = cutoff_at, reach
        known.started_at = known.started_at or cutoff_at
    if known.variable_id is not None:
        known.uci_digest = one.uci_digest
    known.lane = ComplianceRequest.Lane.NORMAL
    return _begin_again(one, known)


def _record(one: Planned, known: ComplianceRequest | None, reach: int) -> ComplianceRequest:
    """A deletion or redaction that finds nothing. What is sent of it later is refused, as after any other."""
    # Completed when it was erased: its digests are kept from then on.
    at = one.time("cutoff_at") if one.kind in {LineKind.EXACT, LineKind.REDACTED} else one.now
    found_nothing = {
        "status": Status.COMPLETED,
        "result": ComplianceRequest.Result.NOTHING_FOUND,
        **dict.fromkeys(("completed_at", "started_at", "cutoff_at"), at),
    }
    if one.plan == Plan.REMEMBER:
        request = known or _made(one, Kind.REDACTION)
        ended = found_nothing | dict.fromkeys(("hold_reason", "failed_at", "claim", "waiting_for"))
        for name, value in (ended | {"error_code": "", "error_detail": ""}).items():
            setattr(request, name, value)
        if known:
            request.save()
            exports.leave([request.pk], of=REDACTIONS)
        return request
    options = {"erase_exports": one.line["erase_exports"], "cutoff_number": reach}
    return _made(one, Kind.DELETION, **_subject(one), **options, **found_nothing)


def _again(one: Planned, known: ComplianceRequest | None, _reach: int) -> ComplianceRequest:
    """A request that was accepted, to be decided on or carried out as any other."""
    # Nobody has approved it in this life, unless a worker had begun it. Then nobody decides on it any more; but an
    # export that was filed before it is still delivered first.
    state: dict[str, Any] = {"approved_by": ""}
    if one.had_begun:
        holds = [each for each in HoldReason if each != HoldReason.EXPORT_PENDING]
        if known:
            known.approved_holds = list({*known.approved_holds, *holds})
            known.started_at = known.started_at or one.now
            return _begin_again(one, known)
        state = {"approved_by": one.approved_by, "approved_holds": holds, "started_at": one.now}
    if one.plan == Plan.HOLD:
        state |= {"status": Status.ON_HOLD, "hold_reason": HoldReason.RESTORED, "held_at": one.now}
    if one.kind == LineKind.RETENTION:
        return _made(one, Kind.RETENTION, lane=ComplianceRequest.Lane.LARGE, **state)
    if one.line["request_kind"] == Kind.REDACTION:
        return _made(one, Kind.REDACTION, **state)
    if one.kind == LineKind.ACCEPTED and one.grace:
        # No worker had taken it. Nobody could cancel it while the service was closed.
        state["not_before"] = one.now + one.grace
    options = {"uci_value": one.uci_value, "erase_exports": one.line["erase_exports"]}
    return _made(one, Kind.DELETION, **_subject(one), **options, **state)


def _redact(one: Planned, known: ComplianceRequest | None, _reach: int) -> ComplianceRequest:
    # It was approved, where that was needed: it has redacted.
    approved = [str(HoldReason.AWAITING_APPROVAL)]
    if known is None:
        return _made(one, Kind.REDACTION, approved_holds=approved)
    known.approved_holds = list({*known.approved_holds, *approved})
    if known.status == Status.COMPLETED:
        known.cutoff_at = None  # what has a text again is emptied, and what was made of it since goes
    return _begin_again(one, known)


def _run(one: Planned, known: ComplianceRequest | None, reach: int) -> ComplianceRequest:
    begun = {"cutoff_at": one.now, "cutoff_number": reach, "started_at": one.now, "slice": []}
    large = ComplianceRequest.Lane.LARGE
    if known is None:
        return _made(one, Kind.RETENTION, lane=large, **begun)
    if known.cutoff_at is None:
        for name, value in begun.items():
            setattr(known, name, value)
    known.lane = large
    return _begin_again(one, known)


def _withdraw(one: Planned, known: ComplianceRequest | None, _reach: int) -> ComplianceRequest:
    at = one.time("at")
    known = known or _made(one, Kind.DELETION)
    known.status, known.hold_reason, known.uci_value, known.callback_url = one.line["status"], None, None, ""
    known.failed_at = known.claim = None
    known.cancelled_at, known.rejected_at = (at, None) if known.status == Status.CANCELLED else (None, at)
    known.save()
    if known.kind == Kind.RETENTION:
        policy.set_back(known, actor=ACTOR)
    return known


_FILE: Mapping[Plan, Callable[[Planned, ComplianceRequest | None, int], ComplianceRequest]] = {
    Plan.ERASE: _erase,
    Plan.LATE: lambda one, known, _reach: known or _made(one, Kind.DELETION),
    Plan.RECORD: _record,
    Plan.REDACT: _redact,
    Plan.RUN: _run,
    Plan.FILE: _again,
    Plan.HOLD: _again,
    Plan.COMPLETE: _record,
    Plan.REMEMBER: _record,
    Plan.WITHDRAW: _withdraw,
}


def _add_what_they_name(planned: Iterable[Planned], reach: int) -> None:
    """Write what redactions and retention runs name, for requests that this database did not have."""
    Redaction.objects.bulk_create(
        Redaction(
            request_id=one.request_id,
            chatbot_id=one.chatbot,
            conversation_id=one.numbers[0],
            message_numbers=sorted(one.messages),
            reason=one.line["reason"],
        )
        for one in planned
        if one.messages and one.known_status is None and one.plan in {Plan.REDACT, Plan.FILE, Plan.HOLD}
    )
    for one in planned:
        if one.kind != LineKind.RETENTION or one.plan not in {Plan.RUN, Plan.HOLD}:
            continue
        run = RetentionRun.objects.filter(request=one.request_id).first() or RetentionRun(
            chatbot_id=one.chatbot,
            day=date.fromisoformat(one.line["day"]),
            request_id=one.request_id,
            retention_days=one.line["retention_days"],
            older_than=one.time("older_than"),
            announced=one.line.get("announced"),
            previous_days=one.line.get("previous_days"),
            is_replayed=True,
        )
        if one.plan == Plan.RUN:
            # It has examined everything: it erases what it marks here, and nothing else.
            run.examined_number, run.left_out = reach, max(run.left_out, one.left_out)
        run.save()


def _remember(planned: Sequence[Planned]) -> None:
    """Have intake refuse what was erased, or store it as redacted, where it has no row here.

    Also of requests that are completed here: of Citus, a machine can have been restored alone.
    """
    done = [one for one in planned if one.plan in _REMEMBERED]
    done += [one for one in planned if one.plan == Plan.LEAVE and one.kind in {LineKind.EXACT, LineKind.RETENTION}]
    for together in by_place({one.request_id: one.chatbot for one in done}):
        marking.remember(together)
    for one in planned:
        if one.plan in {Plan.REMEMBER, Plan.REDACT} or (one.plan == Plan.LEAVE and one.kind == LineKind.REDACTED):
            at = one.now if one.line.get("cutoff_at") is None else one.time("cutoff_at")
            conversation = bytes.fromhex(one.line["conversation"])
            messages.remember(Chatbot(pk=one.chatbot), one.request_id, conversation, one.lost_messages, at)


def _mark(planned: Sequence[Planned]) -> None:
    numbers = [number for one in planned for number in one.numbers]
    if numbers:
        values = {
            "numbers": array(numbers),
            "requests": array(one.request_id for one in planned for _ in one.numbers),
            "takes": array(one.named is None and each in one.of_others for one in planned for each in one.numbers),
            "chatbots": array({one.chatbot for one in planned}),
        }
        execute(_MARK, values)


def _entry(one: Planned, request: ComplianceRequest) -> changelog.Entry:
    who: dict[str, Any] = {"chatbot_id": one.chatbot, "request_id": one.request_id, "actor": ACTOR}
    if one.plan == Plan.WITHDRAW:
        return changelog.entry(f"request.{request.status}", **who)
    if one.kind in {LineKind.ACCEPTED, LineKind.INTENDED}:
        return changelog.entry(
            "request.accepted", data={"kind": str(request.kind), "origin": str(request.origin)}, **who
        )
    data: changelog.Data = {"line": str(one.kind), "conversations": one.conversations}
    return changelog.entry("request.replayed", data=data, **who)
