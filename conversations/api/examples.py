"""Examples of bodies and responses for the API document."""

from typing import Any

from config.openapi.operations import problem_example
from conversations.models import Conversation

DOCUMENT = {
    "id": "c-2001",
    "channel": "widget",
    "language": "en",
    "user_name": "Ada",
    "started_at": "2026-11-23T09:00:00Z",
    "user_channel_variables": {"plan": "gold"},
    "custom_variables": {"member_id": "42"},
    "agent_handover": False,
    "push": False,
    "score": 7.5,
    "csat": {"score": 4, "vote": "positive", "comment": "quick"},
    "messages": [{"id": "m1", "sender": "user", "kind": "text", "text": "hello", "sent_at": "2026-11-23T09:00:01Z"}],
}
DOCUMENTS = [DOCUMENT, {"id": "c-2002", "channel": "whatsapp", "started_at": "2026-11-23T10:00:00Z"}]
CREATED = {"id": "c-2001", "number": 17, "outcome": "created", "error": None}
IDENTITY = {
    "id": "c-2001",
    "unique_chatter_identifier_key": "member_id",
    "unique_chatter_identifier_value": "42",
}
OTHER_IDENTITY = IDENTITY | {"id": "c-2002", "unique_chatter_identifier_value": "43"}
IDENTIFIED = {"id": "c-2001", "number": 17, "outcome": "created", "error": None}
CONFIRMED = {"id": "c-2002", "number": 18, "outcome": "confirmed", "error": None}
NOT_IDENTIFIED = {
    "id": "c-2002",
    "number": None,
    "outcome": "refused",
    "error": problem_example("unknown_conversation"),
}
REFUSED = {"id": "c-2002", "number": None, "outcome": "refused", "error": problem_example("chatter_erased")}

CONVERSATION = {
    "number": 17,
    "id": "c-2001",
    "deleted": False,
    "label": None,
    "deletion_request_id": None,
    "restricted": False,
    "channel": "widget",
    "language": "en",
    "user_name": "Ada",
    "started_at": "2026-11-23T09:00:00.000000Z",
    "last_message_at": "2026-11-23T09:00:01.000000Z",
    "message_count": 1,
    "file_upload": True,
    "agent_handover": False,
    "push": False,
    "score": 7.5,
    "csat": {"score": 4, "vote": "positive", "comment": "quick", "comment_redacted": False},
    "unique_chatter_identifiers": [{"key": "member_id", "value": "42", "established_by": "custom"}],
}
DELETED_CONVERSATION = CONVERSATION | {
    "number": 16,
    "id": None,
    "deleted": True,
    "label": "Deleted conversation",
    "deletion_request_id": "01a20e4f-2ccd-727b-ad28-e544e31ea60e",
    "language": None,
    "user_name": None,
    "started_at": "2026-11-23T00:00:00.000000Z",
    "last_message_at": None,
    "message_count": None,
    "csat": {"score": 4, "vote": "positive", "comment": None, "comment_redacted": False},
    "unique_chatter_identifiers": [],
}
LOOKUP = {"results": [{"id": "c-2001", "conversation": CONVERSATION}, {"id": "c-1999", "conversation": None}]}

FILE = {
    "file_id": 5,
    "name": "photo.jpg",
    "content_type": "image/jpeg",
    "bytes": 48213,
    "sha256": "9f2c5a0c2b0b7d9a4f3f0c0d8f0a8b8f6a1f4f1d3b0f0c2f5a7e9d1c3b5a7f90",
}
FILE_OF_MESSAGE = FILE | {"message_id": "m1"}
MESSAGE = {
    "id": "m1",
    "sender": "user",
    "kind": "text",
    "text": "hello",
    "sent_at": "2026-11-23T09:00:01.000000Z",
    "files": [FILE],
}

_CHANNELS = [
    {
        "channel": channel,
        "conversations": 120 if channel == "widget" else 0,
        "deleted": 3 if channel == "widget" else 0,
    }
    for channel in Conversation.Channel.values
]
USAGE = {
    "from": "2026-11",
    "to": "2026-11",
    "months": [{"month": "2026-11", "channels": _CHANNELS, "conversations": 120, "deleted": 3}],
}

EXTRACT = {
    "day": "2026-11-23",
    "state": "done",
    "starts_at": "2026-11-22T23:00:00.000000Z",
    "ends_at": "2026-11-23T23:00:00.000000Z",
    "rows": 1843,
    "bytes": 402117,
    "sha256": "4b7a1c0f0e6a4e0d5d6cbe1c9b4b4a7f9a4bd7d7a6a94a35c2d30b9cf1a2f3e8",
    "hosting": "hosted",
    "bucket": "data-compliance",
    "key": "acme/daily_conversations_extracts/2026-11-23_conversations_extract.csv",
    "finished_at": "2026-11-23T23:10:04.120000Z",
    "expires_at": "2027-01-02T23:10:04.120000Z",
    "error": None,
}


def page(*results: dict[str, Any]) -> dict[str, Any]:
    return {"results": list(results), "next": None, "previous": None}
