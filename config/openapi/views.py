"""The document at `/api/schema/`, generated once per process, and the pages at `/api/docs/`.

Redoc draws a part of the document on a page, a call or those of a tag: the whole takes a browser seconds. The pages
load nothing from other hosts, and their Content-Security-Policy forbids it.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from itertools import groupby
from threading import Lock
from typing import Any

from csp.decorators import csp_replace
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.text import slugify
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer

from common import markdown
from common.problems import CODES, read_help, unknown_path, with_code
from config.openapi import guide
from config.openapi.document import INTRODUCTION, TAGS, VERSION

_JSON, _YAML = "application/json", "application/yaml"
_SERVED_AS = {
    _JSON: _JSON,
    "application/vnd.oai.openapi+json": _JSON,
    _YAML: _YAML,
    "application/vnd.oai.openapi": _YAML,
    "text/yaml": _YAML,
}

# The document's tags, by their names in addresses. A part of the document is one of these, or the id of a call.
TAG_SLUGS = {slugify(tag["name"]): tag["name"] for tag in TAGS}

_EXPORT_SCHEMA = settings.BASE_DIR / "docs" / "clients" / "export.schema.json"

# drf-spectacular is not thread-safe while it looks up its extensions on first use.
_one_at_a_time = Lock()


def document(part: str = "") -> dict[str, Any]:
    """Return the OpenAPI document as parsed JSON: the whole, or one of `_parts`."""
    parsed: dict[str, Any] = json.loads(_rendered(_JSON, part))
    return parsed


def _rendered(media_type: str, part: str) -> bytes:
    with _one_at_a_time:
        return _render(media_type, part)


@cache
def _render(media_type: str, part: str) -> bytes:
    renderer = OpenApiYamlRenderer() if media_type == _YAML else OpenApiJsonRenderer()
    rendered: bytes = renderer.render(_only(_whole(), part) if part else _whole(), renderer_context={})
    return rendered


@cache
def _whole() -> dict[str, Any]:
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return schema


def _only(schema: dict[str, Any], part: str) -> dict[str, Any]:
    """Return a document with the calls of a part, without the introduction that the first page has."""
    paths = {
        path: {
            method: call for method, call in calls.items() if part in {slugify(call["tags"][0]), call["operationId"]}
        }
        for path, calls in schema["paths"].items()
    }
    tags = {call["tags"][0] for calls in paths.values() for call in calls.values()}
    return {
        **schema,
        "info": {**schema["info"], "description": ""},
        "tags": [one for one in schema["tags"] if one["name"] in tags],
        "paths": {path: calls for path, calls in paths.items() if calls},
    }


def _media_type(request: HttpRequest) -> str:
    """Return YAML if `?format=yaml` or the header Accept asks for it, else JSON."""
    if "format" in request.GET:
        return _YAML if request.GET["format"] == "yaml" else _JSON
    return _SERVED_AS.get(request.get_preferred_type(list(_SERVED_AS)) or _JSON, _JSON)


@cache
def _parts() -> Mapping[str, tuple[str, str]]:
    """Return the title and the tag's slug of each part of the document."""
    calls = (call for calls in document()["paths"].values() for call in calls.values())
    titles = {call["operationId"]: (call["summary"], slugify(call["tags"][0])) for call in calls}
    return titles | {slug: (tag, slug) for slug, tag in TAG_SLUGS.items()}


def _part(request: HttpRequest) -> str:
    """Return the part in the parameter `?part=`, or an empty string for the whole document."""
    part = request.GET.get("part", "")
    return part if part in _parts() else ""


def _etag(request: HttpRequest) -> str:
    return f'"{sha256(_rendered(_media_type(request), _part(request))).hexdigest()[:32]}"'


@require_safe
@gzip_page
@cache_control(public=True, max_age=300)
@condition(etag_func=_etag)
def schema(request: HttpRequest) -> HttpResponse:
    media_type = _media_type(request)
    response = HttpResponse(_rendered(media_type, _part(request)), content_type=f"{media_type}; charset=utf-8")
    response["Vary"] = "Accept"
    return response


@require_safe
@cache_control(public=True, max_age=300)
def export_schema(_request: HttpRequest) -> HttpResponse:
    """Return the JSON Schema of a line of an export's `conversations.jsonl`."""
    return HttpResponse(_EXPORT_SCHEMA.read_bytes(), content_type="application/schema+json")


# --- Pages

_PAGES = {
    "docs:guide": "Guide",
    "docs:reference": "Reference",
    "docs:try": "Try a call",
    "docs:errors": "Errors",
}

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


@never_cache
@require_safe
def start(request: HttpRequest) -> HttpResponseRedirect:
    """Redirect `/` to the console, for staff who are logged in, or to the documentation."""
    return redirect("admin:index" if request.user.is_staff else "docs:reference")


@require_safe
@_with_policy
def reference(request: HttpRequest) -> HttpResponse:
    introduction = markdown.render(
        f"# Reference\n\n{INTRODUCTION}", slug=markdown.EXAMPLE_SLUG, origin=_origin(request), target=str
    )
    return _page(request, "reference", introduction=introduction, tags=list(_tags()))


def _tags() -> Iterator[dict[str, Any]]:
    for tag in TAGS:
        slug = slugify(tag["name"])
        calls = [
            {
                "method": method.upper(),
                "path": path.partition("{slug}/")[2],
                "summary": call["summary"],
                "url": reverse("docs:part", args=[call["operationId"]]),
            }
            for path, calls in document(slug)["paths"].items()
            for method, call in calls.items()
        ]
        url = reverse("docs:part", args=[slug])
        yield tag | {"slug": slug, "url": url, "calls": calls}


@require_safe
@_with_policy
def reference_of_part(request: HttpRequest, part: str = "") -> HttpResponseBase:
    if part not in _parts():
        return unknown_path(request)
    title, of_tag = _parts()[part]
    tags = [(reverse("docs:part", args=[slug]), name, slug == of_tag) for slug, name in TAG_SLUGS.items()]
    return _page(request, "part", here="docs:reference", part=part, title=title, tags=tags)


@require_safe
@_with_policy
def guide_page(request: HttpRequest, page: str = "") -> HttpResponseBase:
    """Show a page of the clients' guide, about the chatbot with the slug in `?chatbot=`."""
    if page not in guide.files():
        return unknown_path(request)
    slug = _chatbot(request)
    contents = [
        (part.heading, [(guide.url(name, slug), title, name == page) for name, title in part.pages])
        for part in guide.contents()
    ]
    return _page(
        request,
        "guide",
        here="docs:guide",
        article=guide.read(page, origin=_origin(request), slug=slug),
        index=guide.url("", slug),
        contents=contents,
        is_index=not page,
    )


def _chatbot(request: HttpRequest) -> str | None:
    slug = request.GET.get("chatbot", "")
    try:
        validate_slug(slug)
    except ValidationError:
        return None
    return slug


def _origin(request: HttpRequest) -> str:
    return request.build_absolute_uri("/").rstrip("/")


@require_safe
@_with_policy
def try_it(request: HttpRequest) -> HttpResponse:
    return _page(request, "try")


@require_safe
@_with_policy
def errors(request: HttpRequest) -> HttpResponse:
    return _page(request, "errors", groups=list(_groups()))


def _page(request: HttpRequest, name: str, *, here: str = "", **context: Any) -> HttpResponse:
    here = here or f"docs:{name}"
    pages = [{"name": title, "url": reverse(page), "is_here": page == here} for page, title in _PAGES.items()]
    return render(request, f"docs/{name}.html", {"pages": pages, "version": VERSION, **context})


def _groups() -> Iterator[dict[str, Any]]:
    explained = read_help()
    for status, codes in groupby(sorted(CODES, key=lambda code: CODES[code][0]), key=lambda code: CODES[code][0]):
        yield {
            "status": status,
            "phrase": HTTPStatus(status).phrase,
            "problems": [
                {
                    "code": code,
                    "title": CODES[code][1],
                    "meaning": with_code(explained[code].meaning),
                    "remedy": with_code(explained[code].remedy),
                }
                for code in codes
            ],
        }


# Included below `api/docs/` as `docs`.
urlpatterns = [
    path("", reference, name="reference"),
    path("reference/<slug:part>/", reference_of_part, name="part"),
    path("guide/", guide_page, name="guide"),
    path("guide/<slug:page>/", guide_page, name="guide_page"),
    path("try/", try_it, name="try"),
    # Without a trailing slash: the `type` of each error links here.
    path("errors", errors, name="errors"),
]
