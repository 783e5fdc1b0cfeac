"""What drf-spectacular does not know by itself: our two ways of authenticating, and our pydantic models."""

from typing import Any

from drf_spectacular.drainage import error
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

_PLACE = "#/components/schemas/"

# Keys under which names stand, with a schema each; a list of schemas; one schema.
_MAPS = ("properties", "patternProperties")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "not")


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
    """Two headers that go together."""

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
                "description": "Now, in Unix seconds. More than 5 minutes old or ahead is refused. "
                "Goes together with `X-Mindsay-Signature`.",
            },
            {
                "type": "apiKey",
                "in": "header",
                "name": "X-Mindsay-Signature",
                "description": "HMAC-SHA256 of the timestamp directly followed by the exact bytes of the body, under "
                "the secret of a signing key, as lower-case hex. Goes together with `X-Mindsay-Timestamp`.",
            },
        ]


def scopes_of(view: Any, method: str) -> list[str]:
    """Return the scopes of which a key needs one to call this view (`chatbots.api.views.ChatbotView`)."""
    return [str(scope) for scope in view.scopes_of(method)]


def reference_to(model: type[BaseModel], registry: ComponentRegistry, *, mode: JsonSchemaMode) -> dict[str, Any]:
    """Return the reference to a model's schema, after putting it and all it is made of among the components."""
    schema = model.model_json_schema(mode=mode, ref_template=_PLACE + "{model}")
    parts = schema.pop("$defs", {})
    parts.setdefault(model.__name__, schema)
    lists = {name: part for name, part in parts.items() if "enum" in part}
    for name, part in parts.items():
        if name not in lists:
            _register(name, _tidied(part, lists), registry)
    return {"$ref": _PLACE + model.__name__}


def _register(name: str, schema: dict[str, Any], registry: ComponentRegistry) -> None:
    component = ResolvedComponent(name, ResolvedComponent.SCHEMA, schema, object=name)  # type: ignore[no-untyped-call]
    if component in registry and registry[component].schema != schema:
        error(f"two different models share the name {name}: give one of them another")
    registry.register_on_missing(component)


def _tidied(schema: Any, lists: dict[str, Any]) -> Any:
    """Return a schema as people read it: closed lists in place, no titles, a nullable type as `[type, null]`."""
    if not isinstance(schema, dict):
        return schema
    name = schema.get("$ref", "").removeprefix(_PLACE)
    if name in lists:
        values = {"type": lists[name]["type"], "enum": lists[name]["enum"]}
        schema = values | {key: value for key, value in schema.items() if key != "$ref"}
    tidy = {key: value for key, value in schema.items() if key != "title"}
    if tidy.get("default", ...) is None:
        del tidy["default"]
    for key in _MAPS:
        if key in tidy:
            tidy[key] = {name: _tidied(part, lists) for name, part in tidy[key].items()}
    for key in _LISTS:
        if key in tidy:
            tidy[key] = [_tidied(part, lists) for part in tidy[key]]
    for key in _SINGLE:
        if key in tidy:
            tidy[key] = _tidied(tidy[key], lists)
    return _with_null_as_type(tidy)


def _with_null_as_type(schema: dict[str, Any]) -> dict[str, Any]:
    one, *others = schema.get("anyOf", [{}])
    if others != [{"type": "null"}] or "type" not in one or one.keys() & {"enum", "const"}:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**one, "type": [one["type"], "null"], **rest}
