"""What answers are made of. These models describe; the answers themselves are plain dictionaries."""

from pydantic import BaseModel, ConfigDict, Field

from common.problems import CODES


class Shape(BaseModel):
    """The base of what the API answers with: all fields always present, described by the string under each."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Page(Shape):
    """The base of a page of a list, which adds its `results`."""

    next: str | None
    """The address of the next page; null on the last one."""
    previous: str | None
    """The address of the page before; null on the first one."""


class FieldAtFault(Shape):
    """One field that is wrong."""

    pointer: str
    """JSON Pointer of the field in the body; for a header or a parameter empty or `/` and its name."""
    code: str
    """What is wrong with it, such as `missing`."""
    detail: str
    """The same in words. Never quotes what was sent."""


class Problem(Shape):
    """Why a call, or one item of it, was refused (RFC 9457)."""

    type: str
    """Where the code is explained: `/api/docs/errors#` and the code."""
    title: str
    """The code in words."""
    status: int = Field(ge=400, le=599)
    """The HTTP status."""
    detail: str
    """What happened, or what to do. Never quotes what was sent."""
    code: str = Field(json_schema_extra={"enum": list(CODES)})
    """Stable: rely on it, not on the words."""
    request_id: str
    """The `X-Trace-ID` of the call."""
    errors: list[FieldAtFault]
    """The fields at fault; empty where no single field is."""
