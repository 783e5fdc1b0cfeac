"""A transcript by day, one bubble per message, long ones folded."""

from collections.abc import Sequence
from datetime import date, datetime
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

from conversations.messages import MessageWithFiles
from conversations.models import Message, UploadedFile

# Longer texts are folded.
LONGEST = 3_000
_BEGINNING = 1_500
# How far back a text is cut at a space.
_BACK = 200


class Bubble(NamedTuple):
    sender: str
    sender_label: str
    kind: str
    kind_label: str
    at: datetime
    text: str
    rest: str
    characters: int
    files: list[UploadedFile]


class Day(NamedTuple):
    day: date
    bubbles: list[Bubble]


def by_day(said: Sequence[MessageWithFiles], *, zone: ZoneInfo) -> list[Day]:
    """Return messages in the order of time by days of a time zone."""
    days = groupby(said, key=lambda one: one.message.sent_at.astimezone(zone).date())
    return [Day(day, [_bubble(one) for one in of_day]) for day, of_day in days]


def _bubble(said: MessageWithFiles) -> Bubble:
    message = said.message
    text, rest = _folded(message.text)
    is_plain = message.kind == Message.Kind.TEXT
    return Bubble(
        sender=message.sender,
        sender_label=Message.Sender(message.sender).label,
        kind=message.kind,
        kind_label="" if is_plain else Message.Kind(message.kind).label,
        at=message.sent_at,
        text=text,
        rest=rest,
        characters=len(message.text),
        files=said.files,
    )


def _folded(text: str) -> tuple[str, str]:
    """Return the beginning and the rest of a long text, cut at a space where there is one."""
    if len(text) <= LONGEST:
        return text, ""
    cut = max(text.rfind(" ", _BEGINNING - _BACK, _BEGINNING), text.rfind("\n", _BEGINNING - _BACK, _BEGINNING))
    cut = cut if cut > 0 else _BEGINNING
    return text[:cut], text[cut:]
