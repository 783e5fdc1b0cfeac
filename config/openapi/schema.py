"""Teaches drf-spectacular to build the document from our views, their descriptions and pydantic models.

Whatever operations share is added here: authentication and scopes, error responses, headers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, cast

from drf_spectacular.drainage import error
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from drf_spectacular.utils import Direction, OpenApiExample, OpenApiRequest
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from common.problems import CODES, CONTENT_TYPE, RETRY_AFTER_SECONDS
from config.openapi.operations import Extras, Problem, problem_example
from config.openapi.samples import samples_of

_ANY_CALL = (
    *("not_authenticated", "scope_missing", "not_found", "not_acceptable", "rate_limited"),
    *("unavailable", "restored_database", "catching_up"),
)
_SIGNED_CALL = ("invalid_signature", "stale_timestamp")
_CALL_WITH_BODY = ("invalid", "too_large", "unsupported_media_type")

_REQUEST_ID: dict[str, Any] = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "Your own id of this call, returned in the response: 8 to 64 letters, digits, `.`, `_` or `-`. "
    "Otherwise the response has the `X-Trace-ID` there. It is not stored.",
    "schema": {"type": "string"},
    "example": "01a20e51-5222-7346-9cec-2e7f057cd17a",
}

# Added to what drf-spectacular finds in the route.
_PATH_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "slug": {
        "description": "The chatbot's name in URLs.",
        "example": "acme",
        "schema": {"type": "string", "pattern": "^[-a-zA-Z0-9_]+$"},
    },
    "request_id": {
        "description": "The request's id, from the response to its filing.",
        "example": "01a20e4f-2ccd-727b-ad28-e544e31ea60e",
    },
    "number": {
        "description": "The conversation's number, from the response to storing it; not the platform's id.",
        "example": 17,
    },
    "hold_id": {
        "description": "The legal hold's id, from the response to placing it.",
        "example": "01a20e4f-6b1d-7c55-9f0e-2f6a41c7d3b8",
    },
    "file_id": {"description": "The file's number, from the response to storing it.", "example": 5},
    "day": {
        "description": "A day in the chatbot's time zone.",
        "example": "2026-11-23",
        "schema": {"type": "string", "format": "date"},
    },
}


def _header(description: str, schema: dict[str, Any], example: Any, *, required: bool = True) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": schema, "example": example}


_STRING: dict[str, Any] = {"type": "string"}
_ID = "01a20e51-5222-7346-9cec-2e7f057cd17a"

_HEADERS: Mapping[str, dict[str, Any]] = {
    "X-Trace-ID": _header("Our id of the call in our logs. Quote it when you report a problem.", _STRING, _ID),
    "X-Request-ID": _header("Your own id of the call, or ours.", _STRING, _ID),
    # Absent if the operator has switched limits off, or if the key belongs to another chatbot.
    "RateLimit-Limit": _header(
        "How many calls the key may make per minute.", {"type": "integer", "minimum": 1}, 6_000, required=False
    ),
    "RateLimit-Remaining": _header(
        "How many calls are left in this minute, approximately.",
        {"type": "integer", "minimum": 0},
        5_874,
        required=False,
    ),
    "RateLimit-Reset": _header(
        "Seconds until the next minute begins.", {"type": "integer", "minimum": 1}, 42, required=False
    ),
    # Absent from `restored_database`.
    "Retry-After": _header(
        "Seconds to wait before retrying. Without it, a retry does not help.",
        {"type": "integer", "minimum": 0},
        RETRY_AFTER_SECONDS,
        required=False,
    ),
    "WWW-Authenticate": _header("How to authenticate.", _STRING, 'Bearer realm="data-compliance"'),
}
_HEADERS_OF_STATUS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}

_RATE_LIMIT = tuple(name for name in _HEADERS if name.startswith("RateLimit-"))
# Responses sent before the key is known.
_NOT_COUNTED = (401, 406)


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself
    target_class = "chatbots.authentication.TokenAuthentication"
    name = "token"

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{self.name: [scope]} for scope in scopes_of(auto_schema.view, auto_schema.method)]

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:  # noqa: ARG002
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "dca_<prefix>_<secret>",
            "description": "A token of the chatbot: `Authorization: Bearer dca_...`. It serves every call that its "
            "scopes allow.",
        }


class SignatureScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "chatbots.authentication.SignatureAuthentication"
    name = ["signatureTimestamp", "signature"]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        return [{name: [scope] for name in self.name} for scope in scopes_of(auto_schema.view, auto_schema.method)]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:  # noqa: ARG002
        return [
            {
                "type": "apiKey",
                "in": "header",
                "name": "X-Mindsay-Timestamp",
                "description": "Current time in Unix seconds, within 5 minutes of ours. "
                "Required with `X-Mindsay-Signature`.",
            },
            {
                "type": "apiKey",
                "in": "header",
                "name": "X-Mindsay-Signature",
                "description": "HMAC-SHA256 of the timestamp directly followed by the exact bytes of the body, under "
                "the secret of a signing key, as lower-case hex. Required with `X-Mindsay-Timestamp`.",
            },
        ]


class CallSchema(AutoSchema):
    """DRF's DEFAULT_SCHEMA_CLASS. A view's method without a description is an error of the document."""

    registry: ComponentRegistry
    extras: Extras

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> dict[str, Any] | None:
        extras = getattr(getattr(self.view, method.lower()), "extras", None)
        if extras is None:
            error(f"{method} {path} is not described (see config/openapi/__init__.py)")
            return None
        self.extras = extras
        operation = super().get_operation(path, path_regex, path_prefix, method, registry)
        if operation is not None:
            operation["description"] += f"\n\n{self._authorization()}"
        return operation

    @property
    def _takes_signature(self) -> bool:
        return len(self.view.authentication_classes) > 1

    def _authorization(self) -> str:
        how = "a signature or a token" if self._takes_signature else "a token"
        scopes = " or ".join(f"`{scope}`" for scope in scopes_of(self.view, self.method))
        return f"Takes {how}. The key needs the scope {scopes}."

    def get_extensions(self) -> dict[str, Any]:
        if self.method != "POST":
            return {}
        requests = cast("Mapping[str, OpenApiRequest]", self.get_request_serializer())
        return {"x-codeSamples": samples_of(requests, path=self.path, signed=self._takes_signature)}

    def resolve_serializer(
        self,
        serializer: Any,
        direction: Direction,
        bypass_extensions: bool = False,  # noqa: ARG002  drf-spectacular's signature
    ) -> ResolvedComponent:
        mode: JsonSchemaMode = "validation" if direction == "request" else "serialization"
        return component_of(serializer, self.registry, mode=mode)

    def _component(self, name: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
        component = ResolvedComponent(name, kind, schema, object=name)  # type: ignore[no-untyped-call]
        self.registry.register_on_missing(component)
        return component.ref

    # --- Parameters

    def _get_parameters(self) -> list[dict[str, Any]]:
        names = [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
        for parameter in self._resolve_path_parameters(names):  # type: ignore[no-untyped-call]
            name = parameter["name"]
            if name in _PATH_PARAMETERS:
                self._component(name, ResolvedComponent.PARAMETER, {**parameter, **_PATH_PARAMETERS[name]})
            else:
                error(f"the path parameter {name} is not described in config/openapi/schema.py")
        return [
            *({"$ref": f"#/components/parameters/{name}"} for name in names),
            *map(_with_one_example, self._process_override_parameters().values()),  # type: ignore[no-untyped-call]
            self._component("X-Request-ID", ResolvedComponent.PARAMETER, _REQUEST_ID),
        ]

    # --- Bodies

    def _get_request_body(self, direction: Direction = "request") -> dict[str, Any] | None:
        body: dict[str, Any] | None = super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        return body and {**body, "required": self.extras.body_required}

    def _get_examples(
        self,
        serializer: Any,  # noqa: ARG002
        direction: Direction,  # noqa: ARG002
        media_type: str,  # noqa: ARG002
        status_code: str | None = None,  # noqa: ARG002
        extras: Sequence[OpenApiExample] | None = None,
    ) -> dict[str, Any]:
        """Return the examples of one body, under their names as they are."""
        return {example.name: {"summary": example.summary, "value": example.value} for example in extras or ()}

    # --- Responses

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        responses: dict[str, Any] = super()._get_response_bodies(direction)
        for response in responses.values():
            own = {name: _with_one_example(header) for name, header in response.get("headers", {}).items()}
            response["headers"] = self._headers(*_RATE_LIMIT) | own
            if self.extras.links:
                response["links"] = self.extras.links
        return responses | self._problems()

    def _problems(self) -> dict[str, Any]:
        """Return the error responses by status. The codes of each are its examples."""
        codes = {
            *_ANY_CALL,
            *self.extras.refuses,
            *(_SIGNED_CALL if self._takes_signature else ()),
            *(_CALL_WITH_BODY if self.get_request_serializer() else ()),
        }
        by_status = defaultdict(list)
        for code, (status, _) in CODES.items():
            if code in codes:
                by_status[status].append(code)
        return {str(status): self._problem(status, codes) for status, codes in by_status.items()}

    def _problem(self, status: int, codes: list[str]) -> dict[str, Any]:
        return {
            "description": f"{HTTPStatus(status).phrase}: " + ", ".join(f"`{code}`" for code in codes) + ".",
            "headers": self._headers(
                *(() if status in _NOT_COUNTED else _RATE_LIMIT), *_HEADERS_OF_STATUS.get(status, ())
            ),
            "content": {
                CONTENT_TYPE: {
                    "schema": self.resolve_serializer(Problem, "response").ref,
                    "examples": {code: self._problem_example(code) for code in codes},
                }
            },
        }

    def _problem_example(self, code: str) -> dict[str, Any]:
        example = {"summary": CODES[code][1], "value": problem_example(code)}
        return self._component(code, ResolvedComponent.EXAMPLE, example)

    def _headers(self, *more: str) -> dict[str, Any]:
        return {
            name: self._component(name, ResolvedComponent.HEADER, _HEADERS[name])
            for name in ("X-Trace-ID", "X-Request-ID", *more)
        }


def _with_one_example(part: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter or header with `example` in place of the single entry of `examples`."""
    [example] = part["examples"].values()
    return {key: value for key, value in part.items() if key != "examples"} | {"example": example["value"]}


# --- Components of models

_COMPONENTS = "#/components/schemas/"

# Keys of a schema that hold a mapping to schemas, a list of schemas, one schema.
_MAPS = ("properties", "patternProperties")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not")


def scopes_of(view: Any, method: str) -> list[str]:
    """Return the scopes that permit a call of this view; a key needs one of them."""
    return [str(scope) for scope in view.scopes_of(method)]


def component_of(model: type[BaseModel], registry: ComponentRegistry, *, mode: JsonSchemaMode) -> ResolvedComponent:
    """Return the component of a model, after registering it and every model that it refers to."""
    schema = _json_schema(model, mode)
    whole = {key: value for key, value in schema.items() if key != "$defs"}
    parts = {model.__name__: whole, **schema.get("$defs", {})}
    enums = {name: part for name, part in parts.items() if "enum" in part}
    components = {
        name: _registered(name, _simplified(part, enums), registry)
        for name, part in parts.items()
        if name not in enums
    }
    return components[model.__name__]


@cache
def _json_schema(model: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    """Return the schema of a model, which many calls have: it takes pydantic milliseconds."""
    return model.model_json_schema(mode=mode, ref_template=_COMPONENTS + "{model}")


def _registered(name: str, schema: dict[str, Any], registry: ComponentRegistry) -> ResolvedComponent:
    component = ResolvedComponent(name, ResolvedComponent.SCHEMA, schema, object=name)  # type: ignore[no-untyped-call]
    if component in registry and registry[component].schema != schema:
        error(f"two different models share the name {name}: rename one of them")
    registry.register_on_missing(component)
    return component


def _simplified(schema: Any, enums: dict[str, Any]) -> Any:
    """Return a schema that is easy to read: enums in place, no titles, a nullable type as `[type, null]`."""
    if not isinstance(schema, dict):
        return schema
    name = schema.get("$ref", "").removeprefix(_COMPONENTS)
    if name in enums:
        values = {"type": enums[name]["type"], "enum": enums[name]["enum"]}
        schema = values | {key: value for key, value in schema.items() if key != "$ref"}
    simple = {key: value for key, value in schema.items() if key != "title"}
    if simple.get("default", ...) is None:
        del simple["default"]
    for key in _MAPS:
        if key in simple:
            simple[key] = {name: _simplified(part, enums) for name, part in simple[key].items()}
    for key in _LISTS:
        if key in simple:
            simple[key] = [_simplified(part, enums) for part in simple[key]]
    for key in _SINGLE:
        if key in simple:
            simple[key] = _simplified(simple[key], enums)
    return _with_null_as_type(simple)


def _with_null_as_type(schema: dict[str, Any]) -> dict[str, Any]:
    first, *others = schema.get("anyOf", [{}])
    if others != [{"type": "null"}] or "type" not in first or first.keys() & {"enum", "const"}:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**first, "type": [first["type"], "null"], **rest}
