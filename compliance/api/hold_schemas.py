"""Bodies and responses of the operations on legal holds."""

from collections.abc import Mapping
from typing import Any, Literal, Self
from uuid import UUID

from django.db.models import Q
from django.utils import timezone
from pydantic import ConfigDict, Field

from chatbots.models import Chatbot
from common.problems import FieldError
from common.texts import REFERENCE
from common.times import UtcInstant
from compliance import holds
from compliance.api.selector_body import BY_CONVERSATIONS, BY_UCI, INSTANT, ONE_SELECTOR, SelectorBase, StrictBody
from compliance.holds import TIMES, HoldInput
from compliance.models import LegalHold
from compliance.requests.inputs import read_instants
from config.openapi.operations import ResponseModel, ResponsePage, Stored

State = Literal["in_force", "due_for_review", "released"]
IN_STATE: Mapping[str, Q] = {
    "in_force": Q(released_at=None),
    "due_for_review": holds.due_for_review(),
    "released": Q(released_at__isnull=False),
}

_SELECTORS = (*BY_UCI, BY_CONVERSATIONS)


class HoldBody(SelectorBase):
    """A legal hold to be placed on one chatter, on conversations, or on the whole chatbot."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {
                "title": "The whole chatbot",
                "properties": {"whole_chatbot": {"const": True}},
                "required": ["whole_chatbot"],
            },
            "then": {"properties": {name: {"type": "null"} for name in _SELECTORS}},
            "else": ONE_SELECTOR,
        }
    )

    whole_chatbot: bool | None = None
    """Instead of a chatter and of conversations: all conversations of the chatbot."""
    matter: str = Field(pattern=REFERENCE)
    """Your own reference of the matter. It is kept until 90 days (`ERASURE_LEDGER_DAYS`) after the release, so it
    must contain neither the chatter's value nor an id of a conversation."""
    basis: LegalHold.Basis = Field(strict=False)
    """Why the law permits or demands to keep the data."""
    review_at: str = Field(min_length=1, json_schema_extra=INSTANT)
    """When an officer checks whether the hold is still needed, within 12 months: a date in the chatbot's time zone,
    or an instant with an offset. The hold stays in force after it."""
    began_from: str | None = Field(None, min_length=1, json_schema_extra=INSTANT)
    """Only conversations that began then or later."""
    began_before: str | None = Field(None, min_length=1, json_schema_extra=INSTANT)
    """Only conversations that began before then."""

    def as_input(self, chatbot: Chatbot) -> HoldInput:
        """Return the hold. Raises Refused(`invalid`)."""
        return HoldInput(
            selector=None if self.whole_chatbot else self.selector,
            matter=self.matter,
            basis=self.basis,
            **read_instants(self.model_dump(include=set(TIMES)), chatbot),
        )

    @classmethod
    def selector_errors(cls, given: Any) -> list[FieldError]:
        if not isinstance(given, dict) or given.get("whole_chatbot") is not True:
            detail = "This field is required, or conversation_ids, or whole_chatbot: true."
            errors = super().selector_errors(given)
            return [one._replace(detail=detail) if one.code == "missing" else one for one in errors]
        detail = "Name a chatter, conversations, or the whole chatbot, not several in one call."
        return [
            FieldError(pointer=f"/{name}", code="conflict", detail=detail)
            for name in _SELECTORS
            if given.get(name) is not None
        ]


class ReviewBody(StrictBody):
    """The next review of a hold."""

    review_at: str = Field(min_length=1, json_schema_extra=INSTANT)
    """Within 12 months, as when the hold is placed."""


class ReleaseBody(StrictBody):
    """Why a hold is released."""

    reason: LegalHold.ReleaseReason = Field(strict=False)
    """Kept in the change log."""


class HoldCounts(ResponseModel):
    """Conversations for which a hold came in time, or too late. All 0 once it is released."""

    held: int
    """Those that it covers now. It also covers what is stored later."""
    already_marked: int
    """Those that are being erased: nothing stops that."""
    already_erased: int
    """Those that were erased. Of a chatter: all that deletions of the chatter have erased, whenever they began."""


class HoldObject(ResponseModel):
    """A legal hold. It never contains the chatter's value or an id of a conversation."""

    hold_id: UUID
    state: Literal["in_force", "released"]
    due_for_review: bool
    """It is past `review_at`, and stays in force."""
    scope: Stored[LegalHold.Scope]
    unique_chatter_identifier_key: str | None
    """Of a hold on a chatter: the name of the UCI."""
    began_from: UtcInstant | None
    began_before: UtcInstant | None
    matter: str
    """Your own reference. Empty from 90 days (`ERASURE_LEDGER_DAYS`) after the release."""
    basis: Stored[LegalHold.Basis]
    placed_at: UtcInstant
    placed_by: str
    """`api:` and the prefix of a key, `user:` and the number of a staff user, or `command`. All keys count as one,
    and another one releases the hold."""
    review_at: UtcInstant
    reviewed_at: UtcInstant | None
    released_at: UtcInstant | None
    release_reason: Stored[LegalHold.ReleaseReason] | None

    @classmethod
    def of(cls, hold: LegalHold, **more: Any) -> Self:
        """Return a hold. `more`: the fields of a subclass."""
        is_over = hold.released_at is not None
        return cls.model_validate(
            vars(hold)
            | {
                "hold_id": hold.pk,
                "state": "released" if is_over else "in_force",
                "due_for_review": not is_over and hold.review_at <= timezone.now(),
                "unique_chatter_identifier_key": hold.variable.name if hold.variable else None,
                "release_reason": hold.release_reason or None,
            }
            | more
        )


class CountedHold(HoldCounts, HoldObject):
    """A legal hold, and what it covers now."""


class HoldInDetail(CountedHold):
    """A legal hold, what it covers, and what waits for its release."""

    waiting_requests: list[UUID]
    """The requests that it keeps `on_hold`, in the order of filing. Other holds can keep them too."""


class ReleasedHold(HoldObject):
    """A hold that was released."""

    continued: list[UUID]
    """The requests that continue, since no hold keeps them any more."""


class HoldPage(ResponsePage):
    """A page of holds, the newest first."""

    results: list[HoldObject]
