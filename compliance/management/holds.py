"""Shared by the commands about legal holds: their arguments, and how they print a hold."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core.management.base import CommandError, CommandParser

from chatbots.management.base import find_open_chatbot
from common.commands import ReportingCommand
from compliance.errors import Refused
from compliance.models import LegalHold


class HoldCommand(ReportingCommand):
    """A command about one legal hold."""

    refusals: ClassVar = {Refused: 2}

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("hold_id", type=UUID, help="The hold's id: legal_holds lists them.")


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
    return f"{at.astimezone(ZoneInfo(hold.chatbot.timezone)):%Y-%m-%d}"
