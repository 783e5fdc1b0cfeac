"""Filters for numbers in the console's templates."""

from datetime import timedelta

from django import template

register = template.Library()

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@register.filter
def thousands(number: int | None) -> str:
    """Show a number with a comma at each thousand; nothing for none."""
    return "" if number is None else f"{number:,}"


@register.filter
def span(length: object) -> str:
    """Show a length of time by its two largest units: `3 d 4 h`, `2 min 10 s`, `0.4 s`; nothing for anything else."""
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
def tail(identifier: object, length: int) -> str:
    """Return the end of an id: by it people tell two apart, since the beginning of ours is a time."""
    return str(identifier)[-length:]
