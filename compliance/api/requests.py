"""Find and follow requests, decide on them and on their deadlines, and download exports."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.db.models import Choices
from django.urls import reverse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.pagination import PageQuery
from common.problems import invalid_field
from common.query import read_query
from common.texts import REFERENCE
from common.times import Instant
from compliance.api.base import (
    ChangingView,
    ComplianceView,
    NewestFirst,
    find_cancellable,
    find_request,
    request_objects,
    respond_with,
)
from compliance.api.bodies import (
    AnsweredBody,
    ApproveBody,
    CancelBody,
    DecisionBody,
    ExtendBody,
    RejectBody,
    SelectorBody,
    parse,
    read_decision,
)
from compliance.api.examples import BOTH_SELECTORS, DELETED, EXPORTED, links
from compliance.api.examples import request as example
from compliance.api.schemas import RequestLookup, RequestObject, RequestPage
from compliance.models import ComplianceRequest
from compliance.requests import decisions, downloads, queries
from compliance.requests.reasons import ApproveReason, CancelReason, Letter, RejectReason
from config.openapi.document import REQUESTS
from config.openapi.operations import answer, describe, location_header, parameters_of, takes

Scope = ApiKey.Scope


class RequestsQuery(PageQuery):
    """`received_after` is included, `received_before` is not, so consecutive windows do not overlap."""

    status: ComplianceRequest.Status | None = Field(None, examples=["on_hold"])
    """Requests in this state now."""
    kind: ComplianceRequest.Kind | None = Field(None, examples=["deletion"])
    """Deletions or exports."""
    reference: str | None = Field(None, pattern=REFERENCE, examples=["TICKET-7"])
    """Requests with exactly this reference of yours: open ones, and those that ended in the last 90 days."""
    received_after: Instant | None = Field(None, examples=["2026-11-01T00:00:00Z"])
    """Requests received at this instant or later."""
    received_before: Instant | None = Field(None, examples=["2026-12-01T00:00:00Z"])
    """Requests received before this instant."""


class RequestsView(ComplianceView):
    scope = Scope.REQUESTS_READ

    @describe(
        operation_id="listRequests",
        summary="List requests",
        description="""
            The chatbot's requests, the newest first, a page at a time: follow `next` until it is null. Filters are
            combined. Requests filed while you read do not shift the pages.
            """,
        tag=REQUESTS,
        parameters=parameters_of(RequestsQuery),
        responses={
            200: answer(
                RequestPage,
                "A page of requests.",
                ("page", {"results": [EXPORTED, DELETED], "next": None, "previous": None}, "The only page"),
            )
        },
        refuses=["invalid"],
        links=links("follow", "download", "cancel", "approve", at="/results/0"),
    )
    def get(self, request: Request, **_path: str) -> Response:
        query = read_query(request, RequestsQuery)
        pages = NewestFirst(query)
        filters = query.model_dump(exclude=set(PageQuery.model_fields))
        found = pages.paginate_queryset(queries.newest(caller_of(request).chatbot, **filters), request)
        return pages.get_paginated_response(request_objects(request, RequestObject, found))


class LookupView(ComplianceView):
    """A POST, so that no value or id is in an address."""

    scope = Scope.REQUESTS_READ

    @describe(
        operation_id="lookUpRequests",
        summary="Find the requests about a chatter, or about conversations",
        description="""
            The newest first, 200 at most. With `conversation_ids`: those about one of these conversations by its
            id. Requests are found as long as their digests are kept: all open ones, and those that ended in the
            last 90 days, unless the operator has set another period. It is a POST, since neither a value nor an id
            belongs in an address. It changes nothing.
            """,
        tag=REQUESTS,
        request=takes(SelectorBody, *BOTH_SELECTORS),
        responses={
            200: answer(
                RequestLookup,
                "The requests.",
                ("found", {"results": [DELETED, EXPORTED], "left_out": 0}, "One export and one deletion"),
            )
        },
        refuses=["unknown_uci_key", "uci_not_designated"],
        links=links("follow", at="/results/0"),
    )
    def post(self, request: Request, **_path: str) -> Response:
        body = parse(SelectorBody, json_body(request))
        found = queries.find_by_selector(caller_of(request).chatbot, body.selector)
        return Response(
            {"results": request_objects(request, RequestObject, found.requests), "left_out": found.left_out}
        )


class RequestView(ComplianceView):
    scope = Scope.REQUESTS_READ

    @describe(
        operation_id="getRequest",
        summary="Follow a request",
        description="Every few seconds is fine. `completed`, `rejected` and `cancelled` are final.",
        tag=REQUESTS,
        responses={
            200: answer(
                RequestObject,
                "The request as it is now.",
                ("export", EXPORTED, "An export that is done"),
                ("deletion", DELETED, "A deletion that is done"),
                (
                    "on_hold",
                    example("deletion", status="on_hold", hold_reason="too_many_conversations"),
                    "A deletion that waits for a decision",
                ),
            )
        },
        links=links("download", "cancel", "approve", "reject", "extend", "resend"),
    )
    def get(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        return respond_with(request, find_request(request, request_id))


class DownloadView(ComplianceView):
    """Redirects to the file of a hosted export, or with `file` to one beside it."""

    scope = Scope.REQUESTS_READ

    @describe(
        operation_id="downloadExport",
        summary="Fetch the file of an export",
        description="""
            Redirects to a hosted file by a link of this service that works for 5 minutes, needs no key and contains
            no value. It redirects once more, to the storage: that address works for a minute and contains the
            chatter's value, so keep it out of logs. A link whose time is over, or whose file was removed meanwhile,
            is answered with 410 `download_expired` or `download_removed`: a problem, or a page for browsers. The
            change log records the key that asked for the link. Files in your own bucket are fetched there.
            """,
        tag=REQUESTS,
        parameters=[
            OpenApiParameter(
                "file",
                {"type": "string", "pattern": "^[0-9a-z.-]{1,40}$"},
                description="Instead of the export's own file, the one with this `name` in `files`: for the copy of "
                "an uploaded file, its `file_id`.",
                examples=[OpenApiExample("file", "index.html")],
            ),
            location_header(
                "The link.",
                example="https://compliance.example.com/api/downloads/v1:k1:Zm9sbG93IG1lIGFzIEkgYW0...",
            ),
        ],
        responses={302: OpenApiResponse(None, "Follow `Location`.")},
        refuses=["invalid", "in_client_bucket", "not_ready", "export_expired"],
    )
    def get(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        found = find_request(request, request_id)
        name = request.query_params.get("file")
        if name is not None and not re.fullmatch(r"[0-9a-z.-]{1,40}", name):
            raise invalid_field("/file", "invalid", "Must be the name of a file of the export, as in its status.")
        token = downloads.issue(found, actor=caller_of(request).actor, name=name)
        link = request.build_absolute_uri(reverse("download", args=[token]))
        return Response(status=HTTPStatus.FOUND, headers={"Location": link, "Cache-Control": "no-store"})


def _describe_decision(model: type[DecisionBody], reason: Choices, to: str, **more: Any) -> Callable[[Any], Any]:
    """Describe a decision about a request, which has a reason and leads `to` a state."""
    is_required = model.model_fields["reason"].is_required()
    decided = example("deletion", status=to, finished_at=None if to == "accepted" else "2026-11-24T16:10:02.100200Z")
    return describe(
        tag=REQUESTS,
        request=takes(
            model,
            ("reason", {"reason": reason.value}, str(reason.label)),
            *(() if is_required else [("empty", {}, "Without a reason; the body may be left out, too")]),
        ),
        body_required=is_required,
        responses={200: answer(RequestObject, f"The request, {to}.", (to, decided, f"A deletion that is {to}"))},
        **more,
    )


class CancelView(ChangingView):
    @_describe_decision(
        CancelBody,
        CancelReason.WITHDRAWN_BY_PERSON,
        "cancelled",
        operation_id="cancelRequest",
        summary="Withdraw a request",
        description="""
            As long as it waits: `accepted`, or `on_hold`. Needs the write scope of its kind. A request that is
            already cancelled is returned as it is. A retention run is cancelled in the console.
            """,
        refuses=["not_cancellable"],
    )
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        return _decide(request, request_id, decisions.cancel, CancelBody, find=find_cancellable)


class ApproveView(ComplianceView):
    scope = Scope.REQUESTS_APPROVE

    @_describe_decision(
        ApproveBody,
        ApproveReason.VERIFIED_WITH_CLIENT,
        "accepted",
        operation_id="approveRequest",
        summary="Let a held request continue",
        description="""
            Past the reason for its hold; if there is another reason, it is held again. If the chatbot requires four
            eyes, a deletion or redaction can be approved as soon as it is filed, while it is `accepted` and no worker
            has it: it keeps its time, and is not held for the approval then. A key approves requests of
            staff. Requests of a key, retention runs, and requests held as `restored` are approved in the console.
            """,
        refuses=["legal_hold", "not_held", "officers_only", "own_request"],
    )
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        return _decide(request, request_id, decisions.approve, ApproveBody)


class RejectView(ComplianceView):
    scope = Scope.REQUESTS_APPROVE

    @_describe_decision(
        RejectBody,
        RejectReason.IDENTITY_NOT_CONFIRMED,
        "rejected",
        operation_id="rejectRequest",
        summary="End a held request",
        description="""
            It is not carried out, and any value it contains is erased. The reason is required: the person has to
            be told it. Retention runs, and requests held as `restored`, are rejected in the console.
            """,
        refuses=["not_cancellable", "not_held", "officers_only"],
    )
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        return _decide(request, request_id, decisions.reject, RejectBody)


def _decide(
    call: Request,
    request_id: UUID,
    decide: Callable[..., ComplianceRequest],
    model: type[DecisionBody],
    *,
    find: Callable[[Request, UUID], ComplianceRequest] = find_request,
) -> Response:
    decision = read_decision(call, model)
    found = find(call, request_id)
    return respond_with(call, decide(request_id=found.pk, actor=caller_of(call).actor, **decision))


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
        request=takes(ExtendBody, ("reason", {"reason": "complexity"}, "The request is complex")),
        responses={200: answer(RequestObject, "The request, extended.", ("extended", _EXTENDED, "A held deletion"))},
        refuses=["already_extended", "deadline_passed", "not_extendable"],
    )
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        reason = parse(ExtendBody, json_body(request)).reason
        found = find_request(request, request_id)
        actor = caller_of(request).actor
        return respond_with(request, decisions.extend(request_id=found.pk, actor=actor, reason=reason))


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
        return respond_with(request, decisions.record_answer(request_id=found.pk, actor=actor, letter=letter))
