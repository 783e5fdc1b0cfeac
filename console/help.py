"""Help: the Markdown files of `docs/staff/`, as pages of the console.

The files are the only source of the text. Each is a page below Help. Some are guides to setting a chatbot up: the
settings page links to them, and below a chatbot they contain its slug. Code in the files has an invented chatbot and
service; a page replaces them by real ones.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from chatbots.models import Chatbot
from console.common.pages import chatbot_or_404, page, render, staff_page

_DOCS: Path = settings.BASE_DIR / "docs"
_INDEX = _DOCS / "staff" / "index.md"

# Guides to setting a chatbot up, in the order in which they are followed; the settings page links to each.
GUIDES = ("data-compliance", "safe-identities", "daily-extracts", "retention", "bucket-credentials")

# The page for clients that staff follow, too.
_OTHER_PAGES = {"safe-identities": _DOCS / "guides" / "safe-identities.md"}

# What code in the files contains.
EXAMPLE_ORIGIN, EXAMPLE_SLUG = "https://compliance.example.com", "acme"

_CODE = {"code_inline", "fence"}
_API_REFERENCE = _DOCS / "api.md"

_GROUP = re.compile(r"^## (?P<title>.+)$|^- \[(?P<page>.+?)\]\((?P<name>[\w-]+)\.md\): (?P<line>.+)$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_PICTURE = re.compile(
    r'<picture><source media="\(prefers-color-scheme: dark\)" srcset="\.\./images/(?P<dark>[\w-]+\.webp)">'
    r'<img alt="(?P<alt>[^"<>]+)" src="\.\./images/(?P<light>[\w-]+\.webp)"></picture>'
)


@dataclass(frozen=True)
class Entry:
    """A line of the index."""

    name: str
    title: str
    line: str

    @property
    def words(self) -> str:
        """All words of the page, for the search."""
        return " ".join(sorted(set(re.findall(r"\w+", _text(self.name).casefold()))))


@dataclass(frozen=True)
class Group:
    title: str
    entries: list[Entry]


@dataclass(frozen=True)
class HelpPage:
    """A page as HTML without its title, and its sections: (id, heading)."""

    title: str
    sections: Sequence[tuple[str, str]]
    html: SafeString


@staff_page
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "console/help/index.html", title="Help", groups=read_index())


@staff_page
def help_page(request: HttpRequest, name: str) -> HttpResponse:
    if name not in page_names():
        raise Http404
    group = next((one for one in read_index() if name in {entry.name for entry in one.entries}), None)
    return _respond(
        request,
        read_page(name, origin=_origin(request)),
        others=[(_url(one.name), one.title) for one in (group.entries if group else ()) if one.name != name],
    )


@page
def guide_page(request: HttpRequest, slug: str, guide: str) -> HttpResponse:
    """Show a guide with the slug of a chatbot, which the user may see."""
    chatbot = chatbot_or_404(request, slug)
    if guide not in GUIDES:
        raise Http404
    return _respond(
        request,
        read_page(guide, origin=_origin(request), chatbot=chatbot),
        chatbot=chatbot,
        others=[(_url(name, chatbot), title_of(name)) for name in GUIDES if name != guide],
    )


def _respond(request: HttpRequest, shown: HelpPage, **context: Any) -> HttpResponse:
    return render(request, "console/help/page.html", title=shown.title, shown=shown, **context)


def _origin(request: HttpRequest) -> str:
    return request.build_absolute_uri("/").rstrip("/")


def page_names() -> list[str]:
    """Return the names of all pages, those of the index in its order."""
    return [*(entry.name for group in read_index() for entry in group.entries), *_OTHER_PAGES]


def title_of(name: str) -> str:
    """Return the title of a page."""
    first, _, _ = _text(name).partition("\n")
    return first.removeprefix("# ")


def path_of(name: str) -> Path:
    return _OTHER_PAGES.get(name) or _INDEX.with_name(f"{name}.md")


def _text(name: str) -> str:
    """Return the text of a page, without comments for maintainers."""
    return _COMMENT.sub("", path_of(name).read_text(encoding="utf-8"))


def read_index() -> list[Group]:
    """Return the pages in the groups and in the order of `docs/staff/index.md`."""
    groups: list[Group] = []
    for found in _GROUP.finditer(_INDEX.read_text(encoding="utf-8")):
        if found["title"]:
            groups.append(Group(found["title"], []))
        else:
            groups[-1].entries.append(Entry(found["name"], found["page"], found["line"]))
    return groups


def read_page(name: str, *, origin: str, chatbot: Chatbot | None = None) -> HelpPage:
    """Return a page for the service at `origin`; about a chatbot if one is given.

    Raises ValueError for a link to no page of ours.
    """
    tokens = _MARKDOWN.parse(_text(name))
    title, tokens = tokens[1].content, tokens[3:]
    sections = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", slugify(inline.content))
            if opening.tag == "h2":
                sections.append((slugify(inline.content), inline.content))
    for token in tokens:
        if picture := _PICTURE.fullmatch(token.content):
            token.type, token.meta = "picture", picture.groupdict()
            continue
        for one in (token, *(token.children or ())):
            if one.type in _CODE:
                one.content = _with_real_names(one.content, chatbot, origin)
            elif one.type == "link_open":
                one.attrSet("href", _target(str(one.attrGet("href")), name, chatbot))
    # Markdown without HTML: the renderer escapes all text.
    return HelpPage(title, sections, mark_safe(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})))  # noqa: S308


def _with_real_names(code: str, chatbot: Chatbot | None, origin: str) -> str:
    # The slug first: the service's address may contain the example's slug.
    if chatbot is not None:
        code = re.sub(rf"\b{EXAMPLE_SLUG}\b(?!-)", chatbot.slug, code)
    return code.replace(EXAMPLE_ORIGIN, origin)


def _target(href: str, name: str, chatbot: Chatbot | None) -> str:
    """Return the address of what a page links to: a section, another page, or the API reference."""
    path, hash_sign, anchor = href.partition("#")
    if not path:
        return href
    target = (path_of(name).parent / path).resolve()
    if target == _API_REFERENCE:
        return reverse("docs:reference")
    other = target.stem
    if target != path_of(other) or other not in page_names():
        raise ValueError(f"The console has no page for {href}.")
    return f"{_url(other, chatbot)}{hash_sign}{anchor}"


def _url(name: str, chatbot: Chatbot | None = None) -> str:
    """Return the address of a page; of a guide, below the chatbot if one is given."""
    if chatbot is not None and name in GUIDES:
        return reverse("console:guide", kwargs={"slug": chatbot.slug, "guide": name})
    return reverse("console:help_page", kwargs={"name": name})


def _copyable(_renderer: RendererHTML, tokens: Sequence[Token], place: int, *_rest: Any) -> str:
    """Render a block of code with a button that copies it."""
    return format_html(
        '<div class="copyable"><pre id="code-{0}" translate="no">{1}</pre>'
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
            static(f"help/{meta[theme]}"),
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


_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_MARKDOWN.add_render_rule("fence", _copyable)
_MARKDOWN.add_render_rule("picture", _picture)
_MARKDOWN.add_render_rule("table_open", _table_open)
_MARKDOWN.add_render_rule("table_close", _table_close)
