"""Legal holds: place, review and release them, and find what they cover.

Placing and releasing exclude the chatbot's marks and intakes (`conversations.locks`). So each mark comes either
before, and its data is being erased, which the answer counts; or after, and it finds the hold
(`compliance.work.legal_holds`). The same transaction that releases a hold lets the requests continue that waited
for no other one.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots import changelog
from chatbots.models import Chatbot, Variable
from common import crypto
from common.db import array, fetch
from common.texts import REFERENCE, RULES
from compliance.cluster import notify
from compliance.errors import Refused
from compliance.models import ComplianceRequest, LegalHold, LegalHoldConversation, Redaction
from compliance.models.holds import legal_hold_binding
from compliance.requests.decisions import party
from compliance.requests.inputs import ChatbotConfig
from compliance.requests.selectors import ByUci, Selector
from compliance.work import legal_holds
from compliance.work.outbox import log
from compliance.work.sql import GIVEN, given_unfiled
from conversations.locks import wait_for_intake
from conversations.sql import SELECTED_CONVERSATIONS

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

_COUNT_AS_ONE = {"api": "keys of a chatbot", "command": "commands"}
# An officer checks at least once a year whether a hold is still needed.
LONGEST_REVIEW = timedelta(days=366)

# Requests that a preview of a hold examines.
MOST_EXAMINED = 1_000

# The conversations of a hold by value or by ids, given as a request: live, marked and erased ones.
_SELECTED = f"""
SELECT count(DISTINCT c.id) FILTER (WHERE c.deletion_request_id IS NULL),
       count(DISTINCT c.id) FILTER (WHERE c.deletion_request_id IS NOT NULL AND c.deleted_at IS NULL),
       count(DISTINCT c.id) FILTER (WHERE c.deleted_at IS NOT NULL)
  FROM {{requests}} CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
 CROSS JOIN LATERAL (
       SELECT id, started_at, deletion_request_id, deleted_at FROM conversations_conversation
        WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
 WHERE {{began}}
"""  # noqa: S608  (texts of ours)
_OF_CHATBOT = """
SELECT count(*) FILTER (WHERE deletion_request_id IS NULL),
       count(*) FILTER (WHERE deletion_request_id IS NOT NULL AND deleted_at IS NULL),
       count(*) FILTER (WHERE deleted_at IS NOT NULL)
  FROM conversations_conversation AS c WHERE chatbot_id = ANY(%(chatbots)s) AND {began}
"""
# An erased conversation keeps only its day.
_BEGAN = """
(%(began_from)s::timestamptz IS NULL
 OR c.started_at >= CASE WHEN c.deleted_at IS NULL THEN %(began_from)s::timestamptz
                    ELSE date_trunc('day', %(began_from)s::timestamptz AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END)
AND (%(began_before)s::timestamptz IS NULL OR c.started_at < %(began_before)s::timestamptz)
"""
_BY_VALUE_OR_IDS = _SELECTED.format(requests=GIVEN, began=_BEGAN)
_WHOLE = _OF_CHATBOT.format(began=_BEGAN)
_CONTINUE = """
UPDATE compliance_compliancerequest SET status = 'accepted', hold_reason = NULL, answered_at = NULL
 WHERE id = ANY(%s::uuid[]) AND status = 'on_hold' AND hold_reason = 'legal_hold' RETURNING id
"""
# Conversations that deletions of the chatter have erased leave no trace that leads to them.
_ERASED_FOR = """
SELECT coalesce(sum(conversations), 0) FROM compliance_compliancerequest
 WHERE variable_id = %s AND uci_digest = %s AND kind = 'deletion'
"""


@dataclass(frozen=True)
class HoldInput:
    """A hold to be placed. `selector` is None for the whole chatbot. The times are aware."""

    selector: Selector | None
    matter: str
    basis: str
    review_at: datetime
    began_from: datetime | None = None
    began_before: datetime | None = None


class Coverage(NamedTuple):
    """Conversations that a hold covers (`held`), that are being erased, and that are erased.

    `already_erased` of a chatter includes all that deletions of the chatter have erased, whenever they began.
    """

    held: int
    already_marked: int
    already_erased: int


class Waiting(NamedTuple):
    """A request that a hold keeps.

    `numbers` are the conversations that it is about and no other hold covers: a deletion erases those that no hold
    covers, too, once it continues. `held_by_others` counts those under other holds.
    """

    request: ComplianceRequest
    numbers: set[int]
    held_by_others: int

    @property
    def conversations(self) -> int:
        return len(self.numbers)


def preview(*, chatbot: Chatbot, given_input: HoldInput) -> Coverage:
    """Return what a hold would cover now. Raises Refused as `place` does."""
    return _coverage(*_checked(chatbot, given_input, placed_by=""))


def would_wait(*, chatbot: Chatbot, given_input: HoldInput) -> list[ComplianceRequest]:
    """Return the deletions and redactions that a hold would keep if it were placed now, in the order of filing.

    Of the chatbot's unfinished requests, the first MOST_EXAMINED are examined. Raises Refused as `place` does.
    """
    hold, digests = _checked(chatbot, given_input, placed_by="")
    unfinished = ComplianceRequest.objects.filter(
        chatbot=chatbot,
        kind__in=(Kind.DELETION, Kind.REDACTION),
        status__in=(Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING),
        cutoff_at=None,
    )
    requests = list(unfinished.defer("uci_value", "uci_digest").order_by("seq")[:MOST_EXAMINED])
    named = _find_named(requests)
    covered = legal_holds.find_covered_by(hold, digests, set[int]().union(*named.values()))
    return [one for one in requests if named.get(one.pk, set()) & covered]


def place(*, chatbot: Chatbot, given_input: HoldInput, actor: str) -> tuple[LegalHold, Coverage, bool]:
    """Place a hold; return it, what it covers, and whether it is an equal one that is in force already.

    Once it returns, no conversation that it counts as held is erased before the release. Raises Refused (`invalid`,
    `uci_not_designated`, `unknown_uci_key`).
    """
    hold, digests = _checked(chatbot, given_input, placed_by=actor)
    with transaction.atomic():
        wait_for_intake(chatbot.pk)
        equal = _equal(hold, digests)
        if equal is None:
            hold.save(force_insert=True)
            LegalHoldConversation.objects.bulk_create(
                LegalHoldConversation(hold=hold, chatbot=chatbot, digest=digest) for digest in digests
            )
            _log("hold.placed", hold, actor, {"scope": str(hold.scope), "basis": str(hold.basis)})
    placed = equal or LegalHold.objects.get(pk=hold.pk)
    # Counting takes time, in which intake must not wait. What is unmarked now stays so.
    return placed, _coverage(placed, digests), equal is not None


def review(*, chatbot: Chatbot, hold_id: UUID, review_at: datetime, actor: str) -> LegalHold:
    """Record that a hold was reviewed, and set the next review.

    Raises Refused (`not_found`, `released`, `invalid`).
    """
    with transaction.atomic():
        hold = _locked(chatbot, hold_id)
        hold.review_at, hold.reviewed_at, hold.reviewed_by = _checked_review(review_at), _now(), actor
        hold.save(update_fields=["review_at", "reviewed_at", "reviewed_by"])
        _log("hold.reviewed", hold, actor, {"review_at": hold.review_at.isoformat()})
    return hold


def release(*, chatbot: Chatbot, hold_id: UUID, reason: str, actor: str) -> tuple[LegalHold, list[UUID]]:
    """Release a hold, and let the requests continue that wait for no other hold; return both.

    Another person than the one who placed it releases a hold; all keys of a chatbot count as one, and so do all
    commands. Raises Refused (`not_found`, `released`, `invalid`, `own_hold`).
    """
    if reason not in LegalHold.ReleaseReason.values:
        detail = f"The reason must be one of {', '.join(LegalHold.ReleaseReason.values)}."
        raise Refused("invalid", detail, pointer="/reason")
    with transaction.atomic():
        wait_for_intake(chatbot.pk)
        hold = _locked(chatbot, hold_id)
        _check_release(hold, actor)
        hold.released_at, hold.released_by, hold.release_reason = _now(), actor, reason
        hold.value_encrypted = ""
        hold.save(update_fields=["released_at", "released_by", "release_reason", "value_encrypted"])
        _log("hold.released", hold, actor, {"reason": reason})
        free = release_unheld(chatbot)
    return hold, free


def _check_release(hold: LegalHold, actor: str) -> None:
    """Raise Refused (`released`; `own_hold` if the party of the actor has placed it)."""
    _require_in_force(hold)
    if (placer := party(hold.placed_by)) == party(actor):
        if placer in _COUNT_AS_ONE:
            raise Refused(
                "own_hold", f"All {_COUNT_AS_ONE[placer]} count as one: an officer releases it in the console."
            )
        raise Refused("own_hold", "You have placed the hold: another officer releases it in the console.")


def release_unheld(chatbot: Chatbot) -> list[UUID]:
    """Let the requests continue that no hold keeps any more, and return them.

    In the transaction that releases a hold, or after a replay has released one. No mark may be under way.
    """
    on_hold = _on_hold(chatbot)
    still_held = _find_held(on_hold)
    free = [one.pk for one in on_hold if one.pk not in still_held]
    # Some may have been cancelled or rejected since they were read.
    free = [request_id for (request_id,) in fetch(_CONTINUE, [array(free)])]
    log("request.released", [(request_id, chatbot.pk, {"reason": "legal_hold"}) for request_id in free])
    if free:
        notify.after_commit(notify.notify_workers)
    return free


def waiting_for(hold: LegalHold) -> list[Waiting]:
    """Return the requests that this hold keeps, in the order of filing."""
    on_hold = _on_hold(hold.chatbot)
    held = _find_held(on_hold)
    every = set[int]().union(*held.values())
    ours = legal_holds.find_covered([hold.pk], hold.chatbot_id, every)
    others = LegalHold.objects.filter(chatbot=hold.chatbot_id, released_at=None).exclude(pk=hold.pk)
    theirs = legal_holds.find_covered(list(others.values_list("pk", flat=True)), hold.chatbot_id, every)
    kept = [one for one in on_hold if one.pk in held and held[one.pk] & ours]
    named = _find_named(kept)
    # One can have been released and marked since.
    return [Waiting(one, named.get(one.pk, set()) - theirs, len(held[one.pk] & theirs)) for one in kept]


def holds_on(request: ComplianceRequest) -> list[LegalHold]:
    """Return the holds in force that cover data of this request, the oldest first."""
    numbers = _find_held([request]).get(request.pk, set())
    covering = legal_holds.find_covering(request.chatbot_id, numbers)
    return list(LegalHold.objects.filter(pk__in=covering).order_by("pk"))


def coverage(hold: LegalHold) -> Coverage:
    """Return what a hold covers now."""
    return _coverage(hold, _digests(hold))


def value_of(hold: LegalHold) -> str | None:
    """Return the UCI value of a hold in force, or None if there is none. Raises SecretUnreadable."""
    return (
        crypto.decrypt(hold.value_encrypted, bound_to=legal_hold_binding(hold.pk)) if hold.value_encrypted else None
    )


def disclose(*, chatbot: Chatbot, hold_id: UUID, actor: str) -> str | None:
    """Return as `value_of`, after the change log has recorded that `actor` saw the value.

    Raises Refused (`not_found`, `released`), and SecretUnreadable.
    """
    with transaction.atomic():
        hold = _locked(chatbot, hold_id)
        _log("hold.shown", hold, actor)
    return value_of(hold)


def due_for_review() -> Q:
    """Return the condition of holds in force whose review is due. They stay in force."""
    return Q(released_at=None, review_at__lte=Now())


def _checked(chatbot: Chatbot, given_input: HoldInput, *, placed_by: str) -> tuple[LegalHold, list[bytes]]:
    """Return a hold, not stored, and the digests of its conversations. Raises Refused."""
    selector = given_input.selector
    if not re.fullmatch(REFERENCE, given_input.matter):
        raise Refused("invalid", f"The matter must be {RULES[REFERENCE]}", pointer="/matter")
    if given_input.basis not in LegalHold.Basis.values:
        detail = f"The basis must be one of {', '.join(LegalHold.Basis.values)}."
        raise Refused("invalid", detail, pointer="/basis")
    since, before = given_input.began_from, given_input.began_before
    if since and before and since >= before:
        raise Refused("invalid", "It must be later than the beginning.", pointer="/began_before")
    hold = LegalHold(
        id=uuid7(),
        chatbot=chatbot,
        scope=LegalHold.Scope.CHATBOT,
        matter=given_input.matter,
        basis=given_input.basis,
        review_at=_checked_review(given_input.review_at),
        began_from=since,
        began_before=before,
        placed_by=placed_by,
    )
    if selector is None:
        return hold, []
    selector.check()
    if selector.is_in(given_input.matter):
        detail = f"The matter must not contain {selector.description}, in any form: it is kept longer."
        raise Refused("invalid", detail, pointer="/matter")
    if isinstance(selector, ByUci):
        uci: Variable = ChatbotConfig(chatbot).find_uci(selector.key)
        hold.scope, hold.variable = LegalHold.Scope.UCI, uci
        hold.uci_digest = crypto.digest("chatter", uci.public_id, selector.value)
        hold.value_encrypted = crypto.encrypt(selector.value, bound_to=legal_hold_binding(hold.pk))
        return hold, []
    hold.scope = LegalHold.Scope.CONVERSATIONS
    return hold, [crypto.digest("conversation", chatbot.public_id, one) for one in selector.ids]


def _checked_review(at: datetime) -> datetime:
    now = _now()
    if not now < at <= now + LONGEST_REVIEW:
        raise Refused("invalid", "It must be in the future, within 12 months.", pointer="/review_at")
    return at


def _equal(hold: LegalHold, digests: Sequence[bytes]) -> LegalHold | None:
    """Return a hold in force with the same scope, matter and basis: a call that is repeated places one hold."""
    same = LegalHold.objects.filter(
        chatbot=hold.chatbot_id,
        released_at=None,
        scope=hold.scope,
        variable=hold.variable_id,
        uci_digest=hold.uci_digest,
        began_from=hold.began_from,
        began_before=hold.began_before,
        matter=hold.matter,
        basis=hold.basis,
    )
    return next((one for one in same.order_by("pk") if set(_digests(one)) == set(digests)), None)


def _digests(hold: LegalHold) -> list[bytes]:
    return [bytes(one) for one in hold.conversations.order_by("pk").values_list("digest", flat=True)]


def _coverage(hold: LegalHold, digests: list[bytes]) -> Coverage:
    window = {"began_from": hold.began_from, "began_before": hold.began_before}
    if hold.scope == LegalHold.Scope.CHATBOT:
        return Coverage(*fetch(_WHOLE, {"chatbots": array([hold.chatbot_id]), **window})[0])
    selected = ComplianceRequest(chatbot_id=hold.chatbot_id, variable_id=hold.variable_id, uci_digest=hold.uci_digest)
    selected.conversation_digests = digests
    live, marked, erased = fetch(_BY_VALUE_OR_IDS, given_unfiled(hold.chatbot_id, [selected]) | window)[0]
    if hold.scope == LegalHold.Scope.UCI:
        [(erased,)] = fetch(_ERASED_FOR, [hold.variable_id, hold.uci_digest])
    return Coverage(live, marked, int(erased))


def _locked(chatbot: Chatbot, hold_id: UUID) -> LegalHold:
    """Return a hold in force, locked. Raises Refused (`not_found`, `released`)."""
    hold = LegalHold.objects.select_for_update().filter(pk=hold_id, chatbot=chatbot).first()
    if hold is None:
        raise Refused("not_found", "There is no such legal hold.")
    _require_in_force(hold)
    return hold


def _require_in_force(hold: LegalHold) -> None:
    if hold.released_at is not None:
        raise Refused("released", "The legal hold was released already.")


def _on_hold(chatbot: Chatbot) -> list[ComplianceRequest]:
    """Return the chatbot's requests that a legal hold keeps, in the order of filing."""
    on_hold = ComplianceRequest.objects.filter(
        chatbot=chatbot, status=Status.ON_HOLD, hold_reason=ComplianceRequest.HoldReason.LEGAL_HOLD
    )
    return list(on_hold.order_by("seq"))


def _find_held(requests: Collection[ComplianceRequest]) -> dict[UUID, set[int]]:
    """Return the conversations under a hold of each of these requests that has any."""
    if not requests:
        return {}
    chatbot_id = next(iter(requests)).chatbot_id
    deletions = _deletions(requests)
    held = legal_holds.find_held_by_request(deletions, [chatbot_id]) if deletions else {}
    redacted = _find_redacted(requests)
    covered = legal_holds.find_held([chatbot_id], set(redacted.values()))
    return held | {request_id: {number} for request_id, number in redacted.items() if number in covered}


def _find_named(requests: Collection[ComplianceRequest]) -> dict[UUID, set[int]]:
    """Return the conversations that each of these requests names, of deletions without those that have a mark."""
    redacted = {request_id: {number} for request_id, number in _find_redacted(requests).items()}
    return legal_holds.find_named(_deletions(requests)) | redacted


def _deletions(requests: Collection[ComplianceRequest]) -> list[UUID]:
    return [one.pk for one in requests if one.kind == Kind.DELETION]


def _find_redacted(requests: Collection[ComplianceRequest]) -> dict[UUID, int]:
    """Return the conversation of each redaction among these requests."""
    redactions = [one.pk for one in requests if one.kind == Kind.REDACTION]
    return dict(Redaction.objects.filter(request__in=redactions).values_list("request", "conversation_id"))


def _log(event: str, hold: LegalHold, actor: str, data: changelog.Data | None = None) -> None:
    changelog.record(event, chatbot_id=hold.chatbot_id, actor=actor, data={"hold": str(hold.pk), **(data or {})})


def _now() -> datetime:
    [(now,)] = fetch("SELECT statement_timestamp()")
    return now  # type: ignore[no-any-return]
