"""What the description of a call is made of (see the package's docstring for how it is used)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from common.problems import CODES, FieldError, Problem
from common.query import Query

JSON = "application/json"

# A JSON Schema, or the pydantic model to make it from.
Schema = type[BaseModel] | Mapping[str, Any]
View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Example:
    """A body, an answer or a value as it can stand on the wire. `summary` says what it is one of."""

    summary: str
    value: Any


@dataclass(frozen=True)
class Body:
    """A body that the call takes. `examples` by a short name; `encoding` of a form's parts, as OpenAPI has it.

    An `optional` one may be left out.
    """

    schema: Schema
    examples: Mapping[str, Example]
    media_type: str = JSON
    encoding: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False


@dataclass(frozen=True)
class Link:
    """Where to go from an answer: the operation, and its parameters as runtime expressions of OpenAPI."""

    operation_id: str
    parameters: Mapping[str, str]
    description: str


@dataclass(frozen=True)
class Answer:
    """What comes back; without `schema` no body. `headers` as OpenAPI has them, beside those of all answers."""

    description: str
    schema: Schema | None = None
    examples: Mapping[str, Example] = field(default_factory=dict)
    media_type: str = JSON
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameter:
    """A parameter beside those in the path."""

    name: str
    description: str
    schema: Mapping[str, Any]
    example: Any
    place: Literal["query", "header"] = "query"
    required: bool = False


def parameters_of(query: type[Query]) -> list[Parameter]:
    """Return the parameters that a call takes, from the model that reads them."""
    schema = query.model_json_schema()
    return [
        Parameter(
            name,
            said.pop("description"),
            _plain(said, schema.get("$defs", {})),
            said["examples"][0],
            required=name in schema.get("required", ()),
        )
        for name, said in schema.get("properties", {}).items()
    ]


def _plain(said: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter as it stands in an address: there is no null, and lists are in place."""
    [schema] = [one for one in said.get("anyOf", [said]) if one != {"type": "null"}]
    if "$ref" in schema:
        schema = parts[schema["$ref"].rpartition("/")[2]]
    plain = {key: schema[key] for key in schema.keys() - {"title", "description", "examples", "default"}}
    return plain if said.get("default") is None else plain | {"default": said["default"]}


@dataclass(frozen=True)
class Callback:
    """A call of ours to the client's server, at the URL that `expression` leads to."""

    expression: str
    operation: Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """All that the document says of a call and the view does not."""

    id: str
    summary: str
    description: str
    tag: str
    answers: Mapping[int, Answer]
    bodies: Sequence[Body] = ()
    parameters: Sequence[Parameter] = ()
    refuses: Sequence[str] = ()
    callbacks: Mapping[str, Callback] = field(default_factory=dict)


def describe(
    *,
    id: str,  # noqa: A002  OpenAPI's word
    summary: str,
    description: str,
    tag: str,
    answers: Mapping[int, Answer],
    bodies: Sequence[Body] = (),
    parameters: Sequence[Parameter] = (),
    refuses: Sequence[str] = (),
    callbacks: Mapping[str, Callback] | None = None,
) -> Callable[[View], View]:
    """Return the decorator that describes a view's method. `description` is Markdown, `refuses` codes of CODES."""
    unknown = set(refuses) - CODES.keys()
    if unknown:
        raise ValueError(f"{id} refuses with unknown codes: {', '.join(sorted(unknown))}")
    call = Call(
        id=id,
        summary=summary,
        description=cleandoc(description),
        tag=tag,
        answers=answers,
        bodies=bodies,
        parameters=parameters,
        refuses=refuses,
        callbacks=callbacks or {},
    )

    def decorate(view: View) -> View:
        view.described = call  # type: ignore[attr-defined]  # read by `description_of`
        return view

    return decorate


def description_of(method: Any) -> Call | None:
    """Return how a view's method is described, or None."""
    return getattr(method, "described", None)


def problem_example(code: str) -> dict[str, Any]:
    """Return a problem with this code, as an answer of ours holds it."""
    errors = []
    if code == "invalid":
        errors = [FieldError(pointer="/reference", code="wrong_type", detail="Must be a string.")]
    return Problem(code, errors=errors).as_dict() | {"request_id": "01a20e51-5222-7346-9cec-2e7f057cd17a"}
