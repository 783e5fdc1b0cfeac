"""Tags and filters of the console's templates."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django import template
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from chatbots.models import Chatbot
from common import texts
from console.conversations.transcript_page import folded
from console.help import page_url, title_of
from console.requests import labels
from console.settings.page import address_of

register = template.Library()

register.simple_tag(address_of, name="settings_url")
register.filter("counted", texts.counted)
register.filter("folded", folded)
# Of a request.
register.filter("state_of", labels.state_of)
register.filter("formats_of", labels.formats_of)
register.filter("short_hold", labels.short_hold)
register.filter("short_step", labels.short_step)
register.filter("due_mark", labels.due_mark)


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """Render a symbol of the sprite, hidden from screen readers unless it has a label."""
    attributes = format_html('role="img" aria-label="{}"', label) if label else SafeString('aria-hidden="true"')
    return format_html(
        '<svg class="icon" {}><use href="{}#{}"></use></svg>', attributes, static("console/icons.svg"), name
    )


@register.simple_tag
def moment(at: datetime | None, zone: str = "UTC", form: str = "%Y-%m-%d %H:%M") -> SafeString:
    """Render an instant in a time zone, which the page shows elsewhere."""
    if at is None:
        return SafeString("")
    local = timezone.localtime(at, ZoneInfo(zone))
    return format_html(
        '<time datetime="{}" title="{} {}">{}</time>',
        at.isoformat(),
        local.strftime("%Y-%m-%d %H:%M:%S"),
        zone,
        local.strftime(form),
    )


@register.simple_tag
def help_link(name: str, chatbot: Chatbot | None = None) -> SafeString:
    """Render a link to a page of help, with its title; to a guide about the chatbot if one is given."""
    return format_html(
        '<a class="help-link" href="{}">{}{}</a>', page_url(name, chatbot), icon("help"), title_of(name)
    )


@register.filter
def thousands(number: int | None) -> str:
    """Return a number as `12,345`; an empty string for None."""
    return "" if number is None else f"{number:,}"


# The strongest first.
_IDENTIFIED = {
    "verified": "verified by the client",
    "platform": "said by the platform",
    "user_channel": "claimed through the user channel",
}


@register.filter
def identified(numbers: Mapping[str, int] | None) -> str:
    """Return numbers of conversations by assurance in words, without those that are 0."""
    counted = ((numbers or {}).get(level, 0) for level in _IDENTIFIED)
    return ", ".join(
        f"{number:,} {words}" for number, words in zip(counted, _IDENTIFIED.values(), strict=True) if number
    )


_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@register.filter
def duration(length: object) -> str:
    """Return a timedelta in its two largest units: `3 d 4 h`, `2 min 10 s`, `0.4 s`. Empty for other values."""
    if not isinstance(length, timedelta):
        return ""
    seconds = length.total_seconds()
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for name, size in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {name}" if number else "")
    return " ".join(part for part in parts[:2] if part)


@register.filter
def age(at: datetime) -> str:
    """Return for how long something is there, in its largest unit."""
    now = timezone.now()
    return f"{timesince(at, now, depth=1)} ago" if now - at >= timedelta(minutes=1) else "just now"


@register.filter
def short_id(identifier: object) -> str:
    """Return the last characters of a UUID. The first ones are a time, and differ little."""
    return str(identifier)[-8:]


@register.filter
def of(names: Mapping[str, str], key: str) -> str:
    return names.get(key, key)


@register.filter
def item(values: Mapping[Any, Any] | None, key: Any) -> Any:
    return (values or {}).get(key)


@register.simple_tag
def request_link(request_id: UUID, *, short: bool = False) -> SafeString:
    url = reverse("console:request", args=[request_id])
    if short:
        return format_html(
            '<a class="mono short-id" href="{}" title="{}">…{}</a>', url, request_id, short_id(request_id)
        )
    return format_html('<a class="mono" href="{}">{}</a>', url, request_id)
