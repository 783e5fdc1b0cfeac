"""Describes a view's method in the API's document: `describe`, helpers for its arguments, and responses.

A response is an instance of the model that describes it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import Annotated, Any, TypeVar

from drf_spectacular.utils import (
    OpenApiCallback,
    OpenApiExample,
    OpenApiParameter,
    OpenApiRequest,
    OpenApiResponse,
    extend_schema,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from rest_framework.renderers import JSONRenderer
from rest_framework.utils.encoders import JSONEncoder

from common import problems
from common.problems import CODES, FieldError
from common.query import Query

JSON = "application/json"

View = TypeVar("View", bound=Callable[..., Any])
Links = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Extras:
    """The parts of a description besides drf-spectacular's own options."""

    refuses: Sequence[str]
    links: Links
    body_required: bool


def describe(
    *,
    operation_id: str,
    summary: str,
    description: str,
    tag: str,
    responses: Mapping[int, OpenApiResponse] | Mapping[tuple[int, str], OpenApiResponse],
    request: OpenApiRequest | Mapping[str, OpenApiRequest] | None = None,
    body_required: bool = True,
    parameters: Sequence[OpenApiParameter] = (),
    refuses: Sequence[str] = (),
    links: Links | None = None,
    callbacks: Sequence[OpenApiCallback] = (),
) -> Callable[[View], View]:
    """Return drf-spectacular's `extend_schema` with additions.

    `description` is Markdown. `request` is JSON, or maps media types to requests. `responses` are JSON by status, or
    by status and media type. `refuses` lists the error codes (`common.problems.CODES`) that only this operation
    returns. `links` belong to the successful response.
    """
    unknown = set(refuses) - CODES.keys()
    if unknown:
        raise ValueError(f"{operation_id} refuses with unknown codes: {', '.join(sorted(unknown))}")
    extend = extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=cleandoc(description),
        tags=[tag],
        responses=dict(responses),
        request={JSON: request} if isinstance(request, OpenApiRequest) else dict(request or {}),
        parameters=list(parameters),
        callbacks=list(callbacks),
    )

    def decorate(view: View) -> View:
        view.extras = Extras(refuses, links or {}, body_required)  # type: ignore[attr-defined]  # read by CallSchema
        return extend(view)

    return decorate


# Name, value and summary.
Example = tuple[str, Any, str]


def takes(body: Any, *examples: Example, encoding: dict[str, dict[str, Any]] | None = None) -> OpenApiRequest:
    return OpenApiRequest(body, encoding=encoding, examples=list(_examples(examples)))


def answer(body: Any, description: str, *examples: Example) -> OpenApiResponse:
    return OpenApiResponse(body, description, examples=list(_examples(examples)))


def _examples(examples: Sequence[Example]) -> Iterator[OpenApiExample]:
    for name, value, summary in examples:
        yield OpenApiExample(name, value, summary=summary)


def link(operation_id: str, description: str, **parameters: str) -> dict[str, Any]:
    """Return a link to another operation of the chatbot. `parameters` are runtime expressions of OpenAPI."""
    return {
        "operationId": operation_id,
        "parameters": {"slug": "$request.path.slug", **parameters},
        "description": description,
    }


def location_header(description: str, *, example: str) -> OpenApiParameter:
    return OpenApiParameter(
        "Location",
        {"type": "string", "format": "uri"},
        OpenApiParameter.HEADER,
        required=True,
        description=description,
        examples=[OpenApiExample("link", example)],
        response=[302],
    )


def parameters_of(query: type[Query]) -> list[OpenApiParameter]:
    schema = query.model_json_schema()
    return [
        OpenApiParameter(
            name,
            _query_schema(field, schema.get("$defs", {})),
            required=name in schema.get("required", ()),
            description=field["description"],
            examples=[OpenApiExample(name, field["examples"][0])],
        )
        for name, field in schema["properties"].items()
    ]


def _query_schema(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a query parameter: never null, its definition in place."""
    [schema] = [option for option in field.get("anyOf", [field]) if option != {"type": "null"}]
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    left_out = {"title", "description", "examples", "default"}
    schema = {key: value for key, value in schema.items() if key not in left_out}
    return schema if field.get("default") is None else schema | {"default": field["default"]}


def problem_example(code: str) -> dict[str, Any]:
    errors = []
    if code == "invalid":
        errors = [FieldError(pointer="/reference", code="wrong_type", detail="Must be a string.")]
    ids = dict.fromkeys(("trace_id", "request_id"), "01a20e51-5222-7346-9cec-2e7f057cd17a")
    return problems.Problem(code, errors=errors).as_dict() | ids


class ResponseModel(BaseModel):
    """Base of a response: every field is always present, and the string under it is its description.

    `model_validate` makes one from an object whose attributes have the names of the fields.
    """

    model_config = ConfigDict(use_attribute_docstrings=True, from_attributes=True)

    def as_json(self) -> dict[str, Any]:
        """Return the response as it is rendered. Without pydantic's warnings, which would quote values."""
        return self.model_dump(mode="json", warnings=False)


def _as_stored(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return value


Value = TypeVar("Value")
# For stored values that no constraint of the database limits. Another version of the service, during an upgrade or
# before one was undone, can have stored a value that this version does not define. It is shown unchanged: a failed
# response would hide the other requests of its page too.
Stored = Annotated[Value, WrapValidator(_as_stored)]


class _Encoder(JSONEncoder):
    def default(self, obj: Any) -> Any:
        return obj.as_json() if isinstance(obj, ResponseModel) else super().default(obj)


class ModelRenderer(JSONRenderer):
    """Renders models too, alone or within lists and dictionaries."""

    encoder_class = _Encoder


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
    trace_id: str
    """The `X-Trace-ID` of the call. Quote it when you report a problem."""
    request_id: str
    """The former name of `trace_id`, with the same value; not the id of a deletion or export."""
    errors: list[FieldAtFault]
    """The invalid fields; empty if the error is not about single fields."""
