"""The batch, as the document of the API tells of it."""

from drf_spectacular.utils import OpenApiExample, OpenApiRequest, OpenApiResponse

from compliance.api.bodies import Batch
from compliance.api.described import IDEMPOTENCY_KEY
from compliance.api.examples import CHATTER, filed
from compliance.api.links import from_request
from compliance.api.shapes import BatchAnswer
from config.openapi.document import REQUESTS
from config.openapi.operations import describe, problem_example

_OTHER = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "43"}

file_batch = describe(
    operation_id="fileBatch",
    summary="File many requests",
    description="""
        Up to 1,000 deletions and exports, each with its `action`, filed in the order of the list. Each item has its
        own result in the same place: a request object, or an object with `error` alone. An item that is refused does
        not hinder the others; those that are not are stored all together. Two equal deletions are two
        requests; of two equal exports the first answers for the second, as `existing`.

        Each item needs the write scope of its kind. Pointers in an item's problem begin at the item. The same call
        sent again, known by its signature or its `Idempotency-Key`, gets the same requests; items that were refused
        are tried again.
        """,
    tag=REQUESTS,
    parameters=[IDEMPOTENCY_KEY],
    request=OpenApiRequest(
        Batch,
        examples=[
            OpenApiExample(
                "two",
                {
                    "requests": [
                        {"action": "export", **CHATTER},
                        {"action": "delete", **CHATTER, "reference": "TICKET-7"},
                        {"action": "delete", **_OTHER},
                    ]
                },
                summary="An export and a deletion of one chatter, and a deletion of another",
            )
        ],
    ),
    responses={
        200: OpenApiResponse(
            BatchAnswer,
            "What became of each item, in order; also when all were refused.",
            examples=[
                OpenApiExample(
                    "mixed",
                    {"results": [filed("deletion"), {"error": problem_example("unknown_uci_key")}]},
                    summary="One was filed, one refused",
                )
            ],
        )
    },
    refuses=["compliance_disabled", "idempotency_conflict"],
    links=from_request("follow", "cancel", at="/results/0"),
)
