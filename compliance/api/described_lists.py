"""The calls that find requests again or decide on them, as the document of the API tells of them."""

from pydantic import BaseModel

from compliance.api.bodies import ApproveBody, CancelBody, RejectBody, SelectorBody
from compliance.api.examples import CHATTER, CONVERSATIONS, DELETED, EXPORTED, request
from compliance.api.links import from_request
from compliance.api.queries import RequestsQuery
from compliance.api.shapes import RequestObject, RequestPage, RequestsOfChatter
from config.openapi.describing import Answer, Body, Example, describe, parameters_of
from config.openapi.document import REQUESTS

list_requests = describe(
    id="listRequests",
    summary="List requests",
    description="""
        The chatbot's requests, the newest first, a page at a time: follow `next` until it is null. Filters add up.
        Requests that come meanwhile shift nothing.
        """,
    tag=REQUESTS,
    parameters=parameters_of(RequestsQuery),
    answers={
        200: Answer(
            "A page of requests.",
            RequestPage,
            {"page": Example("The only page", {"results": [EXPORTED, DELETED], "next": None, "previous": None})},
            links=from_request("follow", "download", "cancel", "approve", at="/results/0"),
        )
    },
    refuses=["invalid"],
)

look_up_requests = describe(
    id="lookUpRequests",
    summary="Find the requests about a chatter, or about conversations",
    description="""
        The newest first, 200 at most. With `conversation_ids`: those that name one of these conversations by its id.
        Found are those whose digests are kept: all that are not over, and those that ended in the last 90 days,
        unless the operator says otherwise. A POST, since neither a value nor an id stands in an address; it changes
        nothing.
        """,
    tag=REQUESTS,
    bodies=[
        Body(
            SelectorBody,
            {
                "chatter": Example("The chatter with member_id 42", CHATTER),
                "conversations": Example("Two conversations", CONVERSATIONS),
            },
        )
    ],
    answers={
        200: Answer(
            "The requests.",
            RequestsOfChatter,
            {"found": Example("One export and one deletion", {"results": [DELETED, EXPORTED], "left_out": 0})},
            links=from_request("follow", at="/results/0"),
        )
    },
    refuses=["unknown_uci_key", "uci_not_designated"],
)


def _reason(shape: type[BaseModel], reason: str, summary: str) -> Body:
    examples = {
        "reason": Example(summary, {"reason": reason}),
        "empty": Example("Without a reason; no body at all is as good", {}),
    }
    return Body(shape, examples, optional=True)


cancel_request = describe(
    id="cancelRequest",
    summary="Withdraw a request",
    description="""
        As long as it waits: `accepted`, or `on_hold`. Needs the write scope of its kind. A request that is cancelled
        already is answered as it is.
        """,
    tag=REQUESTS,
    bodies=[_reason(CancelBody, "withdrawn_by_person", "The person has withdrawn it")],
    answers={
        200: Answer(
            "The request, cancelled.",
            RequestObject,
            {
                "cancelled": Example(
                    "A deletion that was cancelled",
                    request("deletion", status="cancelled", finished_at="2026-11-24T16:10:02.100200Z"),
                )
            },
        )
    },
    refuses=["not_cancellable"],
)

approve_request = describe(
    id="approveRequest",
    summary="Let a held request go on",
    description="""
        Past what it is held for; if there is something else to hold it, it is held again. Where the chatbot demands
        four eyes, a key approves what staff have filed; what a key has filed is approved in the console.
        """,
    tag=REQUESTS,
    bodies=[_reason(ApproveBody, "verified_with_client", "Verified with the client")],
    answers={
        200: Answer("The request, accepted.", RequestObject, {"approved": Example("Approved", request("deletion"))})
    },
    refuses=["not_held", "own_request"],
)

reject_request = describe(
    id="rejectRequest",
    summary="End a held request",
    description="It is not carried out, and forgets whom it named.",
    tag=REQUESTS,
    bodies=[_reason(RejectBody, "identity_not_confirmed", "The person's identity is not confirmed")],
    answers={
        200: Answer(
            "The request, rejected.",
            RequestObject,
            {
                "rejected": Example(
                    "Rejected", request("deletion", status="rejected", finished_at="2026-11-24T16:10:02.100200Z")
                )
            },
        )
    },
    refuses=["not_held"],
)
