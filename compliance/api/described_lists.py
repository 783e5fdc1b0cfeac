"""The calls that find requests again or decide on them, as the document of the API tells of them."""

from drf_spectacular.utils import OpenApiExample, OpenApiRequest, OpenApiResponse
from pydantic import BaseModel

from compliance.api.bodies import ApproveBody, CancelBody, RejectBody, SelectorBody
from compliance.api.examples import CHATTER, CONVERSATIONS, DELETED, EXPORTED, request
from compliance.api.links import from_request
from compliance.api.queries import RequestsQuery
from compliance.api.shapes import RequestObject, RequestPage, RequestsOfChatter
from config.openapi.document import REQUESTS
from config.openapi.operations import describe, parameters_of

list_requests = describe(
    operation_id="listRequests",
    summary="List requests",
    description="""
        The chatbot's requests, the newest first, a page at a time: follow `next` until it is null. Filters add up.
        Requests that come meanwhile shift nothing.
        """,
    tag=REQUESTS,
    parameters=parameters_of(RequestsQuery),
    responses={
        200: OpenApiResponse(
            RequestPage,
            "A page of requests.",
            examples=[
                OpenApiExample(
                    "page", {"results": [EXPORTED, DELETED], "next": None, "previous": None}, summary="The only page"
                )
            ],
        )
    },
    refuses=["invalid"],
    links=from_request("follow", "download", "cancel", "approve", at="/results/0"),
)

look_up_requests = describe(
    operation_id="lookUpRequests",
    summary="Find the requests about a chatter, or about conversations",
    description="""
        The newest first, 200 at most. With `conversation_ids`: those that name one of these conversations by its id.
        Found are those whose digests are kept: all that are not over, and those that ended in the last 90 days,
        unless the operator says otherwise. A POST, since neither a value nor an id stands in an address; it changes
        nothing.
        """,
    tag=REQUESTS,
    request=OpenApiRequest(
        SelectorBody,
        examples=[
            OpenApiExample("chatter", CHATTER, summary="The chatter with member_id 42"),
            OpenApiExample("conversations", CONVERSATIONS, summary="Two conversations"),
        ],
    ),
    responses={
        200: OpenApiResponse(
            RequestsOfChatter,
            "The requests.",
            examples=[
                OpenApiExample(
                    "found", {"results": [DELETED, EXPORTED], "left_out": 0}, summary="One export and one deletion"
                )
            ],
        )
    },
    refuses=["unknown_uci_key", "uci_not_designated"],
    links=from_request("follow", at="/results/0"),
)


def _reason(shape: type[BaseModel], reason: str, summary: str) -> OpenApiRequest:
    examples = [
        OpenApiExample("reason", {"reason": reason}, summary=summary),
        OpenApiExample("empty", {}, summary="Without a reason; no body at all is as good"),
    ]
    return OpenApiRequest(shape, examples=examples)


cancel_request = describe(
    operation_id="cancelRequest",
    summary="Withdraw a request",
    description="""
        As long as it waits: `accepted`, or `on_hold`. Needs the write scope of its kind. A request that is cancelled
        already is answered as it is.
        """,
    tag=REQUESTS,
    request=_reason(CancelBody, "withdrawn_by_person", "The person has withdrawn it"),
    body_required=False,
    responses={
        200: OpenApiResponse(
            RequestObject,
            "The request, cancelled.",
            examples=[
                OpenApiExample(
                    "cancelled",
                    request("deletion", status="cancelled", finished_at="2026-11-24T16:10:02.100200Z"),
                    summary="A deletion that was cancelled",
                )
            ],
        )
    },
    refuses=["not_cancellable"],
)

approve_request = describe(
    operation_id="approveRequest",
    summary="Let a held request go on",
    description="""
        Past what it is held for; if there is something else to hold it, it is held again. Where the chatbot demands
        four eyes, a key approves what staff have filed; what a key has filed is approved in the console.
        """,
    tag=REQUESTS,
    request=_reason(ApproveBody, "verified_with_client", "Verified with the client"),
    body_required=False,
    responses={
        200: OpenApiResponse(
            RequestObject,
            "The request, accepted.",
            examples=[OpenApiExample("approved", request("deletion"), summary="Approved")],
        )
    },
    refuses=["not_held", "own_request"],
)

reject_request = describe(
    operation_id="rejectRequest",
    summary="End a held request",
    description="It is not carried out, and forgets whom it named.",
    tag=REQUESTS,
    request=_reason(RejectBody, "identity_not_confirmed", "The person's identity is not confirmed"),
    body_required=False,
    responses={
        200: OpenApiResponse(
            RequestObject,
            "The request, rejected.",
            examples=[
                OpenApiExample(
                    "rejected",
                    request("deletion", status="rejected", finished_at="2026-11-24T16:10:02.100200Z"),
                    summary="Rejected",
                )
            ],
        )
    },
    refuses=["not_held"],
)
