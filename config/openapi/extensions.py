"""Teaches drf-spectacular our two ways of authenticating, and how we write pydantic models."""

from typing import Any

from drf_spectacular.drainage import error
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from typing_extensions import is_typeddict

_COMPONENTS = "#/components/schemas/"

# Keys of a schema that hold a mapping to schemas, a list of schemas, one schema.
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


def scopes_of(view: Any, method: str) -> list[str]:
    """Return the scopes that permit a call of this view; a key needs one of them."""
    return [str(scope) for scope in view.scopes_of(method)]


def component_of(model: type[BaseModel], registry: ComponentRegistry, *, mode: JsonSchemaMode) -> ResolvedComponent:
    """Return the component of a model, after registering it and every model or TypedDict that it refers to.

    drf-spectacular takes no TypedDict for a serializer: `RootModel[...]` of one stands for it.
    """
    described: Any = model
    if issubclass(model, RootModel) and is_typeddict(model.model_fields["root"].annotation):
        described = model.model_fields["root"].annotation
    schema = TypeAdapter(described).json_schema(mode=mode, ref_template=_COMPONENTS + "{model}")
    parts = schema.pop("$defs", {})
    parts.setdefault(described.__name__, schema)
    enums = {name: part for name, part in parts.items() if "enum" in part}
    components = {
        name: _registered(name, _simplified(part, enums), registry)
        for name, part in parts.items()
        if name not in enums
    }
    return components[described.__name__]


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
