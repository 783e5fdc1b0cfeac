"""What a conversation that nobody erases must be like, in rows and over the API, and the file of an export."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.oracle.model import KEPT, Conversation, Request
from tests.oracle.words import unguarded

Texts = Mapping[str, tuple[str, str]]
_GUARDED = ("conversation_id", "user_name", "csat_comment", "uci_value", "message_id", "text", "file_name")


def faults_of_texts(conversation: Conversation, found: Texts) -> Iterator[tuple[str, str]]:
    """Yield kind and text of what is wrong with the messages; `found` are kind and text of each by its id."""
    for message, text in conversation.texts.items():
        kind, shown = found.get(message, ("", None))
        redaction = conversation.redacted.get(message)
        if shown is None:
            yield "neighbour", f"{conversation.id}, which nobody erases, has lost message {message}"
        elif kind == "redacted" or (redaction and redaction.status == "completed"):
            yield from _faults_of_redacted(
                conversation, message, redaction, is_redacted=kind == "redacted" and not shown
            )
        elif shown != text:
            yield "neighbour", f"message {message} of {conversation.id} is not as it was sent"
    foreign = sorted(set(found) - set(conversation.tried_texts))
    if len(foreign) != conversation.stuffed:
        yield "neighbour", f"{conversation.id} has {len(foreign)} messages that nobody sent: {foreign[:1]}"


def _faults_of_redacted(
    conversation: Conversation, message: str, redaction: Request | None, *, is_redacted: bool
) -> Iterator[tuple[str, str]]:
    if redaction is None or redaction.status in {"cancelled", "rejected"}:
        yield "neighbour", f"message {message} of {conversation.id} was redacted, and nobody asked for that"
    elif not is_redacted:
        yield "redaction", f"message {message} of {conversation.id} still has its text: {redaction}"


def differing(conversation: Conversation, facts: Mapping[str, Any], names: Collection[str] = ()) -> list[str]:
    """Return the names of the facts, all that are known by default, that are not as they were sent."""
    names = names or facts.keys() & conversation.facts.keys()
    return sorted(name for name in names if facts[name] != conversation.facts[name])


def differing_of_kept(conversation: Conversation, facts: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with what a deletion leaves of a conversation: by name of what it keeps, or empties."""
    emptied = facts.keys() - KEPT
    return differing(conversation, facts, KEPT) + sorted(name for name in emptied if facts[name])


def facts_shown(conversation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts as the log shows them."""
    names = ("user_name", "language", "channel", "push", "agent_handover", "score")
    return {name: conversation[name] for name in names} | {
        f"csat_{name}": conversation["csat"][name] for name in ("score", "vote", "comment")
    }


def began_of(shown: Mapping[str, Any]) -> datetime:
    """Return the beginning of a conversation as the log shows it."""
    return datetime.fromisoformat(shown["started_at"])


def midnight_of(conversation: Conversation) -> datetime:
    """Return what a deletion leaves of its beginning."""
    return conversation.began.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def month_of(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m}"


# --- The file of an export, as its recipient reads it --------------------------------------------------------


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
