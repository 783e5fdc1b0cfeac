"""The calls that file and follow a request, as the document of the API tells of them."""

from compliance.api.bodies import DeletionBody, ExportBody
from compliance.api.described_callbacks import request_changed
from compliance.api.examples import CHATTER, CONVERSATIONS, DELETED, EXPORTED, filed, request
from compliance.api.links import from_request
from compliance.api.shapes import FiledRequest, RequestObject
from config.openapi.describing import Answer, Body, Example, Parameter, describe
from config.openapi.document import REQUESTS

IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="Chosen by you. The same key with the same body on the same path answers with the same request for "
    "24 hours; with another body 409 `idempotency_conflict`.",
    schema={"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"},
    example="erase-ticket-7",
)

file_deletion = describe(
    id="fileDeletion",
    summary="File a deletion",
    description="""
        Erases what is held of the chatter's conversations, or of the conversations with these ids, whoever was in
        them. The answer comes at once, with `"status": "accepted"`: the request is stored, not done. If nothing is
        held, that is no error: the request completes with `"result": "nothing_found"`. Conversations in which another
        chatter took part too are erased as well.
        """,
    tag=REQUESTS,
    parameters=[IDEMPOTENCY_KEY],
    bodies=[
        Body(
            DeletionBody,
            {
                "chatter": Example("The chatter with member_id 42", CHATTER),
                "conversations": Example("Two conversations", CONVERSATIONS),
                "all_fields": Example(
                    "With your ticket's number, and the chatter's exports too",
                    CHATTER | {"action": "delete", "reference": "TICKET-7", "erase_exports": True},
                ),
            },
        )
    ],
    answers={
        200: Answer(
            "The request. The same call sent again answers with the same request, as it stands then.",
            FiledRequest,
            {"accepted": Example("Just filed", filed("deletion"))},
            links=from_request("follow", "cancel", "callbacks"),
        )
    },
    refuses=[
        "unknown_uci_key",
        "compliance_disabled",
        "uci_not_designated",
        "signing_key_missing",
        "idempotency_conflict",
    ],
    callbacks={"requestChanged": request_changed},
)

file_export = describe(
    id="fileExport",
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
    bodies=[
        Body(
            ExportBody,
            {
                "chatter": Example("The chatter with member_id 42", CHATTER),
                "conversations": Example("Two conversations", CONVERSATIONS),
                "all_fields": Example(
                    "With shared conversations and uploaded files",
                    CHATTER
                    | {"action": "export", "reference": "TICKET-7", "include_shared": True, "include_files": True},
                ),
            },
        )
    ],
    answers={
        200: Answer(
            "The request. The same call sent again answers with the same request, as it stands then.",
            FiledRequest,
            {
                "accepted": Example("Just filed", filed("export")),
                "existing": Example("An equal one waits", filed("export", existing=True)),
            },
            links=from_request("follow", "download", "cancel", "callbacks"),
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
    callbacks={"requestChanged": request_changed},
)

get_request = describe(
    id="getRequest",
    summary="Follow a request",
    description="Every few seconds is fine. `completed`, `rejected` and `cancelled` are final.",
    tag=REQUESTS,
    answers={
        200: Answer(
            "The request as it stands now.",
            RequestObject,
            {
                "export": Example("An export that is done", EXPORTED),
                "deletion": Example("A deletion that is done", DELETED),
                "on_hold": Example(
                    "A deletion that waits for a decision",
                    request("deletion", status="on_hold", hold_reason="too_many_conversations"),
                ),
            },
            links=from_request("download", "cancel", "approve", "reject", "resend"),
        )
    },
)

download_export = describe(
    id="downloadExport",
    summary="Fetch the file of an export",
    description="""
        Leads to a hosted file by a link that works for 5 minutes and needs no key. The link bears the chatter's
        value: keep it out of logs. The change log tells which key asked for it. What lies in your own bucket is
        fetched there.
        """,
    tag=REQUESTS,
    parameters=[
        Parameter(
            name="file",
            description="Instead of the CSV, the copy of the uploaded file whose `file_id` in the CSV this is.",
            schema={"type": "string", "pattern": "^[0-9]{1,18}$"},
            example="17",
        )
    ],
    answers={
        302: Answer(
            "Follow `Location`.",
            headers={
                "Location": {
                    "description": "The link.",
                    "required": True,
                    "schema": {"type": "string", "format": "uri"},
                    "example": "https://s3.example.com/data-compliance/acme/chatter_data_exports/42/"
                    "20261124_160639_conversation_export.csv?X-Amz-Signature=...",
                }
            },
        )
    },
    refuses=["invalid", "in_client_bucket", "not_ready", "export_expired"],
)
