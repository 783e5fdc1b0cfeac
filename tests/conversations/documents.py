"""Conversation documents for tests, as a platform would send them."""

import json
from typing import Any

from conversations.documents import Document, parse_document


def document(document_id: str = "c-1", **fields: Any) -> dict[str, Any]:
    """A valid document of the chatbot that `factories.ready_chatbot` makes; `fields` overwrite."""
    return {
        "id": document_id,
        "channel": "widget",
        "started_at": "2026-11-01T09:00:00Z",
        "custom_variables": {"member_id": "42"},
        "messages": [message("m0"), message("m1")],
    } | fields


def message(message_id: str = "m0", **fields: Any) -> dict[str, Any]:
    return {
        "id": message_id,
        "sender": "user",
        "kind": "text",
        "text": f"text of {message_id}",
        "sent_at": "2026-11-01T09:00:05Z",
    } | fields


def parsed(document_id: str = "c-1", **fields: Any) -> Document:
    return parse_document(json.dumps(document(document_id, **fields)).encode())


def update(document_id: str = "c-1", **fields: Any) -> Document:
    """A document with only these fields."""
    return parse_document(json.dumps({"id": document_id} | fields).encode())
