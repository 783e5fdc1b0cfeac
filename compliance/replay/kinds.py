"""Decide on a line, and rewrite its request: a function for each kind of line.

A request gets its old id and its old times. A request in the backup continues; any other is created again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Model

from chatbots.models import Chatbot
from compliance.erasure import exports
from compliance.ledger.content import Line
from compliance.models import ComplianceRequest, LedgerLine, LineKind, Redaction, RetentionRun
from compliance.redaction.messages import FoundMessages
from compliance.redaction.messages import find as find_messages
from compliance.replay.loading import ACTOR
from compliance.retention import due, policy
from compliance.work import legal_holds
from compliance.work.scope import REDACTIONS
from conversations.models import Conversation
from conversations.tombstones import comment_digest

HoldReason = ComplianceRequest.HoldReason
Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane
Outcome = LedgerLine.Outcome
Plan = LedgerLine.Plan
Status = ComplianceRequest.Status

_OPEN = {Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING, Status.FAILED}
_WITHDRAWN = {Status.CANCELLED, Status.REJECTED}


class Decision(NamedTuple):
    """The decision on a line. `request` is to be inserted unless this database has it, and `rows` after it.

    `is_announced`: the request has reached a state that was not announced. Erasures and redactions in the ledger were
    announced in the lost life, and repeated requests are announced when they complete.
    """

    plan: Plan
    outcome: Outcome
    request: ComplianceRequest | None = None
    rows: Sequence[Model] = ()
    is_announced: bool = False


_LEAVE = Decision(Plan.LEAVE, Outcome.UNCHANGED)
_CONFLICT = Decision(Plan.CONFLICT, Outcome.UNDECIDED)
_UNKNOWN_CHATBOT = Decision(Plan.UNKNOWN_CHATBOT, Outcome.UNKNOWN_CHATBOT)
_UNKNOWN_VARIABLE = Decision(Plan.UNKNOWN_VARIABLE, Outcome.UNDECIDED)


@dataclass
class ReplayedLine:
    """A line, and the present data about it.

    `numbers` are the conversations that it covers, `of_others` those of them with another request's mark that only
    the ledger contains. `names_any`: whether any of its data is here, erased or not. `reach` is the highest
    conversation number when the restore was noticed. Of a redaction, `lost_messages` have no row here; the digest of
    a CSAT comment is among them if its conversation has none. `held` are those of `numbers` that are unmarked and
    under a legal hold.
    """

    request_id: UUID
    kind: LineKind
    line: Line
    chatbot_id: int | None
    four_eyes: bool
    guard: int
    grace: timedelta
    variable_id: int | None
    uci_digest: bytes | None
    conversation_digests: list[bytes]
    names_any: bool
    numbers: list[int]
    of_others: Sequence[int]
    uci_value: str | None
    has_exports: bool
    reach: int
    now: datetime  # the database's
    known: ComplianceRequest | None = None
    lost_messages: Sequence[bytes] = ()
    held: set[int] = field(default_factory=set)
    filed_by: str = ACTOR
    approved_by: str = ""
    extended_by: str = ""
    decision: Decision = field(default=_LEAVE)

    @property
    def chatbot(self) -> int:
        """The chatbot of a line about a known one."""
        return self.chatbot_id or 0

    @property
    def has_comment(self) -> bool:
        """Whether a redaction covers the CSAT comment."""
        return bool(self.line["csat_comment"])

    @property
    def is_completed(self) -> bool:
        return self.known is not None and self.known.status == Status.COMPLETED

    @property
    def had_begun(self) -> bool:
        """Whether it had marked, past all holds: files may be gone, which no restore brings back."""
        return self.kind == LineKind.INTENDED

    @property
    def lacks_variable(self) -> bool:
        return self.line["variable"] is not None and self.variable_id is None

    @property
    def named(self) -> list[bytes] | None:
        """The conversations of the request by the digests of their ids, None for a chatter's request."""
        if self.kind == LineKind.EXACT:
            given = self.line["named"]
            return None if given is None else _bytes(given)
        return self.conversation_digests or None

    def time(self, name: str) -> datetime:
        return datetime.fromisoformat(self.line[name])

    def time_or_none(self, name: str) -> datetime | None:
        return self.time(name) if self.line[name] else None


def decide(one: ReplayedLine) -> Decision:
    """Return the decision on a line, in the transaction that files it, with its known request locked and saved."""
    if one.known:
        _extend_and_answer(one, one.known)
    return _KINDS[one.kind](one)


def _extend_and_answer(one: ReplayedLine, known: ComplianceRequest) -> None:
    """Let a known request have the extension and the answer of the line, unless it has its own."""
    changes: dict[str, Any] = {}
    if one.line.get("extended_at") and known.extended_at is None:
        changes |= {"due_at": one.time("due_at"), **_extension_of(one)}
    if one.line.get("answered_at") and known.answered_at is None:
        changes |= {"answered_at": one.time("answered_at")}
    for name, value in changes.items():
        setattr(known, name, value)
    known.save(update_fields=changes)


def _extension_of(one: ReplayedLine) -> dict[str, Any]:
    return {
        "extended_at": one.time_or_none("extended_at"),
        "extended_by": one.extended_by,
        "extension_reason": one.line["extension_reason"],
    }


def _accepted(one: ReplayedLine) -> Decision:
    """Decide on a request that was accepted, and maybe begun, and has no end in the ledger."""
    kind = one.line["request_kind"]
    if one.known:
        one.numbers = []
        # The reason for which it is held or failed here was over in the lost life.
        return _file_again(one, one.known.kind) if one.had_begun and one.known.status in _OPEN else _LEAVE
    if one.chatbot_id is None:
        return _UNKNOWN_CHATBOT
    if kind == Kind.EXPORT:
        one.numbers = []
        return Decision(Plan.LOST_EXPORT, Outcome.LOST_EXPORT)
    return _accepted_redaction(one) if kind == Kind.REDACTION else _accepted_deletion(one)


def _accepted_redaction(one: ReplayedLine) -> Decision:
    messages, _ = _find_messages(one)
    is_held = one.four_eyes and not one.had_begun
    if one.numbers:
        return _file_again(one, Kind.REDACTION, is_held=is_held)._replace(rows=[_redaction(one, messages)])
    if is_held:
        return Decision(Plan.LOST_REDACTION, Outcome.LOST_REDACTION)
    return _remember_redaction(one, is_announced=True)


def _accepted_deletion(one: ReplayedLine) -> Decision:
    if one.lacks_variable:
        return _UNKNOWN_VARIABLE
    about = _about(one)
    is_held = not one.had_begun and (one.four_eyes or len(one.numbers) > one.guard)
    if is_held or one.names_any or one.has_exports:
        # No worker had taken it. No user could cancel it while the service was closed.
        grace = one.now + one.grace if one.grace and not one.had_begun else None
        return _file_again(one, Kind.DELETION, is_held=is_held, not_before=grace, uci_value=one.uci_value, **about)
    request = _build_request(one, Kind.DELETION, cutoff_number=one.reach, **about, **_found_nothing(one.now))
    return Decision(Plan.COMPLETE, Outcome.NOTHING_FOUND, request, is_announced=True)


def _file_again(one: ReplayedLine, kind: str, *, is_held: bool = False, **fields: Any) -> Decision:
    """File an accepted request, to be decided on or carried out as any other.

    It is not approved in this life, unless a worker had begun it. Then no decision is needed any more; but an export
    that was filed before it is still delivered first.
    """
    known = one.known
    if one.had_begun:
        holds = [each for each in HoldReason if each not in {HoldReason.EXPORT_PENDING, HoldReason.LEGAL_HOLD}]
        if known:
            known.approved_holds = list({*known.approved_holds, *holds})
            known.started_at = known.started_at or one.now
            return Decision(Plan.FILE, Outcome.FILED_AGAIN, _begin_again(one, known))
        fields |= {"approved_holds": holds, "started_at": one.now}
    else:
        fields["approved_by"] = ""
    if is_held:
        fields |= {"status": Status.ON_HOLD, "hold_reason": HoldReason.RESTORED, "held_at": one.now}
        return Decision(Plan.HOLD, Outcome.ON_HOLD, _build_request(one, kind, **fields), is_announced=True)
    return Decision(Plan.FILE, Outcome.FILED_AGAIN, _build_request(one, kind, **fields))


def _under_hold(one: ReplayedLine, request: ComplianceRequest) -> Decision:
    """File an erasure on hold: a legal hold covers what the restore has brought back. A deletion keeps its cutoff."""
    request.status, request.hold_reason, request.held_at = Status.ON_HOLD, HoldReason.LEGAL_HOLD, one.now
    if one.known:
        request.save()
    one.numbers = []
    return Decision(Plan.HOLD, Outcome.ON_HOLD, request, is_announced=True)


def _withdrawn(one: ReplayedLine) -> Decision:
    one.numbers = []
    known = one.known
    # A marked request cannot be withdrawn: then this line is of another life.
    if known is None or known.status not in _OPEN or (known.cutoff_at is not None and known.kind != Kind.EXPORT):
        return _LEAVE
    at = one.time("at")
    known.status, known.hold_reason, known.uci_value, known.callback_url = one.line["status"], None, None, ""
    known.failed_at = known.claim = None
    known.cancelled_at, known.rejected_at = (at, None) if known.status == Status.CANCELLED else (None, at)
    known.save()
    if known.kind == Kind.RETENTION:
        policy.restore_period(known, actor=ACTOR)
    return Decision(Plan.WITHDRAW, Outcome.WITHDRAWN, known)


def _exact(one: ReplayedLine) -> Decision:
    if refused := _unusable(one, Kind.DELETION):
        return refused
    if one.lacks_variable and not one.numbers:
        return _UNKNOWN_VARIABLE
    one.numbers = [number for number in one.numbers if number not in one.held]
    if one.is_completed:
        return Decision(Plan.LATE, Outcome.FILED, one.known) if one.numbers else _LEAVE
    if one.line.get("withholds"):
        # It has left the others out, whatever has become of them since.
        one.numbers = _of_line(one)
    return _erase_again(one)


def _of_line(one: ReplayedLine) -> list[int]:
    """Return those of the conversations that the line itself names."""
    [digests] = LedgerLine.objects.filter(pk=one.request_id).values_list("conversation_digests", flat=True)
    found = Conversation.objects.filter(chatbot=one.chatbot, pk__in=one.numbers, external_id_digest__in=digests)
    return sorted(found.values_list("pk", flat=True))


def _erase_again(one: ReplayedLine) -> Decision:
    """Erase all again that no legal hold covers. The rest is filed as another request, unless the ledger has it."""
    at, known = one.time("cutoff_at"), one.known
    withheld = max(len(one.held), one.line.get("withheld", 0))
    if known is None:
        fields = {**_about(one), "cutoff_number": one.reach, "withholds": withheld > 0, "withheld": withheld}
        if not one.names_any and not one.has_exports:
            # Completed at the time of its erasure: its digests are kept from then on.
            request = _build_request(one, Kind.DELETION, **fields, **_found_nothing(at))
            return Decision(Plan.RECORD, Outcome.NOTHING_FOUND, request)
        fields |= {"uci_value": one.uci_value, "started_at": at, "cutoff_at": at}
        return Decision(Plan.ERASE, Outcome.FILED, _build_request(one, Kind.DELETION, **fields))
    if known.cutoff_at is None:
        known.cutoff_at, known.cutoff_number = at, one.reach
        known.started_at = known.started_at or at
    if known.variable_id is not None:
        known.uci_digest = one.uci_digest
    known.lane = Lane.NORMAL
    if withheld:
        known.withholds, known.withheld = True, withheld
    return Decision(Plan.ERASE, Outcome.FILED, _begin_again(one, known))


def _redacted(one: ReplayedLine) -> Decision:
    if refused := _unusable(one, Kind.REDACTION):
        return refused
    messages, found = _find_messages(one)
    known = one.known
    is_held = bool(legal_holds.find_held([one.chatbot], one.numbers))
    if one.is_completed:
        # A single machine of Citus can have been restored.
        messages = [number for number in messages if number in found.with_text]
        has_rest = messages or (one.has_comment and not found.is_comment_redacted and one.numbers)
        if is_held or not has_rest:
            return _LEAVE
    elif is_held:
        rows = [] if known else [_redaction(one, messages)]
        request = _begin_again(one, known) if known else _build_request(one, Kind.REDACTION)
        return _under_hold(one, request)._replace(rows=rows)
    elif not one.numbers and (known is None or found.conversation is None):
        return _remember_redaction(one, is_announced=known is not None)
    # It was approved if that was needed, since it has redacted.
    approved = [str(HoldReason.AWAITING_APPROVAL)]
    if known is None:
        request = _build_request(one, Kind.REDACTION, approved_holds=approved)
        return Decision(Plan.REDACT, Outcome.FILED, request, [_redaction(one, messages)])
    known.approved_holds = list({*known.approved_holds, *approved})
    if one.is_completed:
        known.cutoff_at = None  # restored texts are emptied, and exports with them since then are removed
    return Decision(Plan.REDACT, Outcome.FILED, _begin_again(one, known))


def _remember_redaction(one: ReplayedLine, *, is_announced: bool) -> Decision:
    """Remember a redaction whose messages are not here, so that they are stored as redacted if sent again."""
    at = one.time("cutoff_at") if one.kind == LineKind.REDACTED else one.now
    if request := one.known:
        for name, value in _found_nothing(at).items():
            setattr(request, name, value)
        request.hold_reason = request.failed_at = request.claim = request.waiting_for = None
        request.error_code = request.error_detail = ""
        request.save()
        exports.record_remaining([request.pk], of=REDACTIONS)
    else:
        request = _build_request(one, Kind.REDACTION, **_found_nothing(at))
    return Decision(Plan.REMEMBER, Outcome.NOTHING_FOUND, request, is_announced=is_announced)


def _retention(one: ReplayedLine) -> Decision:
    if refused := _unusable(one, Kind.RETENTION):
        return refused
    known, numbers = one.known, one.numbers
    slices = (numbers[start : start + due.SLICE] for start in range(0, len(numbers), due.SLICE))
    kept = {number for some in slices for number in due.find_kept(one.chatbot, some)}
    one.numbers = [number for number in numbers if number not in kept and number not in one.held]
    if one.is_completed:
        return Decision(Plan.LATE, Outcome.FILED, known) if one.numbers else _LEAVE
    if known is None and not one.conversation_digests:
        return _LEAVE
    run = _run(one)
    # It has examined everything: it erases the conversations that it marks here, and no others.
    run.examined_number, run.left_out = one.reach, max(run.left_out, len(kept))
    request = known or _build_request(one, Kind.RETENTION)
    request.lane = Lane.LARGE
    if request.cutoff_at is None:
        request.cutoff_at = request.started_at = one.now
        request.cutoff_number, request.slice = one.reach, []
    return Decision(Plan.RUN, Outcome.FILED, _begin_again(one, request) if known else request, [run])


_KINDS: Mapping[str, Callable[[ReplayedLine], Decision]] = {
    LineKind.ACCEPTED: _accepted,
    LineKind.INTENDED: _accepted,
    LineKind.WITHDRAWN: _withdrawn,
    LineKind.EXACT: _exact,
    LineKind.REDACTED: _redacted,
    LineKind.RETENTION: _retention,
}


def _unusable(one: ReplayedLine, kind: Kind) -> Decision | None:
    """Return the decision on a line that has no data here, or contradicts this database; None for others."""
    if one.chatbot_id is None:
        return _UNKNOWN_CHATBOT
    if one.known and (one.known.status in _WITHDRAWN or one.known.kind != kind):
        one.numbers = []
        return _CONFLICT
    return None


def _find_messages(one: ReplayedLine) -> tuple[list[int], FoundMessages]:
    """Find the messages of a redaction by their ids' digests; record its conversation, and what is missing of it."""
    wanted = _bytes(one.line["messages"])
    chatbot = Chatbot.objects.get(pk=one.chatbot)
    conversation = bytes.fromhex(one.line["conversation"])
    found = find_messages(chatbot, conversation, wanted)
    if one.has_comment and found.conversation is None:
        wanted.append(comment_digest(chatbot.public_id, conversation))
    # A conversation that is closed refuses all of its messages.
    one.lost_messages = [] if found.is_closed else [each for each in wanted if each not in found.numbers]
    is_any_here = bool(found.numbers) or one.has_comment
    one.numbers = [found.conversation] if found.conversation and is_any_here else []
    return list(found.numbers.values()), found


def _build_request(one: ReplayedLine, kind: str, **fields: Any) -> ComplianceRequest:
    """Return a request, unsaved, under its old id and with its old times."""
    of_line = {
        "id": one.request_id,
        "chatbot_id": one.chatbot,
        "kind": kind,
        "origin": ComplianceRequest.Origin.REPLAY,
        "filed_by": one.filed_by,
        "approved_by": one.approved_by,
        "received_at": one.time("received_at"),
        "requested_at": one.time_or_none("requested_at"),
        "deadline": one.line["deadline"],
        "due_at": one.time("due_at"),
        "continues_id": UUID(one.line["continues"]) if one.line.get("continues") else None,
        "answered_at": one.time_or_none("answered_at"),
        **_extension_of(one),
    }
    return ComplianceRequest(**(of_line | fields))


def _about(one: ReplayedLine) -> dict[str, Any]:
    """Return the fields of a deletion's selector."""
    options = {"erase_exports": one.line["erase_exports"]}
    if one.line["variable"] is None:
        return options | {"conversation_digests": one.named}
    if one.variable_id is None:
        # Conversations of the line are here, but its variable is not.
        return options | {"conversation_digests": one.conversation_digests}
    return options | {"variable_id": one.variable_id, "uci_digest": one.uci_digest}


def _found_nothing(at: datetime) -> dict[str, Any]:
    """Return the fields of a request that has found nothing. Its late data is refused, as of any other."""
    result = {"status": Status.COMPLETED, "result": ComplianceRequest.Result.NOTHING_FOUND}
    return result | dict.fromkeys(("completed_at", "started_at", "cutoff_at"), at)


def _begin_again(one: ReplayedLine, request: ComplianceRequest) -> ComplianceRequest:
    """Save a request of this database as one that continues."""
    if request.selector == ComplianceRequest.Selector.CONVERSATIONS and request.named_conversations is None:
        request.conversation_digests = one.named  # they were deleted, since none of their data was left
    if request.status == Status.COMPLETED:
        request.messages = request.csat_comments = 0  # a redaction counts them again
    request.approved_by = request.approved_by or one.approved_by
    request.origin, request.status = ComplianceRequest.Origin.REPLAY, Status.ACCEPTED
    request.attempts, request.error_code, request.error_detail = 0, "", ""
    request.hold_reason = request.waiting_for = request.claim = None
    request.completed_at = request.result = request.not_before = request.failed_at = None
    request.save()
    return request


def _redaction(one: ReplayedLine, messages: Sequence[int]) -> Redaction:
    return Redaction(
        request_id=one.request_id,
        chatbot_id=one.chatbot,
        conversation_id=one.numbers[0],
        message_numbers=sorted(messages),
        csat_comment=one.has_comment,
        reason=one.line["reason"],
    )


def _run(one: ReplayedLine) -> RetentionRun:
    return RetentionRun.objects.filter(request=one.request_id).first() or RetentionRun(
        chatbot_id=one.chatbot,
        day=date.fromisoformat(one.line["day"]),
        request_id=one.request_id,
        retention_days=one.line["retention_days"],
        older_than=one.time("older_than"),
        announced=one.line["announced"],
        previous_days=one.line["previous_days"],
        is_replayed=True,
    )


def _bytes(digests: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(each) for each in digests]
