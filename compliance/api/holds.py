"""Legal holds: place, list, review and release them.

All calls accept tokens only: a signature does not cover the path, which identifies the hold, and a captured one could
place a hold again that was released meanwhile.
"""

from datetime import timedelta
from http import HTTPStatus
from uuid import UUID

from django.utils import timezone
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.pagination import PageQuery
from common.problems import Problem
from common.query import read_query
from compliance import hold_coverage, holds
from compliance.api.base import ComplianceView, NewestFirst
from compliance.api.bodies import parse
from compliance.api.examples import CHATTER
from compliance.api.hold_schemas import (
    IN_STATE,
    CountedHold,
    HoldBody,
    HoldCounts,
    HoldInDetail,
    HoldObject,
    HoldPage,
    ReleaseBody,
    ReleasedHold,
    ReviewBody,
    State,
)
from compliance.hold_coverage import Coverage
from compliance.models import LegalHold
from compliance.requests.inputs import read_instants
from config.openapi.document import HOLDS
from config.openapi.operations import answer, describe, link, parameters_of, takes

Scope = ApiKey.Scope


class HoldsQuery(PageQuery):
    state: State | None = Field(None, examples=["in_force"])
    """Holds in this state: `in_force` includes those due for review, which are past `review_at`."""


_ID = "01a20e4f-6b1d-7c55-9f0e-2f6a41c7d3b8"
_COUNTS = {"held": 3, "already_marked": 0, "already_erased": 1}
_HOLD = {
    **dict.fromkeys(HoldObject.model_fields),
    "hold_id": _ID,
    "state": "in_force",
    "due_for_review": False,
    "scope": "uci",
    "unique_chatter_identifier_key": "member_id",
    "matter": "CASE-0815",
    "basis": "legal_claims",
    "placed_at": "2026-11-24T16:06:39.565862Z",
    "placed_by": "api:1f8c2a9d4b07",
    "review_at": "2027-05-24T00:00:00.000000Z",
}
# A sample that is run must not be in the past.
_REVIEW = {"review_at": f"{timezone.now() + timedelta(days=180):%Y-%m-%d}"}
_WHY = {"matter": "CASE-0815", "basis": "legal_claims", **_REVIEW}
_BODIES = takes(
    HoldBody,
    ("chatter", CHATTER | _WHY, "The chatter with member_id 42"),
    ("conversations", {"conversation_ids": ["c-1001", "c-1002"], **_WHY}, "Two conversations"),
    ("chatbot", {"whole_chatbot": True, "began_before": "2026-11-01", **_WHY}, "All that began before November"),
)
_LINKS = {
    name: link(operation, text, hold_id="$response.body#/hold_id")
    for name, operation, text in (
        ("get", "getLegalHold", "See what it covers, and what waits for its release."),
        ("review", "reviewLegalHold", "Set the next review."),
        ("release", "releaseLegalHold", "Release it."),
    )
}


class HoldsView(ComplianceView):
    scope = Scope.HOLDS_READ
    post_scope = Scope.HOLDS_WRITE
    takes_long = ["POST"]

    @describe(
        operation_id="listLegalHolds",
        summary="List legal holds",
        description="The chatbot's holds, the newest first, a page at a time: follow `next` until it is null.",
        tag=HOLDS,
        parameters=parameters_of(HoldsQuery),
        responses={
            200: answer(
                HoldPage,
                "A page of holds.",
                ("page", {"results": [_HOLD], "next": None, "previous": None}, "The only page"),
            )
        },
        refuses=["invalid"],
    )
    def get(self, request: Request, **_path: str) -> Response:
        query = read_query(request, HoldsQuery)
        pages = NewestFirst(query)
        found = LegalHold.objects.filter(chatbot=caller_of(request).chatbot).select_related("variable")
        if query.state:
            found = found.filter(IN_STATE[query.state])
        return pages.get_paginated_response([HoldObject.of(hold) for hold in pages.paginate_queryset(found, request)])

    @describe(
        operation_id="placeLegalHold",
        summary="Place a legal hold",
        description="""
            Keeps data from every erasure until the hold is released: deletions, redactions, retention, late data.
            Once it is answered, nothing that it counts as `held` is erased, and what is stored later is held too. A
            deletion or redaction that meets it is `on_hold` with `legal_hold`. Data compliance need not be switched
            on. If a hold with the same subject, window, matter and basis is in force, it is returned with 200.
            """,
        tag=HOLDS,
        request=_BODIES,
        responses={
            201: answer(CountedHold, "The hold is in force.", ("placed", _HOLD | _COUNTS, "Just placed")),
            200: answer(CountedHold, "An equal hold is in force.", ("equal", _HOLD | _COUNTS, "Placed before")),
        },
        refuses=["unknown_uci_key", "uci_not_designated"],
        links=_LINKS,
    )
    def post(self, request: Request, **_path: str) -> Response:
        caller = caller_of(request)
        asked = parse(HoldBody, json_body(request)).as_input(caller.chatbot)
        hold, covered, is_equal = holds.place(chatbot=caller.chatbot, given_input=asked, actor=caller.actor)
        status = HTTPStatus.OK if is_equal else HTTPStatus.CREATED
        return Response(CountedHold.of(hold, **covered._asdict()), status=status)


class PreviewHoldView(ComplianceView):
    scope = Scope.HOLDS_WRITE
    takes_long = ["POST"]

    @describe(
        operation_id="previewLegalHold",
        summary="See what a legal hold would cover",
        description="Takes the body of a hold, and returns what it would cover now. Nothing is written.",
        tag=HOLDS,
        request=_BODIES,
        responses={200: answer(HoldCounts, "What it would cover.", ("counts", _COUNTS, "A chatter"))},
        refuses=["unknown_uci_key", "uci_not_designated"],
    )
    def post(self, request: Request, **_path: str) -> Response:
        chatbot = caller_of(request).chatbot
        asked = parse(HoldBody, json_body(request)).as_input(chatbot)
        return Response(HoldCounts.model_validate(holds.preview(chatbot=chatbot, given_input=asked)))


class HoldView(ComplianceView):
    scope = Scope.HOLDS_READ
    takes_long = ["GET", "HEAD"]

    @describe(
        operation_id="getLegalHold",
        summary="Get a legal hold",
        description="With what it covers now, and the requests that wait for its release.",
        tag=HOLDS,
        responses={
            200: answer(
                HoldInDetail,
                "The hold as it is now.",
                (
                    "held",
                    _HOLD | _COUNTS | {"waiting_requests": ["01a20e4f-2ccd-727b-ad28-e544e31ea60e"]},
                    "A deletion waits",
                ),
            )
        },
        links=_LINKS,
    )
    def get(self, request: Request, *, hold_id: UUID, **_path: str) -> Response:
        found = LegalHold.objects.filter(chatbot=caller_of(request).chatbot, pk=hold_id)
        hold = found.select_related("chatbot", "variable").first()
        if hold is None:
            raise Problem("not_found", "This chatbot has no such legal hold.")
        is_over = hold.released_at is not None
        covered = Coverage(0, 0, 0) if is_over else hold_coverage.coverage(hold)
        waiting = [] if is_over else [one.request.pk for one in hold_coverage.waiting_for(hold)]
        return Response(HoldInDetail.of(hold, **covered._asdict(), waiting_requests=waiting))


class ReviewHoldView(ComplianceView):
    scope = Scope.HOLDS_WRITE

    @describe(
        operation_id="reviewLegalHold",
        summary="Record the review of a legal hold",
        description="The hold is still needed: sets its next `review_at`, within 12 months.",
        tag=HOLDS,
        request=takes(ReviewBody, ("half_a_year", _REVIEW, "In half a year")),
        responses={
            200: answer(
                HoldObject,
                "The hold.",
                ("reviewed", _HOLD | {"reviewed_at": "2027-05-20T08:00:00.000000Z"}, "Just reviewed"),
            )
        },
        refuses=["released"],
        links=_LINKS,
    )
    def post(self, request: Request, *, hold_id: UUID, **_path: str) -> Response:
        caller = caller_of(request)
        times = read_instants(parse(ReviewBody, json_body(request)).model_dump(), caller.chatbot)
        hold = holds.review(chatbot=caller.chatbot, hold_id=hold_id, actor=caller.actor, **times)
        return Response(HoldObject.of(hold))


class ReleaseHoldView(ComplianceView):
    scope = Scope.HOLDS_WRITE

    @describe(
        operation_id="releaseLegalHold",
        summary="Release a legal hold",
        description="""
            **What waits for it is erased then.** Whoever placed a hold does not release it, and all keys of a chatbot
            count as one: a key releases holds of staff. Holds of keys are released by officers in the console.
            """,
        tag=HOLDS,
        request=takes(ReleaseBody, ("reason", {"reason": "matter_closed"}, "The matter is closed")),
        responses={
            200: answer(
                ReleasedHold,
                "The hold, and the requests that continue.",
                (
                    "released",
                    _HOLD
                    | {"state": "released", "placed_by": "user:7", "released_at": "2027-05-20T08:00:00.000000Z"}
                    | {"release_reason": "matter_closed", "continued": ["01a20e4f-2ccd-727b-ad28-e544e31ea60e"]},
                    "A deletion continues",
                ),
            )
        },
        refuses=["own_hold", "released"],
    )
    def post(self, request: Request, *, hold_id: UUID, **_path: str) -> Response:
        caller = caller_of(request)
        reason = parse(ReleaseBody, json_body(request)).reason
        hold, continued = holds.release(chatbot=caller.chatbot, hold_id=hold_id, reason=reason, actor=caller.actor)
        return Response(ReleasedHold.of(hold, continued=continued))
