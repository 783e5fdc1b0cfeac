"""Instants in the API, and the beginnings of days."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated, overload

from pydantic import GetPydanticSchema, PlainSerializer, WithJsonSchema
from pydantic_core import core_schema

# Every instant in between can be shown in every time zone within the years 1 to 9999.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
# How far ahead of ours a platform's clock may be.
MOST_AHEAD = timedelta(days=1)

# A pattern, since pydantic would accept "1575215418" as Unix time. The offset is optional so that its absence gets an
# error of its own. PostgreSQL accepts offsets below 16 hours; time zones have 14 at most.
_OFFSET = r"[Zz]|[+-](0[0-9]|1[0-5]):[0-9]{2}"
RFC_3339 = rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[Tt ][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]+)?({_OFFSET})?$"
_DATE_TIME = {"type": "string", "format": "date-time"}
_SCHEMA = core_schema.chain_schema(
    [
        core_schema.str_schema(strict=True, pattern=RFC_3339),
        core_schema.datetime_schema(strict=False, tz_constraint="aware", ge=EARLIEST, lt=LATEST),
    ]
)

# For pydantic: RFC 3339 with a time zone, from EARLIEST to before LATEST.
Instant = Annotated[
    datetime,
    GetPydanticSchema(lambda _source, _handler: _SCHEMA),
    WithJsonSchema(_DATE_TIME),
]


@overload
def rfc3339(at: datetime) -> str: ...
@overload
def rfc3339(at: datetime | None) -> str | None: ...
def rfc3339(at: datetime | None) -> str | None:
    """Return an instant as RFC 3339 in UTC, with microseconds and a Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if at else None


# For pydantic: an instant of a response, rendered by `rfc3339`.
UtcInstant = Annotated[datetime, PlainSerializer(rfc3339, return_type=str), WithJsonSchema(_DATE_TIME)]


def midnight(day: date, zone: tzinfo) -> datetime:
    """Return the instant at which a day begins in a time zone. Where clocks skip midnight, it is when they do."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
