"""Tags and filters of the console's templates."""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from uuid import UUID
from zoneinfo import ZoneInfo

from django import template
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """Draw a symbol of the sprite; with a label it speaks for itself, else it only decorates the words beside it."""
    spoken = format_html('role="img" aria-label="{}"', label) if label else SafeString('aria-hidden="true"')
    return format_html(
        '<svg class="icon" {}><use href="{}#{}"></use></svg>', spoken, static("console/icons.svg"), name
    )


@register.simple_tag
def moment(at: datetime | None, zone: str = "UTC", form: str = "%Y-%m-%d %H:%M") -> SafeString:
    """Show an instant in a time zone, for people and for machines; the page names the zone once, beside it."""
    if at is None:
        return SafeString("")
    local = timezone.localtime(at, _zone(zone))
    return format_html(
        '<time datetime="{}" title="{} {}">{}</time>',
        at.isoformat(),
        local.strftime("%Y-%m-%d %H:%M:%S"),
        zone,
        local.strftime(form),
    )


@register.filter
def thousands(number: int) -> str:
    """Write a whole number as people read it: 12,345."""
    return f"{number:,}"


@register.filter
def short_id(identifier: object) -> str:
    """Return the last characters of a UUID: those by which people tell two apart. The first ones are a time."""
    return str(identifier)[-8:]


@register.filter
def of(names: Mapping[str, str], key: str) -> str:
    """Return what a mapping has under a key, or the key."""
    return names.get(key, key)


def _zone(name: str) -> tzinfo:
    return ZoneInfo(name)


@register.simple_tag
def request_link(request_id: UUID, *, short: bool = False) -> SafeString:
    """Name a request by its id, or by the end of it, as a link to its page."""
    url = reverse("console:request", args=[request_id])
    if short:
        return format_html(
            '<a class="mono short-id" href="{}" title="{}">…{}</a>', url, request_id, short_id(request_id)
        )
    return format_html('<a class="mono" href="{}">{}</a>', url, request_id)
