"""Guides to setting a chatbot up: the Markdown files of `docs/guides/`, as pages of the console.

The files are the only source of the text. Code in them names an invented chatbot and service; a page names those that
it is about instead.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from chatbots.models import Chatbot
from console.common.pages import chatbot_or_404, page, render

# In the order in which they are followed. Each is `docs/guides/<name>.md`, and linked from the settings page.
GUIDES = ("data-compliance", "safe-identities", "daily-extracts", "retention", "bucket-credentials")

# What code in the files names.
EXAMPLE_ORIGIN, EXAMPLE_SLUG = "https://compliance.example.com", "acme"

_CODE = {"code_inline", "fence"}
_API_REFERENCE = "../api.md"


@dataclass(frozen=True)
class Guide:
    """A guide as HTML without its title, and its sections: (id, heading)."""

    title: str
    sections: Sequence[tuple[str, str]]
    html: SafeString


@page
def guide_page(request: HttpRequest, slug: str, guide: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug)
    if guide not in GUIDES:
        raise Http404
    shown = read_guide(guide, chatbot=chatbot, origin=request.build_absolute_uri("/").rstrip("/"))
    others = [name for name in GUIDES if name != guide]
    return render(
        request,
        "console/guide.html",
        title=shown.title,
        chatbot=chatbot,
        guide=shown,
        others=[(_url(chatbot, name), title_of(name)) for name in others],
    )


def title_of(name: str) -> str:
    """Return the title of a guide."""
    first, _, _ = _text(name).partition("\n")
    return first.removeprefix("# ")


def read_guide(name: str, *, chatbot: Chatbot, origin: str) -> Guide:
    """Return a guide about a chatbot, at the service's `origin`. Raises ValueError for a link to no page of ours."""
    tokens = _MARKDOWN.parse(_text(name))
    title, tokens = tokens[1].content, tokens[3:]
    sections = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", slugify(inline.content))
            if opening.tag == "h2":
                sections.append((slugify(inline.content), inline.content))
    for token in tokens:
        for one in (token, *(token.children or ())):
            if one.type in _CODE:
                one.content = _about(one.content, chatbot, origin)
            elif one.type == "link_open":
                one.attrSet("href", _target(str(one.attrGet("href")), chatbot))
    # Markdown alone, without HTML in it: the renderer escapes all text.
    return Guide(title, sections, mark_safe(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})))  # noqa: S308


def _text(name: str) -> str:
    return (settings.BASE_DIR / "docs" / "guides" / f"{name}.md").read_text(encoding="utf-8")


def _about(code: str, chatbot: Chatbot, origin: str) -> str:
    # The slug first: the service's address may have the example's name in it.
    return re.sub(rf"\b{EXAMPLE_SLUG}\b(?!-)", chatbot.slug, code).replace(EXAMPLE_ORIGIN, origin)


def _target(href: str, chatbot: Chatbot) -> str:
    """Return the address of what a file links to: a section, another guide, or the API reference."""
    path, hash_sign, anchor = href.partition("#")
    if not path:
        return href
    if path == _API_REFERENCE:
        return reverse("docs:reference")
    name = PurePosixPath(path).stem
    if path != f"{name}.md" or name not in GUIDES:
        raise ValueError(f"The console has no page for {href}.")
    return f"{_url(chatbot, name)}{hash_sign}{anchor}"


def _url(chatbot: Chatbot, name: str) -> str:
    return reverse("console:guide", kwargs={"slug": chatbot.slug, "guide": name})


def _copyable(_renderer: RendererHTML, tokens: Sequence[Token], place: int, *_rest: Any) -> str:
    """Render a block of code with a button that copies it."""
    return format_html(
        '<div class="copyable"><pre id="code-{0}" translate="no">{1}</pre>'
        '<button type="button" class="button small" data-copies="code-{0}" hidden>Copy'
        '<span class="unseen"> this code</span></button></div>',
        place,
        tokens[place].content.rstrip("\n"),
    )


_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_MARKDOWN.add_render_rule("fence", _copyable)
