"""What a conversation that nobody erases must be like: for its rows, and for what the API shows of it."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.oracle.model import KEPT, Conversation, Request

Texts = Mapping[str, tuple[str, str]]


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
    for message in set(found) - set(conversation.tried_texts):
        yield "neighbour", f"{conversation.id} has a message that nobody sent: {message}"


def _faults_of_redacted(
    conversation: Conversation, message: str, redaction: Request | None, *, is_redacted: bool
) -> Iterator[tuple[str, str]]:
    if redaction is None or redaction.status in {"cancelled", "rejected"}:
        yield "neighbour", f"message {message} of {conversation.id} was redacted, and nobody asked for that"
    elif not is_redacted:
        yield "redaction", f"message {message} of {conversation.id} still has its text: {redaction}"


def differing(conversation: Conversation, facts: Mapping[str, Any], names: Collection[str] = ()) -> list[str]:
    """Return the names of the facts, all by default, that are not as they were sent."""
    return sorted(name for name in names or facts if facts[name] != conversation.facts[name])


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


def midnight_of(conversation: Conversation) -> datetime:
    """Return what a deletion leaves of its beginning."""
    return conversation.began.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def month_of(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m}"
