"""Extend the deadline of a request, and record that its person was answered."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from compliance.api.base import ComplianceView, find_request, request_objects
from compliance.api.bodies import parse
from compliance.api.examples import request as example
from compliance.api.schemas import RequestObject
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from compliance.requests.reasons import Letter
from config.openapi.document import REQUESTS
from config.openapi.operations import answer, describe, takes

ExtensionReason = ComplianceRequest.ExtensionReason


class ExtendBody(BaseModel):
    """Why the deadline is extended."""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

    reason: ExtensionReason = Field(strict=False)
    """One of the two that Art. 12(3) GDPR allows. Tell it to the person, too."""


class AnsweredBody(BaseModel):
    """The letter that the person got."""

    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

    letter: Letter = Field(strict=False)
    """`held`: the request is on hold; `refused`: it is rejected."""


_ON_HOLD = {"status": "on_hold", "hold_reason": "awaiting_approval"}
_EXTENDED = example(
    "deletion",
    **_ON_HOLD,
    due_at="2027-02-24T22:59:59.000000Z",
    extended_at="2026-12-21T09:30:00.412077Z",
    extension_reason="complexity",
)
_ANSWERED = example("deletion", **_ON_HOLD, answered_at="2026-12-21T09:30:00.412077Z")


class ExtendView(ComplianceView):
    scope = ApiKey.Scope.REQUESTS_APPROVE

    @describe(
        operation_id="extendRequest",
        summary="Extend the deadline of a request",
        description="""
            Once, and before `due_at`: to three months (`gdpr`), 90 days (`ccpa`) or twice the days, counted anew from
            `requested_at`. The request must be open, and not a retention run. The work goes on as before. If the
            request or the chatbot has an address for callbacks, it receives `request.extended`.
            """,
        tag=REQUESTS,
        request=takes(ExtendBody, ("reason", {"reason": "complexity"}, str(ExtensionReason.COMPLEXITY.label))),
        responses={200: answer(RequestObject, "The request, extended.", ("extended", _EXTENDED, "A held deletion"))},
        refuses=["already_extended", "deadline_passed", "not_extendable"],
    )
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        reason = parse(ExtendBody, json_body(request)).reason
        found = find_request(request, request_id)
        actor = caller_of(request).actor
        return _respond_with(request, decisions.extend(request_id=found.pk, actor=actor, reason=reason))


class AnsweredView(ComplianceView):
    scope = ApiKey.Scope.REQUESTS_APPROVE

    @describe(
        operation_id="recordAnswer",
        summary="Record that the person was answered",
        description="""
            You have told the person that the request is refused, or held: it is neither overdue nor due soon any
            more. A request that is answered already is returned as it is.
            """,
        tag=REQUESTS,
        request=takes(AnsweredBody, ("held", {"letter": "held"}, str(Letter.HELD.label))),
        responses={200: answer(RequestObject, "The request, answered.", ("answered", _ANSWERED, "A held deletion"))},
        refuses=["not_answerable"],
    )
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        letter = parse(AnsweredBody, json_body(request)).letter
        found = find_request(request, request_id)
        actor = caller_of(request).actor
        return _respond_with(request, decisions.record_answer(request_id=found.pk, actor=actor, letter=letter))


def _respond_with(call: Request, request: ComplianceRequest) -> Response:
    [shown] = request_objects(call, RequestObject, [request])
    return Response(shown)
