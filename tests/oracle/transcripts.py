"""Reads the file of an export as its recipient does, and compares it with what was sent."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tests.oracle.model import Conversation, Request
from tests.oracle.words import unguarded

_GUARDED = ("conversation_id", "user_name", "csat_comment", "uci_value", "message_id", "text", "file_name")


def lines_of(raw: bytes) -> list[dict[str, str]]:
    """Return the lines of a CSV by column. Raises ValueError where it is none, or where it ends within a line."""
    text = raw.decode()
    if not text.endswith("\n"):
        raise ValueError("it does not end with a line")
    found = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    if any(None in line or None in line.values() for line in found):
        raise ValueError("its lines differ in length")
    return [{name: unguarded(cell) if name in _GUARDED else cell for name, cell in line.items()} for line in found]


def faults_of(
    export: Request, raw: bytes, shown: Mapping[str, Any], conversations: Mapping[str, Conversation]
) -> Iterator[str]:
    """Yield what is wrong with the file of a completed export.

    `conversations` are all of its chatbot, by id; `shown` is the part `export` of the request object.
    """
    if hashlib.sha256(raw).hexdigest() != shown["sha256"] or len(raw) != shown["bytes"]:
        yield "its sha256 or size differs from what the request says"
    try:
        lines = lines_of(raw)
    except (ValueError, csv.Error) as error:
        yield f"it is no whole CSV: {error}"
        return
    if len(lines) != shown["rows"]:
        yield f"it has {len(lines)} rows, and the request says {shown['rows']}"
    yield from _foreign(export, lines, conversations)
    yield from _wrong(lines, conversations)
    yield from _missing(export, lines, conversations)


def _foreign(
    export: Request, lines: list[dict[str, str]], conversations: Mapping[str, Conversation]
) -> Iterator[str]:
    allowed = {conversation.id for conversation in export.surely | export.possibly}
    for name in {line["conversation_id"] for line in lines} - allowed:
        whose = (
            "nobody's"
            if name not in conversations
            else f"{'+'.join(sorted(conversations[name].tried)) or 'nobody'}'s"
        )
        yield f"a foreign line: it holds {whose} conversation {name or '(without an id)'}"


def _wrong(lines: list[dict[str, str]], conversations: Mapping[str, Conversation]) -> Iterator[str]:
    seen = Counter((line["conversation_id"], line["message_id"], line["file_id"]) for line in lines)
    for line in lines:
        conversation = conversations.get(line["conversation_id"])
        if conversation is None or not line["message_id"]:
            continue
        sent = conversation.tried_texts.get(line["message_id"])
        is_redacted = line["message_kind"] == "redacted" and line["message_id"] in conversation.redacted
        if sent is None or (line["text"] != sent and not (is_redacted and not line["text"])):
            yield f"a wrong text: message {line['message_id']} of {conversation.id} is not as it was sent"
    for (name, message, file), times in seen.items():
        if times > 1 and (message or file):
            yield f"a doubled line: message {message} of {name} stands there {times} times"


def _missing(
    export: Request, lines: list[dict[str, str]], conversations: Mapping[str, Conversation]
) -> Iterator[str]:
    there = {(line["conversation_id"], line["message_id"]) for line in lines}
    for conversation in export.surely:
        for message in export.texts.get(conversation.id, {}):
            if (conversation.id, message) not in there:
                yield f"a missing line: message {message} of {conversation.id}, sent before the export was filed"
