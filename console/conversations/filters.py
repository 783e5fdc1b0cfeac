"""The filters of the conversations log: closed lists and days only, since they are part of the URL."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.conf.global_settings import LANGUAGES as DJANGOS_LANGUAGES
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.http import QueryDict

from common.times import EARLIEST, LATEST
from conversations.filtered_log import CsatFilter, LogFilters, ScoreFilter, StateFilter
from conversations.models import Conversation

DEFAULT_HOURS = 48
ONE_DAY = timedelta(days=1)

# Primary language subtags and their names: no free text gets into a URL.
LANGUAGES = dict(
    sorted(
        (
            {name.partition("-")[0]: label for name, label in reversed(DJANGOS_LANGUAGES) if "-" not in name}
            | {"zh": "Chinese", "no": "Norwegian"}
        ).items(),
        key=lambda one: one[1],
    )
)

_DAYS = [MinValueValidator(EARLIEST.date()), MaxValueValidator(LATEST.date() - 2 * ONE_DAY)]


class YesNo(models.TextChoices):
    YES = "yes", "Yes"
    NO = "no", "No"


class StartedBy(models.TextChoices):
    USER = "user", "The user"
    BOT = "bot", "The bot, by a push"


def _choice(label: str, choices: Any) -> forms.ChoiceField:
    return forms.ChoiceField(label=label, choices=[("", "Any"), *choices], required=False)


def _day(label: str) -> forms.DateField:
    return forms.DateField(
        label=label,
        required=False,
        input_formats=["%Y-%m-%d"],
        validators=_DAYS,
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )


class LogFilterForm(forms.Form):
    """An unknown filter is reported and not applied; the others are."""

    since = _day("From day")
    until = _day("To day")
    channel = _choice("Channel", Conversation.Channel.choices)
    language = _choice("Language", LANGUAGES.items())
    score = _choice("Conversation score", ScoreFilter.choices)
    csat = _choice("CSAT", CsatFilter.choices)
    handover = _choice("Agent handover", YesNo.choices)
    started = _choice("Started by", StartedBy.choices)
    uploads = _choice("With files", YesNo.choices)
    state = _choice("Deletion", StateFilter.choices)

    use_required_attribute = False
    label_suffix = ""


@dataclass(frozen=True)
class Chip:
    """An active filter: its parameter and its text."""

    name: str
    text: str


@dataclass(frozen=True)
class LogQuery:
    """The filters of a page and its time window, whose days are those of the chatbot's time zone."""

    form: LogFilterForm
    filters: LogFilters
    since: date | None
    until: date | None
    starts_at: datetime
    ends_at: datetime

    @property
    def has_default_window(self) -> bool:
        return self.since is None and self.until is None

    @property
    def parameters(self) -> dict[str, str]:
        """The valid fields that are set, as URL parameters."""
        return {
            name: str(value)
            for name, value in self.form.cleaned_data.items()
            if name in self.form.fields and value not in (None, "")
        }

    @property
    def chips(self) -> list[Chip]:
        return [Chip(name, f"{self.form.fields[name].label}: {self._text(name)}") for name in self.parameters]

    def _text(self, name: str) -> str:
        field, value = self.form.fields[name], self.parameters[name]
        offered: Any = field.choices if isinstance(field, forms.ChoiceField) else ()
        return str(dict(offered).get(value, value))


def read(given: QueryDict, *, zone: ZoneInfo, now: datetime) -> LogQuery:
    """Read the URL parameters. Invalid ones are left out, see `LogFilterForm`."""
    form = LogFilterForm(given)
    form.is_valid()
    chosen = form.cleaned_data
    since, until = chosen.get("since"), chosen.get("until")
    if since is None and until is None:
        starts_at, ends_at = now - timedelta(hours=DEFAULT_HOURS), now + ONE_DAY
    else:
        starts_at = _midnight(since, zone) if since else EARLIEST
        ends_at = _midnight(until + ONE_DAY, zone) if until else now + ONE_DAY
    return LogQuery(form, _filters(chosen), since, until, starts_at, ends_at)


def _filters(chosen: dict[str, Any]) -> LogFilters:
    is_yes = {"yes": True, "no": False, "bot": True, "user": False}
    return LogFilters(
        channel=chosen.get("channel") or None,
        language=chosen.get("language") or None,
        score=ScoreFilter(chosen["score"]) if chosen.get("score") else None,
        csat=CsatFilter(chosen["csat"]) if chosen.get("csat") else None,
        state=StateFilter(chosen["state"]) if chosen.get("state") else None,
        has_agent_handover=is_yes.get(chosen.get("handover", "")),
        has_push=is_yes.get(chosen.get("started", "")),
        has_file_upload=is_yes.get(chosen.get("uploads", "")),
    )


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
