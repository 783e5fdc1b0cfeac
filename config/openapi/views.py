"""The document at `/api/schema/`, rendered once per process, and the pages at `/api/docs/`.

The pages load nothing from other hosts, and their Content-Security-Policy forbids it.
"""

import json
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from itertools import groupby
from threading import Lock
from typing import Any

from csp.decorators import csp_replace
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer

from common.problems import CODES, HELP, with_code
from config.openapi.document import VERSION

_JSON, _YAML = "application/json", "application/yaml"
_SERVED_AS = {
    _JSON: _JSON,
    "application/vnd.oai.openapi+json": _JSON,
    _YAML: _YAML,
    "application/vnd.oai.openapi": _YAML,
    "text/yaml": _YAML,
}

# drf-spectacular is not thread-safe while it looks up its extensions on first use.
_one_at_a_time = Lock()


def document() -> dict[str, Any]:
    """Return the OpenAPI document as parsed JSON."""
    parsed: dict[str, Any] = json.loads(_rendered(_JSON))
    return parsed


def _rendered(media_type: str) -> bytes:
    with _one_at_a_time:
        return _render(media_type)


@cache
def _render(media_type: str) -> bytes:
    renderer = OpenApiYamlRenderer() if media_type == _YAML else OpenApiJsonRenderer()
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    rendered: bytes = renderer.render(schema, renderer_context={})
    return rendered


def _media_type(request: HttpRequest) -> str:
    """Return YAML if `?format=yaml` or the header Accept asks for it, else JSON."""
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
    media_type = _media_type(request)
    response = HttpResponse(_rendered(media_type), content_type=f"{media_type}; charset=utf-8")
    response["Vary"] = "Accept"
    return response


# --- Pages

_PAGES = {"docs:reference": "Reference", "docs:try": "Try a call", "docs:errors": "Errors"}

# Redoc adds an empty style element (the hash of nothing), whose rules it adds by script, and one for its scroll bars.
# A test fails when a new release of Redoc needs other hashes.
_STYLES_OF_REDOC = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
)

_with_policy = csp_replace(
    {
        "style-src": ["'self'", *_STYLES_OF_REDOC],
        # Redoc searches in a worker that it creates from its own code.
        "worker-src": ["blob:"],
        "form-action": ["'none'"],
    }
)


@require_safe
@_with_policy
def reference(request: HttpRequest) -> HttpResponse:
    return _page(request, "reference")


@require_safe
@_with_policy
def try_it(request: HttpRequest) -> HttpResponse:
    return _page(request, "try")


@require_safe
@_with_policy
def errors(request: HttpRequest) -> HttpResponse:
    return _page(request, "errors", groups=list(_groups()))


def _page(request: HttpRequest, name: str, **context: Any) -> HttpResponse:
    here = f"docs:{name}"
    pages = [{"name": title, "url": reverse(page), "is_here": page == here} for page, title in _PAGES.items()]
    return render(request, f"docs/{name}.html", {"pages": pages, "version": VERSION, **context})


def _groups() -> Iterator[dict[str, Any]]:
    for status, codes in groupby(sorted(CODES, key=lambda code: CODES[code][0]), key=lambda code: CODES[code][0]):
        yield {
            "status": status,
            "phrase": HTTPStatus(status).phrase,
            "problems": [
                {
                    "code": code,
                    "title": CODES[code][1],
                    "meaning": with_code(HELP[code].meaning),
                    "remedy": with_code(HELP[code].remedy),
                }
                for code in codes
            ],
        }


# Included below `api/docs/` as `docs`.
urlpatterns = [
    path("", reference, name="reference"),
    path("try/", try_it, name="try"),
    # Without a trailing slash: the `type` of each error links here.
    path("errors", errors, name="errors"),
]
