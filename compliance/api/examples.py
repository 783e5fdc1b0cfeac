"""Example bodies and responses, and links, for the descriptions of the operations."""

from typing import Any

from compliance.api.schemas import RequestObject
from compliance.requests.results import COUNTED
from config.openapi.operations import Example, Links, link

_ID = "01a20e4f-2ccd-727b-ad28-e544e31ea60e"
CHATTER = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "42"}
OTHER_CHATTER = CHATTER | {"unique_chatter_identifier_value": "43"}
BOTH_SELECTORS: list[Example] = [
    ("chatter", CHATTER, "The chatter with member_id 42"),
    ("conversations", {"conversation_ids": ["c-1001", "c-1002"]}, "Two conversations"),
]


def request(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a request object that was just accepted, with these fields instead."""
    return {
        **dict.fromkeys(RequestObject.model_fields),
        "request_id": _ID,
        "kind": kind,
        "status": "accepted",
        "selector": "uci",
        "reference": "TICKET-7",
        "received_at": "2026-11-24T16:06:39.565862Z",
        "requested_at": "2026-11-24T16:06:39.565862Z",
        "deadline": "gdpr",
        "due_at": "2026-12-24T22:59:59.000000Z",
        "status_url": f"https://compliance.example.com/api/v1/chatbots/acme/requests/{_ID}",
        "progress": {"conversations_done": 0, "conversations_total": None, "extracts_done": 0, "extracts_total": 0},
        "counts": counts(),
        "withheld": 0,
        "csv_dialect": "standard" if kind == "export" else None,
        "formats": ["csv"] if kind == "export" else None,
        "kept_exports": [],
        "delivered_extracts": [],
        **fields,
    }


def assurance(**given: int) -> dict[str, int]:
    return {"user_channel": 0, "platform": 0, "verified": 0} | given


def submitted(kind: str, *, existing: bool = False) -> dict[str, Any]:
    return request(kind) | {"existing": existing}


def counts(**given: int) -> dict[str, int]:
    return dict.fromkeys(COUNTED, 0) | given


_DONE = {
    "status": "completed",
    "result": "done",
    "started_at": "2026-11-24T16:06:39.808678Z",
    "finished_at": "2026-11-24T16:06:40.005480Z",
    "progress": {"conversations_done": 1, "conversations_total": 1, "extracts_done": 0, "extracts_total": 0},
}
DELETED = request(
    "deletion",
    **_DONE,
    counts=counts(conversations=1, messages=2, identities=1),
    assurance=assurance(platform=1),
)
EXPORTED = request(
    "export",
    **_DONE,
    counts=counts(conversations=1, messages=2),
    assurance=assurance(platform=1),
    unverified_left_out=0,
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

_LINKS = {
    "follow": ("getRequest", "Follow the request until it is final."),
    "download": ("downloadExport", "Fetch the file once the export is completed."),
    "cancel": ("cancelRequest", "Withdraw the request while it waits."),
    "approve": ("approveRequest", "Let it continue if it is on hold."),
    "reject": ("rejectRequest", "End it if it is on hold."),
    "extend": ("extendRequest", "Extend its deadline."),
    "callbacks": ("listCallbacks", "See its callbacks."),
    "resend": ("resendCallbacks", "Send its callbacks again."),
}


def links(*names: str, at: str = "") -> Links:
    """Return these links. `at` is the JSON Pointer of the request object in the response."""
    pointer = f"$response.body#{at}/request_id"
    return {name: link(*_LINKS[name], request_id=pointer) for name in names}
