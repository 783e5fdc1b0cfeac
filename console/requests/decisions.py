"""The decisions a user can make on a request, each a call into `compliance.requests.decisions`, and their forms."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from django import forms
from django.http import HttpRequest
from django.utils import timezone

from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.models.notes import MOST_CHARACTERS_OF_NOTE
from compliance.requests import decisions
from compliance.requests.reasons import REASONS, Decision
from console.common.scope import DECIDE, MANAGE_REQUESTS, Role, actor_of, has_role, may

HoldReason = ComplianceRequest.HoldReason
Status = ComplianceRequest.Status


@dataclass(frozen=True)
class DecisionOption:
    operation: Callable[..., ComplianceRequest]
    roles: tuple[Role, ...]
    label: str
    icon: str
    style: str  # of its button
    effect: str
    done: str


# The decisions with a dialog on the page of the request. `request_page.limit` has the one under a hold.
OPTIONS: Mapping[Decision, DecisionOption] = {
    Decision.APPROVE: DecisionOption(
        decisions.approve,
        DECIDE,
        "Approve",
        "check",
        "primary",
        "An approved request continues at once, or at its time if that is still to come. If there is another reason "
        "to hold it, it needs another approval.",
        "approved",
    ),
    Decision.REJECT: DecisionOption(
        decisions.reject,
        DECIDE,
        "Reject",
        "cross",
        "danger",
        "The request ends without being carried out, and any value it names is erased. This cannot be undone.",
        "rejected",
    ),
    Decision.RETRY: DecisionOption(
        decisions.retry,
        MANAGE_REQUESTS,
        "Retry",
        "retry",
        "primary",
        "The request goes to the end of the queue and is tried again.",
        "queued again",
    ),
    Decision.EXTEND: DecisionOption(
        decisions.extend,
        DECIDE,
        "Extend deadline",
        "clock",
        "",
        "The deadline moves, once: to three months after the person asked (GDPR), 90 days (CCPA), or twice the "
        "number of days. Tell the person the reason before the present deadline.",
        "extended",
    ),
    Decision.CANCEL: DecisionOption(
        decisions.cancel,
        MANAGE_REQUESTS,
        "Cancel request",
        "cross",
        "",
        "The request ends before it starts, and any value it names is erased. This cannot be undone.",
        "cancelled",
    ),
}


def is_possible(decision: Decision, request: ComplianceRequest, *, is_retryable: bool) -> bool:
    """Return whether the request's state allows the decision. The operation checks again."""
    if decision is Decision.APPROVE:
        is_held = request.status == Status.ON_HOLD and request.hold_reason != HoldReason.LEGAL_HOLD
        return is_held or decisions.awaits_approval(request)
    if decision is Decision.REJECT:
        return request.status == Status.ON_HOLD and decisions.is_cancellable(request)
    if decision is Decision.RETRY:
        return request.status == Status.FAILED and is_retryable
    if decision is Decision.EXTEND:
        return decisions.find_extension_refusal(request, timezone.now()) is None
    return decisions.is_cancellable(request)


def available(call: HttpRequest, request: ComplianceRequest, *, is_retryable: bool) -> list[Decision]:
    possible = [one for one in OPTIONS if is_possible(one, request, is_retryable=is_retryable)]
    allowed = [one for one in possible if may(call, request.chatbot, roles_for(one, request))]
    if Decision.APPROVE in allowed and decisions.needs_second_person(request, actor_of(call)):
        allowed.remove(Decision.APPROVE)
    return allowed


def roles_for(decision: Decision, request: ComplianceRequest) -> tuple[Role, ...]:
    """Return the roles that may make the decision. Officers decide on a retention run, as they do on its period."""
    return DECIDE if request.kind == ComplianceRequest.Kind.RETENTION else OPTIONS[decision].roles


def roles_to_start(request: ComplianceRequest) -> tuple[Role, ...]:
    """Return the roles that may end the console's time to cancel a request."""
    return MANAGE_REQUESTS if request.kind == ComplianceRequest.Kind.REDACTION else DECIDE


def available_in_bulk(call: HttpRequest) -> list[Decision]:
    return [one for one, option in OPTIONS.items() if has_role(call, option.roles)]


def decide(
    call: HttpRequest,
    decision: Decision,
    request_id: UUID,
    *,
    reason: str,
    note: str = "",
    held_for: str | None = None,
) -> ComplianceRequest:
    """Carry out a decision in the user's name. `held_for` is the hold, or the status, that the page showed.

    Raises Refused.
    """
    seen = {"held_for": held_for} if decision is Decision.APPROVE else {}
    return OPTIONS[decision].operation(request_id=request_id, actor=actor_of(call), reason=reason, note=note, **seen)


def decide_all(
    call: HttpRequest,
    decision: Decision,
    requests: Iterable[ComplianceRequest],
    *,
    reason: str,
    held_for: Mapping[str, str],
) -> Counter[str]:
    """Decide on each request, in the order given. Counts the errors; for decided requests, the empty string.

    `held_for`: a request's id -> the hold that the page showed, or the status if it was not on hold.
    """
    results = Counter[str]()
    for request in requests:
        if not may(call, request.chatbot, roles_for(decision, request)):
            results["Your role in this chatbot does not allow it."] += 1
            continue
        try:
            decide(call, decision, request.pk, reason=reason, held_for=held_for.get(str(request.pk)))
        except Refused as refusal:
            results[refusal.detail] += 1
        else:
            results[""] += 1
    return results


class DecisionForm(forms.Form):
    """The reason for a decision, and the hold, or the status, that the page showed."""

    held_for = forms.CharField(required=False, empty_value=None, widget=forms.HiddenInput)
    reason = forms.ChoiceField(error_messages={"required": "Choose a reason."})
    note = forms.CharField(
        label="Note (optional)",
        required=False,
        max_length=MOST_CHARACTERS_OF_NOTE,
        # A browser that restores the text would keep it longer than we do.
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off"}),
        help_text="Visible to everyone who can see the request. Write no more about the person than necessary: the "
        "note is erased with the person's data, but the decision and its reason stay in the change log.",
    )

    def __init__(self, *args: Any, decision: Decision, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"prefix": decision.value}))
        self.decision = decision
        reason = cast("forms.ChoiceField", self.fields["reason"])
        reason.choices = [("", "Choose one"), *REASONS[decision].choices]

    @property
    def option(self) -> DecisionOption:
        return OPTIONS[self.decision]


class BulkForm(forms.Form):
    choice = forms.ChoiceField(error_messages={"required": "Choose what to do with the selected requests."})

    def __init__(self, *args: Any, decisions: list[Decision], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = cast("forms.ChoiceField", self.fields["choice"])
        choice.choices = [
            ("", "Choose a decision and its reason"),
            *(
                (decision.value.title(), [(f"{decision}:{code}", label) for code, label in REASONS[decision].choices])
                for decision in decisions
            ),
        ]

    @property
    def chosen(self) -> tuple[Decision, str]:
        """The decision and its reason, of a valid form."""
        decision, _, reason = self.cleaned_data["choice"].partition(":")
        return Decision(decision), reason
