"""Read the parameters of a call's address: strict, so that a mistyped filter does not quietly filter nothing.

A call describes its parameters by a `Query`; `read_query` refuses what does not fit, each fault by its pointer
(`/limit`) and never by its value: what stands in an address may be anything. These are the types beside pydantic's
own and Literal:

| type | as it is written |
| --- | --- |
| `common.times.Instant` | RFC 3339 with a time zone, such as `2026-11-24T09:00:00Z` |
| `Day` | `2026-11-24` |
| `Month` | `2026-11`; read as its first day |
| `Flag` | `true` or `false` |
| `Whole` | a whole number, digits alone |
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from rest_framework.request import Request

from common.problems import FieldError, Problem
from common.times import EARLIEST, LATEST, RFC_3339


class Query(BaseModel):
    """The parameters that a call takes. Field names are theirs; an alias where Python has the name (`from`).

    The API's document takes them from here: the string under a field is its description, and `examples` has one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


Shape = TypeVar("Shape", bound=Query)

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGITS = re.compile(r"[0-9]{1,18}")
_FLAGS = {"true": True, "false": False}


def parse_day(text: str) -> date:
    """Read a day such as 2026-11-24; no other of ISO 8601's ways of writing one. Raises ValueError."""
    if not _DAY.fullmatch(text):
        raise ValueError("Not a day.")
    return date.fromisoformat(text)


def _day(text: Any) -> date:
    try:
        return parse_day(text)
    except ValueError:
        raise PydanticCustomError("not_a_day", "Not a day.") from None


def _month(text: Any) -> date:
    try:
        month = parse_day(f"{text}-01")
    except ValueError:
        month = date.min
    # As for instants: whatever is reckoned from it stays within the years that there are.
    if not EARLIEST.date() <= month < LATEST.date():
        raise PydanticCustomError("not_a_month", "Not a month.")
    return month


def _whole(text: Any) -> int:
    if not _DIGITS.fullmatch(text):
        raise PydanticCustomError("not_whole", "Not a whole number.")
    return int(text)


def _flag(text: Any) -> bool:
    if text not in _FLAGS:
        raise PydanticCustomError("not_a_flag", "Neither true nor false.")
    return _FLAGS[text]


Day = Annotated[date, BeforeValidator(_day)]
Month = Annotated[
    date,
    BeforeValidator(_month),
    WithJsonSchema({"type": "string", "pattern": "^(19[7-9]|[2-9][0-9]{2})[0-9]-(0[1-9]|1[0-2])$"}),
]
Whole = Annotated[int, BeforeValidator(_whole)]
Flag = Annotated[bool, BeforeValidator(_flag)]


def read_query(request: Request, shape: type[Shape]) -> Shape:
    """Return the parameters of a call. Raises Problem(`invalid`) that names every one at fault."""
    given = dict(request.query_params.lists())
    errors = [
        _error(name, "repeated_field", "Can be given once.") for name, values in given.items() if len(values) > 1
    ]
    try:
        query = shape.model_validate({name: values[0] for name, values in given.items()})
    except ValidationError as error:
        errors += [_in_our_words(one) for one in error.errors(include_url=False, include_input=False)]
    else:
        if not errors:
            return query
    # Raised outside the except block: its context would hold what was sent.
    raise Problem("invalid", "The parameters are not those that this call takes: see errors.", errors=errors)


# In an address a bare + is a space.
_TIME = "Must be an RFC 3339 time such as 2026-11-24T09:00:00Z, or with an offset such as %2B01:00."

# pydantic's error types -> our code and words; the words in braces are limits and offers of ours.
_WORDS: Mapping[str, tuple[str, str]] = {
    "missing": ("missing", "This parameter is required."),
    "extra_forbidden": ("unknown_field", "This call has no such parameter."),
    "literal_error": ("unknown_value", "Must be {expected}."),
    "enum": ("unknown_value", "Must be {expected}."),
    "not_a_flag": ("unknown_value", "Must be true or false."),
    "not_whole": ("invalid", "Must be a whole number."),
    "not_a_day": ("invalid", "Must be a day such as 2026-11-24."),
    "not_a_month": ("invalid", "Must be a month such as 2026-11."),
    "greater_than_equal": ("out_of_range", "Must be {ge} or more."),
    "less_than_equal": ("out_of_range", "Must be {le} or less."),
    "less_than": ("out_of_range", "Must be before {lt}."),
    "string_too_short": ("too_short", "Must have at least {min_length} character(s)."),
    "string_too_long": ("too_long", "Must have at most {max_length} characters."),
    "string_pattern_mismatch": ("wrong_pattern", "Must match {pattern}."),
    "datetime_parsing": ("invalid_time", _TIME),
    "datetime_from_date_parsing": ("invalid_time", _TIME),
    "timezone_aware": ("time_zone_missing", "Must name its time zone: Z or an offset such as %2B01:00."),
}


def _in_our_words(one: Any) -> FieldError:
    kind, context = one["type"], one.get("ctx", {})
    if kind == "string_pattern_mismatch" and context["pattern"] == RFC_3339:
        kind = "datetime_parsing"
    code, words = _WORDS.get(kind, ("invalid", "Is not valid."))
    return _error(str(one["loc"][0]) if one["loc"] else "", code, words.format(**context))


# A name that no parameter would have is not shown: people paste anything into an address.
_PLAIN_NAME = re.compile(r"[a-z][a-z_]{0,63}")


def _error(name: str, code: str, detail: str) -> FieldError:
    return FieldError(pointer=f"/{name}" if _PLAIN_NAME.fullmatch(name) else "", code=code, detail=detail)
