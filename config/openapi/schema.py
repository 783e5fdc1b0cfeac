"""From a view and its description to an operation of the document.

What every call has in common is put here, once: the answers that any call can have, headers, scopes.
"""

from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from drf_spectacular.drainage import error
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from common.problems import CODES, CONTENT_TYPE, RETRY_AFTER_SECONDS
from config.openapi.describing import Answer, Body, Call, Example, Parameter, Schema, description_of, problem_example
from config.openapi.extensions import reference_to, scopes_of
from config.openapi.samples import samples_of
from config.openapi.shapes import Problem

_ANY_CALL = ("not_authenticated", "scope_missing", "not_found", "not_acceptable", "rate_limited", "unavailable")
_SIGNED_CALL = ("invalid_signature", "stale_timestamp")
_CALL_WITH_BODY = ("invalid", "too_large", "unsupported_media_type")

_REQUEST_ID = Parameter(
    name="X-Request-ID",
    place="header",
    description="Your own id of this call, which comes back in the answer's header: 8 to 64 letters, digits, `.`, "
    "`_` or `-`. Of anything else, or without it, you get that of `X-Trace-ID`. It is kept nowhere.",
    schema={"type": "string"},
    example="01a20e51-5222-7346-9cec-2e7f057cd17a",
)

_IN_PATH: Mapping[str, tuple[str, Any]] = {
    "slug": ("The chatbot's name in addresses.", "acme"),
    "request_id": ("The request, as its filing answered.", "01a20e4f-2ccd-727b-ad28-e544e31ea60e"),
    "number": ("The conversation's number, as its storing answered. The platform's id stands in no path.", 17),
    "file_id": ("The file's number, as its storing answered.", 5),
    "day": ("A day in the chatbot's time zone.", "2026-11-23"),
}
_PATH_SCHEMAS: Mapping[str, dict[str, Any]] = {
    "slug": {"type": "string", "pattern": "^[-a-zA-Z0-9_]+$"},
    "day": {"type": "string", "format": "date"},
}

_HEADERS: Mapping[str, dict[str, Any]] = {
    "X-Trace-ID": {
        "description": "Our id of the call, under which it stands in our log. Name it when you report a problem.",
        "required": True,
        "schema": {"type": "string"},
        "example": "01a20e51-5222-7346-9cec-2e7f057cd17a",
    },
    "X-Request-ID": {
        "description": "Your own id of the call, or ours.",
        "required": True,
        "schema": {"type": "string"},
        "example": "01a20e51-5222-7346-9cec-2e7f057cd17a",
    },
    # The three are not there where the operator has switched limits off, nor where the key is of another chatbot.
    "RateLimit-Limit": {
        "description": "Calls that the key may make in a minute.",
        "required": False,
        "schema": {"type": "integer", "minimum": 1},
        "example": 6_000,
    },
    "RateLimit-Remaining": {
        "description": "Calls that are left of this minute. A few of them may turn out to be gone.",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "example": 5_874,
    },
    "RateLimit-Reset": {
        "description": "Seconds until the next minute begins.",
        "required": False,
        "schema": {"type": "integer", "minimum": 1},
        "example": 42,
    },
    "Retry-After": {
        "description": "Seconds to wait before the call is sent again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": RETRY_AFTER_SECONDS,
    },
    "WWW-Authenticate": {
        "description": "How to authenticate.",
        "required": True,
        "schema": {"type": "string"},
        "example": 'Bearer realm="data-compliance"',
    },
}
_HEADERS_OF_STATUS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}

_RATE_LIMIT = tuple(name for name in _HEADERS if name.startswith("RateLimit-"))
# Answers from before the key is known.
_NOT_COUNTED = (401, 406)


class CallSchema(AutoSchema):
    """DRF's DEFAULT_SCHEMA_CLASS. A view's method without a description is an error of the document."""

    registry: ComponentRegistry

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> dict[str, Any] | None:
        self.registry, self.path, self.path_regex, self.path_prefix = registry, path, path_regex, path_prefix
        self.method = method.upper()
        call = description_of(getattr(self.view, method.lower()))
        if call is None:
            error(f"{self.method} {path} is not described (see config/openapi/__init__.py)")
            return None
        operation = {
            "operationId": call.id,
            "summary": call.summary,
            "description": f"{call.description}\n\n{self._who_may_call()}",
            "tags": [call.tag],
            "parameters": [
                *self._path_parameters(),
                *(self._parameter(one) for one in (*call.parameters, _REQUEST_ID)),
            ],
            "security": self.get_auth(),
            "responses": self._answers(call) | self._problems(call),
        }
        if call.bodies:
            operation["requestBody"] = {
                "required": not all(body.optional for body in call.bodies),
                "content": self._content(*call.bodies, mode="validation"),
            }
        if self.method == "POST":
            operation["x-codeSamples"] = samples_of(call, path=path, signed=self._takes_signature)
        if call.callbacks:
            operation["callbacks"] = {
                name: {callback.expression: {"post": dict(callback.operation)}}
                for name, callback in call.callbacks.items()
            }
        return operation

    @property
    def _takes_signature(self) -> bool:
        return len(self.view.authentication_classes) > 1

    def _who_may_call(self) -> str:
        how = "a signature or a token" if self._takes_signature else "a token"
        scopes = " or ".join(f"`{scope}`" for scope in scopes_of(self.view, self.method))
        return f"Takes {how}. The key needs the scope {scopes}."

    # --- Parameters

    def _path_parameters(self) -> list[dict[str, Any]]:
        names = [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
        for parameter in self._resolve_path_parameters(names):  # type: ignore[no-untyped-call]
            name = parameter["name"]
            if name not in _IN_PATH:
                error(f"the path parameter {name} is not described in config/openapi/schema.py")
                continue
            description, example = _IN_PATH[name]
            schema = _PATH_SCHEMAS.get(name, parameter["schema"])
            self._component(
                name,
                ResolvedComponent.PARAMETER,
                {**parameter, "schema": schema, "description": description, "example": example},
            )
        return [{"$ref": f"#/components/parameters/{name}"} for name in names]

    def _parameter(self, one: Parameter) -> dict[str, Any]:
        described = {
            "name": one.name,
            "in": one.place,
            "required": one.required,
            "description": one.description,
            "schema": dict(one.schema),
            "example": one.example,
        }
        if one.place == "query":
            return described
        return self._component(one.name, ResolvedComponent.PARAMETER, described)

    # --- Bodies and answers

    def _answers(self, call: Call) -> dict[str, Any]:
        return {str(status): self._answer(answer) for status, answer in call.answers.items()}

    def _answer(self, answer: Answer) -> dict[str, Any]:
        described: dict[str, Any] = {
            "description": answer.description,
            "headers": self._headers(*_RATE_LIMIT) | {name: dict(header) for name, header in answer.headers.items()},
        }
        if answer.schema is not None:
            body = Body(answer.schema, answer.examples, answer.media_type)
            described["content"] = self._content(body, mode="serialization")
        if answer.links:
            described["links"] = {
                name: {
                    "operationId": link.operation_id,
                    "parameters": {"slug": "$request.path.slug", **link.parameters},
                    "description": link.description,
                }
                for name, link in answer.links.items()
            }
        return described

    def _content(self, *bodies: Body, mode: JsonSchemaMode) -> dict[str, Any]:
        return {
            body.media_type: {
                "schema": self._schema(body.schema, mode),
                "examples": _examples(body.examples),
                **({"encoding": body.encoding} if body.encoding else {}),
            }
            for body in bodies
        }

    def _schema(self, schema: Schema, mode: JsonSchemaMode) -> dict[str, Any]:
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            return reference_to(schema, self.registry, mode=mode)
        return dict(schema)

    def _problems(self, call: Call) -> dict[str, Any]:
        """Return the answers that are problems, by status; the codes of each are its examples."""
        codes = {
            *_ANY_CALL,
            *call.refuses,
            *(_SIGNED_CALL if self._takes_signature else ()),
            *(_CALL_WITH_BODY if call.bodies else ()),
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
                    "schema": reference_to(Problem, self.registry, mode="serialization"),
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

    def _component(self, name: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
        component = ResolvedComponent(name, kind, schema, object=name)  # type: ignore[no-untyped-call]
        self.registry.register_on_missing(component)
        return component.ref


def _examples(examples: Mapping[str, Example]) -> dict[str, Any]:
    return {name: {"summary": example.summary, "value": example.value} for name, example in examples.items()}
