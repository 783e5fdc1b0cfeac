"""Bodies and answers as they stand on the wire: what the descriptions of the calls show."""

from typing import Any

_ID = "01a20e4f-2ccd-727b-ad28-e544e31ea60e"
CHATTER = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "42"}
CONVERSATIONS = {"conversation_ids": ["c-1001", "c-1002"]}
NOTHING_YET = {
    "conversations": 0,
    "messages": 0,
    "identities": 0,
    "variable_values": 0,
    "files": 0,
    "exports": 0,
    "extracts": 0,
}


def request(kind: str, **fields: Any) -> dict[str, Any]:
    """Return a request object just accepted, with these fields instead."""
    return {
        "request_id": _ID,
        "kind": kind,
        "status": "accepted",
        "hold_reason": None,
        "selector": "uci",
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
        "counts": NOTHING_YET,
        "export": None,
        "kept_exports": [],
        "delivered_extracts": [],
        "error": None,
        **fields,
    }


def filed(kind: str, *, existing: bool = False) -> dict[str, Any]:
    """A request as the answer to whoever files it."""
    return request(kind) | {"existing": existing}


_DONE = {
    "status": "completed",
    "result": "done",
    "started_at": "2026-11-24T16:06:39.808678Z",
    "finished_at": "2026-11-24T16:06:40.005480Z",
    "progress": {"conversations_done": 1, "conversations_total": 1, "extracts_done": 0, "extracts_total": 0},
}
DELETED = request("deletion", **_DONE, counts=NOTHING_YET | {"conversations": 1, "messages": 2, "identities": 1})
EXPORTED = request(
    "export",
    **_DONE,
    counts=NOTHING_YET | {"conversations": 1, "messages": 2},
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
