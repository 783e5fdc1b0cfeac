"""The API document, to validate responses, bodies and examples."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from django.urls import Resolver404, get_resolver, resolve
from jsonschema_rs import Draft202012Validator

from config.openapi import views
from tests.every_call import leaves


class Operation(NamedTuple):
    method: str
    path: str
    document: dict[str, Any]


@cache
def document() -> dict[str, Any]:
    return views.document()


def operations() -> Iterator[Operation]:
    for path, methods in document()["paths"].items():
        for method, described in methods.items():
            yield Operation(method, path, described)


def paths_of_the_api() -> Iterator[str]:
    """Every path below /api/v1/ that leads to a view, as the document writes it."""
    for route, _ in leaves(get_resolver(), "/"):
        if route.startswith("/api/v1/"):
            yield _as_documented(route)


def dereferenced(part: dict[str, Any]) -> dict[str, Any]:
    """Return the target of a reference, or the part itself."""
    found: Any = part
    if "$ref" in part:
        found = document()
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
    return dict(found)


def errors_of(value: Any, schema: dict[str, Any]) -> list[str]:
    """Return the errors of a value against a schema of the document; unnamed fields are errors."""
    return [f"{error.instance_path}: {error.message}" for error in _validator(json.dumps(schema)).iter_errors(value)]


def assert_documented(method: str, url: str, response: Any) -> None:
    """Fail unless the document describes this response: status, media type, headers and body."""
    operation = _operation_at(method.lower(), url)
    if operation is None or response.status_code in {405, 500}:
        return
    name = f"{operation['operationId']} {response.status_code}"
    described = operation["responses"].get(str(response.status_code))
    assert described is not None, f"The document does not describe {name}"
    for header, what in described.get("headers", {}).items():
        assert header in response.headers or not dereferenced(what)["required"], f"{name}: {header} is missing"
    if "content" not in described:
        assert not response.content, f"{name}: has a body"
        return
    media_type = response.headers["Content-Type"].split(";")[0]
    assert media_type in described["content"], f"{name}: {media_type}"
    if media_type.endswith("json"):
        content = described["content"][media_type]
        for value in _values_of(response, media_type):
            assert errors_of(value, content["schema"]) == [], name
        if media_type == "application/problem+json":
            assert response.json()["code"] in content["examples"], f"{name}: {response.json()['code']}"


def _values_of(response: Any, media_type: str) -> list[Any]:
    if media_type == "application/x-ndjson":
        return [json.loads(line) for line in response.text.splitlines()]
    return [response.json()]


def _operation_at(method: str, url: str) -> dict[str, Any] | None:
    try:
        route = resolve(url.split("?", maxsplit=1)[0]).route
    except Resolver404:
        return None
    described = document()["paths"].get(_as_documented(f"/{route}"), {}).get(method)
    return dict(described) if described else None


def _as_documented(route: str) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)


@cache
def _components() -> dict[str, Any]:
    return {"schemas": _strict(document()["components"]["schemas"])}


@cache
def _validator(schema: str) -> Draft202012Validator:
    """The validator of a schema, with references to those of the document."""
    return Draft202012Validator(_strict(json.loads(schema)) | {"components": _components()}, validate_formats=True)


def _strict(schema: Any) -> Any:
    """Return the schema with unnamed fields forbidden."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(part) for key, part in schema.items()}
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        strict["additionalProperties"] = False
    return strict
