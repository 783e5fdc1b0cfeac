"""The document over HTTP: for everybody, made once in a process."""

import json
from functools import cache
from hashlib import sha256
from threading import Lock
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer

_JSON, _YAML = "application/json", "application/yaml"
_SERVED_AS = {
    _JSON: _JSON,
    "application/vnd.oai.openapi+json": _JSON,
    _YAML: _YAML,
    "application/vnd.oai.openapi": _YAML,
    "text/yaml": _YAML,
}

# drf-spectacular looks its extensions up on first use, and two threads that do so at once break each other.
_one_at_a_time = Lock()


def document() -> dict[str, Any]:
    """Return the OpenAPI document as JSON has it."""
    described: dict[str, Any] = json.loads(_rendered(_JSON))
    return described


def _rendered(media_type: str) -> bytes:
    # Who waited for another's finds it made.
    with _one_at_a_time:
        return _made(media_type)


@cache
def _made(media_type: str) -> bytes:
    renderer = OpenApiYamlRenderer() if media_type == _YAML else OpenApiJsonRenderer()
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    rendered: bytes = renderer.render(schema, renderer_context={})
    return rendered


def _media_type(request: HttpRequest) -> str:
    """Return JSON, unless YAML is asked for by `?format=yaml` or the header Accept."""
    if "format" in request.GET:
        return _YAML if request.GET["format"] == "yaml" else _JSON
    return _SERVED_AS.get(request.get_preferred_type(list(_SERVED_AS)) or _JSON, _JSON)


def _etag(request: HttpRequest) -> str:
    return f'"{sha256(_rendered(_media_type(request))).hexdigest()[:32]}"'


@require_safe
@gzip_page
@cache_control(public=True, max_age=300)
@condition(etag_func=_etag)
def schema(request: HttpRequest) -> HttpResponse:
    """Answer with the OpenAPI document."""
    media_type = _media_type(request)
    response = HttpResponse(_rendered(media_type), content_type=f"{media_type}; charset=utf-8")
    response["Vary"] = "Accept"
    return response
