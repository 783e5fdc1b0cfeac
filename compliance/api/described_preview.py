"""The preview, as the document of the API tells of it."""

from drf_spectacular.utils import OpenApiExample, OpenApiRequest, OpenApiResponse

from compliance.api.bodies import PreviewBody
from compliance.api.examples import CHATTER
from compliance.api.shapes import PreviewAnswer
from config.openapi.document import REQUESTS
from config.openapi.operations import describe

_PREVIEW = {
    "deletion": {
        "erased": {
            "conversations": 3,
            "messages": 41,
            "identities": 4,
            "variable_values": 2,
            "files": 1,
            "exports": 1,
            "extracts": 2,
        },
        "shared_conversations": 1,
        "exports_that_go": ["01a20e4f-2ccd-727b-ad28-e544e31ea60e"],
        "kept": {"conversations": 3, "exports": 0, "delivered_exports": 0, "delivered_extracts": 0},
        "held_by": [],
    },
    "export": {"conversations": 2, "messages": 30, "files": 0, "shared_left_out": 1, "refused": None},
    "at_least": False,
    "open_requests": [],
    "similar": [
        {
            "unique_chatter_identifier_key": "member_id",
            "unique_chatter_identifier_value": "0042",
            "conversations": 1,
            "differs_in": ["padding"],
        }
    ],
}

preview_request = describe(
    operation_id="previewRequest",
    summary="See what a request would do",
    description="""
        Takes the body of a deletion or an export and answers what it would do if it were carried out now. Nothing is
        written. With `action` one kind is shown, without it each kind that the key may file; the other is null.
        Look at `similar` too: values that differ from yours in the key, in case or in padding belong to other
        chatters, who are often the one that was meant.
        """,
    tag=REQUESTS,
    request=OpenApiRequest(
        PreviewBody,
        examples=[
            OpenApiExample("chatter", CHATTER, summary="Both kinds"),
            OpenApiExample("deletion", CHATTER | {"action": "delete", "erase_exports": True}, summary="A deletion"),
        ],
    ),
    responses={
        200: OpenApiResponse(
            PreviewAnswer, "What would be done.", examples=[OpenApiExample("both", _PREVIEW, summary="Both kinds")]
        )
    },
    refuses=["unknown_uci_key", "compliance_disabled", "uci_not_designated", "signing_key_missing"],
)
