"""Instants as the API writes them."""

from datetime import UTC, datetime


def rfc3339(at: datetime | None) -> str | None:
    """Return an instant as RFC 3339 in UTC, with microseconds always and a Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if at else None
