"""The calls about requests, as the document of the API tells of them."""

from typing import Any

from compliance.api.bodies import DeletionBody, ExportBody
from compliance.api.shapes import RequestObject
from config.openapi.describing import Answer, Body, Example, Link, Parameter, describe
from config.openapi.document import REQUESTS

IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    description="Chosen by you. The same key with the same body on the same path answers with the same request for "
    "24 hours; with another body 409 `idempotency_conflict`.",
    schema={"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"},
    example="erase-ticket-7",
)

_ID = "01a20e4f-2ccd-727b-ad28-e544e31ea60e"
_CHATTER = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "42"}
_NOTHING_YET = {
    "conversations": 0,
    "messages": 0,
    "identities": 0,
    "variable_values": 0,
    "files": 0,
    "exports": 0,
    "extracts": 0,
}


def _request(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a request object just accepted, with these fields instead."""
    return {
        "request_id": _ID,
        "kind": kind,
        "status": "accepted",
        "hold_reason": None,
        "result": None,
        "reference": "TICKET-7",
        "received_at": "2026-11-24T16:06:39.565862Z",
        "not_before": None,
        "due_at": "2026-12-24T16:06:39.565862Z",
        "started_at": None,
        "finished_at": None,
        "status_url": f"https://compliance.example.com/api/v1/chatbots/acme/requests/{_ID}",
        "progress": {"conversations_done": 0, "conversations_total": None, "extracts_done": 0, "extracts_total": 0},
        "waiting_for": None,
        "counts": _NOTHING_YET,
        "export": None,
        "kept_exports": [],
        "delivered_extracts": [],
        "error": None,
        **fields,
    }


_DONE = {
    "status": "completed",
    "result": "done",
    "started_at": "2026-11-24T16:06:39.808678Z",
    "finished_at": "2026-11-24T16:06:40.005480Z",
    "progress": {"conversations_done": 1, "conversations_total": 1, "extracts_done": 0, "extracts_total": 0},
}
_DELETED = _request("deletion", **_DONE, counts=_NOTHING_YET | {"conversations": 1, "messages": 2, "identities": 1})
_EXPORTED = _request(
    "export",
    **_DONE,
    counts=_NOTHING_YET | {"conversations": 1, "messages": 2},
    export={
        "hosting": "hosted",
        "bucket": "data-compliance",
        "key": "acme/chatter_data_exports/42/20261124_160639_conversation_export.csv",
        "rows": 2,
        "bytes": 644,
        "sha256": "c55a46cd38e2e5b65e47a64053d0f62690ad91f393f34669e560f16fcfabc346",
        "expires_at": "2027-01-03T16:06:40.005480Z",
        "files": [],
    },
)

_FOLLOW = Link(
    operation_id="getRequest",
    parameters={"request_id": "$response.body#/request_id"},
    description="Follow the request until it is final.",
)
_DOWNLOAD = Link(
    operation_id="downloadExport",
    parameters={"request_id": "$response.body#/request_id"},
    description="Fetch the file once the export is completed.",
)

file_deletion = describe(
    id="fileDeletion",
    summary="File a deletion",
    description="""
        Erases what is held of the chatter's conversations. The answer comes at once, with `"status": "accepted"`: the
        request is stored, not done. A chatter of whom nothing is held is no error: the request completes with
        `"result": "nothing_found"`. Conversations in which another chatter took part too are erased as well.
        """,
    tag=REQUESTS,
    parameters=[IDEMPOTENCY_KEY],
    bodies=[
        Body(
            DeletionBody,
            {
                "chatter": Example("The chatter with member_id 42", _CHATTER),
                "all_fields": Example(
                    "With your ticket's number, and the chatter's exports too",
                    _CHATTER | {"action": "delete", "reference": "TICKET-7", "erase_exports": True},
                ),
            },
        )
    ],
    answers={
        200: Answer(
            "The request. The same call sent again answers with the same request, as it stands then.",
            RequestObject,
            {"accepted": Example("Just filed", _request("deletion"))},
            links={"follow": _FOLLOW},
        )
    },
    refuses=["unknown_uci_key", "compliance_disabled", "uci_not_designated", "idempotency_conflict"],
)

file_export = describe(
    id="fileExport",
    summary="File an export",
    description="""
        Writes the chatter's conversations into a CSV file, in the operator's bucket or in yours. The answer comes at
        once; `export` in the request object tells where the file is once the request is completed. Nothing found
        makes a file with the header alone.
        """,
    tag=REQUESTS,
    parameters=[IDEMPOTENCY_KEY],
    bodies=[
        Body(
            ExportBody,
            {
                "chatter": Example("The chatter with member_id 42", _CHATTER),
                "all_fields": Example(
                    "With shared conversations and uploaded files",
                    _CHATTER
                    | {"action": "export", "reference": "TICKET-7", "include_shared": True, "include_files": True},
                ),
            },
        )
    ],
    answers={
        200: Answer(
            "The request. The same call sent again answers with the same request, as it stands then.",
            RequestObject,
            {"accepted": Example("Just filed", _request("export"))},
            links={"follow": _FOLLOW, "download": _DOWNLOAD},
        )
    },
    refuses=[
        "unknown_uci_key",
        "compliance_disabled",
        "uci_not_designated",
        "export_destination_missing",
        "idempotency_conflict",
    ],
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
                "export": Example("An export that is done", _EXPORTED),
                "deletion": Example("A deletion that is done", _DELETED),
                "on_hold": Example(
                    "A deletion that waits for a decision",
                    _request("deletion", status="on_hold", hold_reason="too_many_conversations"),
                ),
            },
            links={"download": _DOWNLOAD},
        )
    },
)

download_export = describe(
    id="downloadExport",
    summary="Fetch the file of an export",
    description="""
        Leads to a hosted file by a link that works for 5 minutes and needs no key. The link bears the chatter's
        value: keep it out of logs. What lies in your own bucket is fetched there.
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
