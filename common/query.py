"""Query parameters of API calls, strictly validated, so that a mistyped filter is not ignored.

A subclass of `Query` declares the parameters; `read_query` reports errors by pointer (`/limit`), never by value.
"""

import re
from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from rest_framework.request import Request

from common.problems import Problem, error_at, field_errors
from common.texts import ERRORS
from common.times import EARLIEST, LATEST, RFC_3339


class Query(BaseModel):
    """Base of the parameters of a call. A field needs an alias if Python reserves its name (`from`).

    Types besides pydantic's own: `common.times.Instant`, and `Day`, `Month`, `Flag` and `Whole` below. The API's
    document uses the string under a field as its description, and the first of its `examples`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


QueryT = TypeVar("QueryT", bound=Query)

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DIGITS = re.compile(r"[0-9]{1,18}")
_FLAGS = {"true": True, "false": False}


def parse_day(text: str) -> date:
    """Parse a day such as 2026-11-24, and no other format of ISO 8601. Raises ValueError."""
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
    # As for instants, so that calculations stay within the years of Python.
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


def read_query(request: Request, model: type[QueryT]) -> QueryT:
    """Return the validated parameters of a call. Raises Problem(`invalid`) with an error for each invalid one."""
    given = dict(request.query_params.lists())
    repeated = [name for name, values in given.items() if len(values) > 1]
    errors = [error_at((name,), "repeated_field", "Can be given once.") for name in repeated]
    try:
        query = model.model_validate({name: values[0] for name, values in given.items()})
    except ValidationError as error:
        errors += field_errors(error, _ERRORS)
    else:
        if not errors:
            return query
    # Raised outside of the except block: its context would contain the values.
    raise Problem("invalid", "Some parameters are invalid: see errors.", errors=errors)


# In a query a plain + is a space.
_TIME = ("invalid_time", "Must be an RFC 3339 time such as 2026-11-24T09:00:00Z, or with an offset such as %2B01:00.")

_ERRORS = {
    **ERRORS,
    "missing": ("missing", "This parameter is required."),
    "extra_forbidden": ("unknown_field", "This call has no such parameter."),
    "not_a_flag": ("unknown_value", "Must be true or false."),
    "not_whole": ("invalid", "Must be a whole number."),
    "not_a_day": ("invalid", "Must be a day such as 2026-11-24."),
    "not_a_month": ("invalid", "Must be a month such as 2026-11."),
    **dict.fromkeys((RFC_3339, "datetime_parsing", "datetime_from_date_parsing"), _TIME),
    "timezone_aware": ("time_zone_missing", "Must name its time zone: Z or an offset such as %2B01:00."),
}
