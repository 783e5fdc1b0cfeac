"""Markdown files of `docs/`, rendered as the text of a page.

The files are the only source of the text: plain CommonMark with tables. Code in them uses an invented chatbot and
service; a page replaces them with those of its reader.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

# The invented chatbot and service.
EXAMPLE_ORIGIN, EXAMPLE_SLUG = "https://compliance.example.com", "acme"

# Returns the address of a link's target, or None if the link becomes plain text.
Target = Callable[[str], str | None]
# Returns the address of a picture's file.
Image = Callable[[str], str]

_CODE = {"code_inline", "fence"}
_HTML = {"html_block", "html_inline"}
_COMMENT = re.compile(r"\s*<!--.*?-->\s*", re.DOTALL)
_PICTURE = re.compile(
    r'<picture><source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[\w./-]+)">'
    r'<img alt="(?P<alt>[^"<>]+)" src="(?P<light>[\w./-]+)"></picture>'
)


@dataclass(frozen=True)
class Article:
    """A file as HTML without its title, and its sections: (id, heading)."""

    title: str
    sections: Sequence[tuple[str, str]]
    html: SafeString


def title_of(text: str) -> str:
    """Return the title of a file: its first line is the heading of the first level."""
    first, _, _ = text.partition("\n")
    return first.removeprefix("# ")


def anchor_of(heading: str) -> str:
    """Return the anchor that forges give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def render(text: str, *, slug: str, origin: str, target: Target, image: Image | None = None) -> Article:
    """Return a file's text about the chatbot of a slug, at the service's `origin`.

    Comments, and lists of pages for the generator of the site, are left out. With `image`, a picture for both themes
    is shown. Raises ValueError for other HTML.
    """
    tokens = [token for token in _MARKDOWN.parse(text)[3:] if not _is_hidden(token)]
    sections = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            anchor = anchor_of(inline.content)
            opening.attrSet("id", anchor)
            if opening.tag == "h2":
                sections.append((anchor, inline.content))
    for token in tokens:
        if image and (picture := _PICTURE.fullmatch(token.content)):
            token.type = "picture"
            token.meta = {"alt": picture["alt"], "light": image(picture["light"]), "dark": image(picture["dark"])}
            continue
        token.content = _about(token.content, slug, origin) if token.type in _CODE else token.content
        token.children = list(_adapted(token.children or (), slug, origin, target))
    # HTML in the file is refused above, and the renderer escapes all text.
    html = mark_safe(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S308
    return Article(title_of(text), sections, html)


def _is_hidden(token: Token) -> bool:
    if token.type in _HTML and not _COMMENT.fullmatch(token.content):
        raise ValueError(f"HTML is not shown: {token.content}")
    return token.type in _HTML or (token.type == "fence" and token.info.startswith("{"))


def _adapted(children: Sequence[Token], slug: str, origin: str, target: Target) -> Iterator[Token]:
    """Yield the parts of a paragraph, with code about the reader's chatbot and links to the target's addresses."""
    is_link = False
    for child in children:
        if child.type == "link_open":
            address = target(str(child.attrGet("href")))
            is_link = address is not None
            child.attrSet("href", address or "")
        elif child.type == "code_inline":
            child.content = _about(child.content, slug, origin)
        if not _is_hidden(child) and (is_link or child.type not in {"link_open", "link_close"}):
            yield child


def _about(code: str, slug: str, origin: str) -> str:
    # The slug first: the service's address may have the example's name in it.
    return re.sub(rf"\b{EXAMPLE_SLUG}\b(?!-)", slug, code).replace(EXAMPLE_ORIGIN, origin)


def _copyable(_renderer: RendererHTML, tokens: Sequence[Token], place: int, *_rest: Any) -> str:
    """Render a block of code with a button that copies it. The block scrolls, by keyboard too."""
    return format_html(
        '<div class="copyable"><pre id="code-{0}" translate="no" tabindex="0">{1}</pre>'
        '<button type="button" class="button small" data-copies="code-{0}" hidden>Copy'
        '<span class="unseen"> this code</span></button></div>',
        place,
        tokens[place].content.rstrip("\n"),
    )


def _picture(_renderer: RendererHTML, tokens: Sequence[Token], place: int, *_rest: Any) -> str:
    """Render a picture in both themes, each a link to its file. Styles show the one of the reader's theme."""
    meta = tokens[place].meta
    both = "".join(
        format_html(
            '<a class="in-{0}" href="{1}"><img src="{1}" alt="{2}" loading="lazy"></a>',
            theme,
            meta[theme],
            meta["alt"],
        )
        for theme in ("light", "dark")
    )
    return f'<span class="picture">{both}</span>'


def _table_open(*_: Any) -> str:
    """Begin a table that scrolls to the side on a narrow screen."""
    return '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>'


def _table_close(*_: Any) -> str:
    return "</table></div>"


_MARKDOWN = MarkdownIt("commonmark").enable("table")
_MARKDOWN.add_render_rule("fence", _copyable)
_MARKDOWN.add_render_rule("picture", _picture)
_MARKDOWN.add_render_rule("table_open", _table_open)
_MARKDOWN.add_render_rule("table_close", _table_close)
