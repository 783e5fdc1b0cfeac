"""The calls that file and follow a request, as the document of the API tells of them."""

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiRequest, OpenApiResponse

from compliance.api.bodies import DeletionBody, ExportBody
from compliance.api.described_callbacks import request_changed
from compliance.api.examples import CHATTER, CONVERSATIONS, DELETED, EXPORTED, filed, request
from compliance.api.links import from_request
from compliance.api.shapes import FiledRequest, RequestObject
from config.openapi.document import REQUESTS
from config.openapi.operations import describe, location_header

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    description="Chosen by you. The same key with the same body on the same path answers with the same request for "
    "24 hours; with another body 409 `idempotency_conflict`.",
    examples=[OpenApiExample("Idempotency-Key", "erase-ticket-7")],
)

file_deletion = describe(
    operation_id="fileDeletion",
    summary="File a deletion",
    description="""
        Erases what is held of the chatter's conversations, or of the conversations with these ids, whoever was in
        them. The answer comes at once, with `"status": "accepted"`: the request is stored, not done. If nothing is
        held, that is no error: the request completes with `"result": "nothing_found"`. Conversations in which another
        chatter took part too are erased as well.
        """,
    tag=REQUESTS,
    parameters=[IDEMPOTENCY_KEY],
    request=OpenApiRequest(
        DeletionBody,
        examples=[
            OpenApiExample("chatter", CHATTER, summary="The chatter with member_id 42"),
            OpenApiExample("conversations", CONVERSATIONS, summary="Two conversations"),
            OpenApiExample(
                "all_fields",
                CHATTER | {"action": "delete", "reference": "TICKET-7", "erase_exports": True},
                summary="With your ticket's number, and the chatter's exports too",
            ),
        ],
    ),
    responses={
        200: OpenApiResponse(
            FiledRequest,
            "The request. The same call sent again answers with the same request, as it stands then.",
            examples=[OpenApiExample("accepted", filed("deletion"), summary="Just filed")],
        )
    },
    refuses=[
        "unknown_uci_key",
        "compliance_disabled",
        "uci_not_designated",
        "signing_key_missing",
        "idempotency_conflict",
    ],
    callbacks=[request_changed],
    links=from_request("follow", "cancel", "callbacks"),
)

file_export = describe(
    operation_id="fileExport",
    summary="File an export",
    description="""
        Writes the chatter's conversations, or those with these ids, into a CSV file, in the operator's bucket or in
        yours. The answer comes at once; `export` in the request object tells where the file is once the request is
        completed. Nothing found makes a file with the header alone.

        An equal export that waits and has not begun answers for this one, as `existing`: of the same chatter or
        conversations, with the same options, `reference` and `callback_url`. With `"again": true` another is filed.
        """,
    tag=REQUESTS,
    parameters=[IDEMPOTENCY_KEY],
    request=OpenApiRequest(
        ExportBody,
        examples=[
            OpenApiExample("chatter", CHATTER, summary="The chatter with member_id 42"),
            OpenApiExample("conversations", CONVERSATIONS, summary="Two conversations"),
            OpenApiExample(
                "all_fields",
                CHATTER
                | {"action": "export", "reference": "TICKET-7", "include_shared": True, "include_files": True},
                summary="With shared conversations and uploaded files",
            ),
        ],
    ),
    responses={
        200: OpenApiResponse(
            FiledRequest,
            "The request. The same call sent again answers with the same request, as it stands then.",
            examples=[
                OpenApiExample("accepted", filed("export"), summary="Just filed"),
                OpenApiExample("existing", filed("export", existing=True), summary="An equal one waits"),
            ],
        )
    },
    refuses=[
        "unknown_uci_key",
        "compliance_disabled",
        "uci_not_designated",
        "export_destination_missing",
        "signing_key_missing",
        "idempotency_conflict",
    ],
    callbacks=[request_changed],
    links=from_request("follow", "download", "cancel", "callbacks"),
)

get_request = describe(
    operation_id="getRequest",
    summary="Follow a request",
    description="Every few seconds is fine. `completed`, `rejected` and `cancelled` are final.",
    tag=REQUESTS,
    responses={
        200: OpenApiResponse(
            RequestObject,
            "The request as it stands now.",
            examples=[
                OpenApiExample("export", EXPORTED, summary="An export that is done"),
                OpenApiExample("deletion", DELETED, summary="A deletion that is done"),
                OpenApiExample(
                    "on_hold",
                    request("deletion", status="on_hold", hold_reason="too_many_conversations"),
                    summary="A deletion that waits for a decision",
                ),
            ],
        )
    },
    links=from_request("download", "cancel", "approve", "reject", "resend"),
)

download_export = describe(
    operation_id="downloadExport",
    summary="Fetch the file of an export",
    description="""
        Leads to a hosted file by a link that works for 5 minutes and needs no key. The link bears the chatter's
        value: keep it out of logs. The change log tells which key asked for it. What lies in your own bucket is
        fetched there.
        """,
    tag=REQUESTS,
    parameters=[
        OpenApiParameter(
            "file",
            {"type": "string", "pattern": "^[0-9]{1,18}$"},
            description="Instead of the CSV, the copy of the uploaded file whose `file_id` in the CSV this is.",
            examples=[OpenApiExample("file", "17")],
        ),
        location_header(
            "The link.",
            example="https://s3.example.com/data-compliance/acme/chatter_data_exports/42/"
            "20261124_160639_conversation_export.csv?X-Amz-Signature=...",
        ),
    ],
    responses={302: OpenApiResponse(None, "Follow `Location`.")},
    refuses=["invalid", "in_client_bucket", "not_ready", "export_expired"],
)
