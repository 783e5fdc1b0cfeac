"""A company that has said something secret, and redacts it."""

from typing import Any

from common.storage import ObjectStorage
from conversations.models import Message
from tests.conversations.forms import field, file, form, send
from tests.functional.company import NOON, Company, document
from tests.functional.support import dump, everything_in

SECRET, NAME, PICTURE = "4111 1111 1111 5813", "card-5813.jpg", "picture of card 5813"
KEPT = "words that stay"


def said(message_id: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"id": message_id, "sender": "user", "kind": "text", "text": text, "sent_at": NOON.isoformat()} | fields


def talk(company: Company, conversation_id: str, *people: str) -> int:
    """Store a conversation with a secret (m1, with a file) and another message (m2), and return its number."""
    messages = [said("m1", f"My card: {SECRET}", kind="file"), said("m2", KEPT)]
    [result] = company.send(document(conversation_id, *people, messages=messages, user_name="Lucía Peña"))
    number: int = result["number"]
    stored = upload(company, number)
    assert stored.status_code == 201
    return number


def upload(company: Company, number: int, message_id: str = "m1") -> Any:
    parts = field("message_id", message_id.encode()), file(PICTURE.encode(), name=NAME)
    return send(company.caller, number, form(*parts))


def redact(company: Company, number: int, *ids: str, **fields: Any) -> str:
    body = {"ids": list(ids) or ["m1"], "reason": "payment_data"} | fields
    answer = company.caller.post(f"conversations/{number}/messages/redact", body)
    assert answer.status_code == 200, answer.text
    request_id: str = answer.json()["request_id"]
    return request_id


def found(storage: ObjectStorage) -> set[str]:
    """Return which of the secrets are anywhere in the database, or in any version of an object."""
    everything = dump() + everything_in(storage)
    return {one for one in (SECRET, NAME, PICTURE) if one in everything}


def message_of(number: int, message_id: str = "m1") -> Message:
    return Message.objects.get(conversation=number, external_id=message_id)
