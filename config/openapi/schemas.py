"""Base classes of response schemas, and the error. They only describe: responses are built as plain dictionaries."""

from pydantic import BaseModel, ConfigDict, Field

from common.problems import CODES


class ResponseModel(BaseModel):
    """Base of a response: every field is always present, and the string under it is its description."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ResponsePage(ResponseModel):
    """Base of a page of a list; a subclass adds `results`."""

    next: str | None
    """The address of the next page; null on the last one."""
    previous: str | None
    """The address of the page before; null on the first one."""


class FieldAtFault(ResponseModel):
    """An invalid field."""

    pointer: str
    """JSON Pointer of the field in the body; for a header or parameter empty, or `/` and its name."""
    code: str
    """The kind of error, such as `missing`."""
    detail: str
    """A description. Never quotes the value."""


class Problem(ResponseModel):
    """Why a call, or one item of it, was refused (RFC 9457)."""

    type: str
    """Link to the explanation: `/api/docs/errors#` and the code."""
    title: str
    """A short description of the code."""
    status: int = Field(ge=400, le=599)
    """The HTTP status."""
    detail: str
    """What happened, or what to do. Never quotes values."""
    code: str = Field(json_schema_extra={"enum": list(CODES)})
    """Stable: rely on it, not on the texts."""
    request_id: str
    """The `X-Trace-ID` of the call."""
    errors: list[FieldAtFault]
    """The invalid fields; empty if the error is not about single fields."""
