"""The pages at `/api/docs/`: the reference to read, the page that tries a call, and what each error means.

Nothing on them comes from another host, and their Content-Security-Policy forbids that anything does.
"""

from collections.abc import Iterator
from http import HTTPStatus
from itertools import groupby
from typing import Any

from csp.decorators import csp_replace
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from common.problem_help import HELP
from common.problems import CODES
from common.texts import with_code
from config.openapi.document import VERSION

_PAGES = {"docs:reference": "Reference", "docs:try": "Try a call", "docs:errors": "Errors"}

# Redoc adds an empty style element and fills it by rules, which no policy concerns; and one for its scroll bars.
# The first is the hash of nothing. A test fails when another release of Redoc needs others.
_STYLES_OF_REDOC = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
)

# In place of what the settings say for all pages.
_with_policy = csp_replace(
    {
        "style-src": ["'self'", *_STYLES_OF_REDOC],
        # Redoc searches in a worker that it makes of its own code.
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
    """Return the codes by status."""
    for status, codes in groupby(sorted(CODES, key=lambda code: CODES[code][0]), key=lambda code: CODES[code][0]):
        yield {
            "status": status,
            "phrase": HTTPStatus(status).phrase,
            "problems": [_explained(code) for code in codes],
        }


def _explained(code: str) -> dict[str, Any]:
    help_ = HELP[code]
    return {
        "code": code,
        "title": CODES[code][1],
        "meaning": with_code(help_.meaning),
        "remedy": with_code(help_.remedy),
    }
