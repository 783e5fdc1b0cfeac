"""Legal holds: place, review and release them, and find what they cover.

Placing and releasing exclude the chatbot's marks and intakes (`conversations.locks`). So each mark comes either
before, and its data is being erased, which the answer counts; or after, and it finds the hold
(`compliance.work.legal_holds`). The same transaction that releases a hold lets the requests continue that waited
for no other one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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
from compliance import hold_coverage
from compliance.cluster import notify
from compliance.errors import Refused
from compliance.hold_coverage import Coverage
from compliance.models import ComplianceRequest, LegalHold, LegalHoldConversation
from compliance.models.holds import legal_hold_binding
from compliance.requests.decisions import party
from compliance.requests.inputs import ChatbotConfig
from compliance.requests.selectors import ByUci, Selector
from compliance.work.outbox import log
from conversations.locks import wait_for_intake

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

_BY_YOU = "You have placed the hold: another officer releases it in the console."
_OWN = {
    "api": "All keys of a chatbot count as one: an officer releases it in the console.",
    "command": "All commands count as one: an officer releases it in the console.",
}
# An officer checks at least once a year whether a hold is still needed.
LONGEST_REVIEW = timedelta(days=366)

_CONTINUE = """
UPDATE compliance_compliancerequest SET status = 'accepted', hold_reason = NULL, answered_at = NULL
 WHERE id = ANY(%s::uuid[]) AND status = 'on_hold' AND hold_reason = 'legal_hold' RETURNING id
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


# The fields of a hold that are given as texts, for `read_instants`.
TIMES = ("review_at", "began_from", "began_before")


def preview(*, chatbot: Chatbot, given_input: HoldInput) -> Coverage:
    """Return what a hold would cover now. Raises Refused as `place` does."""
    return hold_coverage.count(*_checked(chatbot, given_input, placed_by=""))


def would_wait(*, chatbot: Chatbot, given_input: HoldInput) -> list[ComplianceRequest]:
    """Return the requests that a hold would keep if it were placed now. Raises Refused as `place` does."""
    return hold_coverage.would_wait(*_checked(chatbot, given_input, placed_by=""))


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
    return placed, hold_coverage.count(placed, digests), equal is not None


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
        if (placer := party(hold.placed_by)) == party(actor):
            raise Refused("own_hold", _OWN.get(placer, _BY_YOU))
        hold.released_at, hold.released_by, hold.release_reason = _now(), actor, reason
        hold.value_encrypted = ""
        hold.save(update_fields=["released_at", "released_by", "release_reason", "value_encrypted"])
        _log("hold.released", hold, actor, {"reason": reason})
        free = release_unheld(chatbot)
    return hold, free


def release_unheld(chatbot: Chatbot) -> list[UUID]:
    """Let the requests continue that no hold keeps any more, and return them.

    In the transaction that releases a hold, or after a replay has released one. No mark may be under way.
    """
    waiting = hold_coverage.on_hold(chatbot)
    still_held = hold_coverage.find_held(waiting)
    free = [one.pk for one in waiting if one.pk not in still_held]
    # Some may have been cancelled or rejected since they were read.
    free = [request_id for (request_id,) in fetch(_CONTINUE, [array(free)])]
    log("request.released", [(request_id, chatbot.pk, {"reason": "legal_hold"}) for request_id in free])
    if free:
        notify.after_commit(notify.notify_workers)
    return free


def value_of(hold: LegalHold) -> str | None:
    """Return the UCI value of a hold in force, or None if there is none. Raises SecretUnreadable."""
    stored = hold.value_encrypted
    return crypto.decrypt(stored, bound_to=legal_hold_binding(hold.pk)) if stored else None


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
    return next((one for one in same.order_by("pk") if set(hold_coverage.digests_of(one)) == set(digests)), None)


def _locked(chatbot: Chatbot, hold_id: UUID) -> LegalHold:
    """Return a hold in force, locked. Raises Refused (`not_found`, `released`)."""
    hold = LegalHold.objects.select_for_update().filter(pk=hold_id, chatbot=chatbot).first()
    if hold is None:
        raise Refused("not_found", "There is no such legal hold.")
    if hold.released_at is not None:
        raise Refused("released", "The legal hold was released already.")
    return hold


def _log(event: str, hold: LegalHold, actor: str, data: changelog.Data | None = None) -> None:
    changelog.record(event, chatbot_id=hold.chatbot_id, actor=actor, data={"hold": str(hold.pk), **(data or {})})


def _now() -> datetime:
    [(now,)] = fetch("SELECT statement_timestamp()")
    return now  # type: ignore[no-any-return]
