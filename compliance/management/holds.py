"""Shared by the commands about legal holds: their arguments, and how they print a hold."""

import argparse
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import find_open_chatbot
from common.texts import counted
from compliance.models import LegalHold


def add_hold_argument(parser: CommandParser) -> None:
    parser.add_argument("hold_id", type=_parse_hold_id, help="The hold's id: legal_holds lists them.")


def find_hold(hold_id: UUID) -> LegalHold:
    """Return a hold. Raises CommandError, also if a restore has left its chatbot closed."""
    hold = LegalHold.objects.select_related("chatbot", "variable").filter(pk=hold_id).first()
    if hold is None:
        raise CommandError("There is no such legal hold: legal_holds lists them.")
    find_open_chatbot(hold.chatbot.slug)
    return hold


def line_of(hold: LegalHold) -> str:
    """Return a line about a hold, without the value."""
    scopes = {
        LegalHold.Scope.UCI: f"one chatter, by {hold.variable.name if hold.variable else 'the UCI'}",
        LegalHold.Scope.CONVERSATIONS: "conversations by their ids",
        LegalHold.Scope.CHATBOT: "the whole chatbot",
    }
    state = (
        f"released {_day(hold, hold.released_at)}"
        if hold.released_at
        else f"in force, review {_day(hold, hold.review_at)}"
    )
    matter = hold.matter or "matter forgotten"
    return f"{hold.pk} {hold.chatbot.slug}: {scopes[LegalHold.Scope(hold.scope)]}, {matter}, {state}"


def _day(hold: LegalHold, at: datetime) -> str:
    """Return a day in the time zone of the hold's chatbot."""
    return f"{at.astimezone(ZoneInfo(hold.chatbot.timezone)):%Y-%m-%d}"


def covers(counts: Any) -> str:
    """Return a line about the counts of a hold."""
    held = counted(counts.held, "conversation")
    return (
        f"Holds {held}. Already being erased: {counts.already_marked:,}. Already erased: {counts.already_erased:,}."
    )


def _parse_hold_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a hold's id is a UUID, as the API and the log show it") from None
