"""The guide for clients: the Markdown files that `docs/clients/index.md` links to, at `/api/docs/guide/`."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse

from common.markdown import EXAMPLE_SLUG, Article, render, title_of

_FOLDER = settings.BASE_DIR / "docs"
_INDEX = "clients/index.md"
# Pages that the service shows in another form.
_OWN_PAGES = {"reference/error-codes.md": "docs:errors", "clients/export.schema.json": "export_schema"}
_LINE = re.compile(r"^## (?P<heading>.+)$|\]\((?P<page>[^)#:]+\.md)\)", re.MULTILINE)


@dataclass(frozen=True)
class Part:
    """A section of the index, with its pages: (name, title)."""

    heading: str
    pages: Sequence[tuple[str, str]]


@cache
def contents() -> Sequence[Part]:
    """Return the pages as the index lists them, each once. Its own page is the first one, without a name."""
    parts: list[tuple[str, list[tuple[str, str]]]] = [("", [])]
    for found in _LINE.finditer(_text(_INDEX)):
        if found["heading"]:
            parts.append((found["heading"], []))
        else:
            path = posixpath.normpath(f"clients/{found['page']}")
            parts[-1][1].append((_name(path), title_of(_text(path))))
    return [Part(heading, pages) for heading, pages in parts if pages]


@cache
def files() -> Mapping[str, str]:
    """Return the path in `docs/` of each page, by its name. The index has none."""
    found = (posixpath.normpath(f"clients/{one['page']}") for one in _LINE.finditer(_text(_INDEX)) if one["page"])
    return {"": _INDEX} | {_name(path): path for path in found if path not in _OWN_PAGES}


def read(name: str, *, origin: str, slug: str | None) -> Article:
    """Return a page for a reader at `origin`, about the chatbot of a slug or about the example's."""
    path = files()[name]
    return render(
        _text(path),
        slug=slug or EXAMPLE_SLUG,
        origin=origin,
        target=lambda href: target(href, slug=slug, folder=posixpath.dirname(path)),
    )


def target(href: str, *, slug: str | None, folder: str) -> str | None:
    """Return the address of a link's target in a file of `docs/`, or None for a page that is not served."""
    path, hash_sign, anchor = href.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return href
    path = posixpath.normpath(f"{folder}/{path}")
    if path in _OWN_PAGES:
        return f"{reverse(_OWN_PAGES[path])}{hash_sign}{anchor}"
    if path not in files().values():
        return None
    return f"{url(_name(path), slug)}{hash_sign}{anchor}"


def url(name: str, slug: str | None = None) -> str:
    """Return the address of a page, or of the index without a name."""
    address = reverse("docs:guide_page", args=[name]) if name else reverse("docs:guide")
    return f"{address}?{urlencode({'chatbot': slug})}" if slug else address


def _name(path: str) -> str:
    return "" if path == _INDEX else posixpath.basename(path).removesuffix(".md")


def _text(path: str) -> str:
    return (_FOLDER / path).read_text(encoding="utf-8")
