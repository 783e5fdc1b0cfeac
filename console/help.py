"""Help: the Markdown files of `docs/staff/`, as pages of the console.

Each file is a page below Help. Some are guides to setting a chatbot up: the settings pages link to them, and below a
chatbot they contain its slug.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.templatetags.static import static
from django.urls import reverse

from chatbots.models import Chatbot
from common import markdown
from common.markdown import Article
from config.openapi import guide as clients
from console.common.pages import chatbot_or_404, page, render, staff_page

_INDEX: Path = settings.BASE_DIR / "docs" / "staff" / "index.md"

# Guides to setting a chatbot up, in the order in which they are followed; the settings pages link to each.
GUIDES = ("data-compliance", "daily-extracts", "retention", "bucket-credentials")

_GROUP = re.compile(r"^## (?P<title>.+)$|^- \[(?P<page>.+?)\]\((?P<name>[\w-]+)\.md\): (?P<line>.+)$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Entry:
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
        others=[(page_url(one.name), one.title) for one in (group.entries if group else ()) if one.name != name],
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
        others=[(page_url(name, chatbot), title_of(name)) for name in GUIDES if name != guide],
    )


def _respond(request: HttpRequest, shown: Article, **context: Any) -> HttpResponse:
    return render(request, "console/help/page.html", title=shown.title, shown=shown, **context)


def _origin(request: HttpRequest) -> str:
    return request.build_absolute_uri("/").rstrip("/")


def page_names() -> list[str]:
    return [entry.name for group in read_index() for entry in group.entries]


def title_of(name: str) -> str:
    return markdown.title_of(_text(name))


def path_of(name: str) -> Path:
    return _INDEX.with_name(f"{name}.md")


def _text(name: str) -> str:
    """Return the text of a page, without comments for maintainers."""
    return _COMMENT.sub("", path_of(name).read_text(encoding="utf-8"))


def read_index() -> list[Group]:
    groups: list[Group] = []
    for found in _GROUP.finditer(_INDEX.read_text(encoding="utf-8")):
        if found["title"]:
            groups.append(Group(found["title"], []))
        else:
            groups[-1].entries.append(Entry(found["name"], found["page"], found["line"]))
    return groups


def read_page(name: str, *, origin: str, chatbot: Chatbot | None = None) -> Article:
    """Return a page for the service at `origin`, with the slug of the chatbot if one is given.

    Raises ValueError for a link to a page that the service does not have.
    """
    return markdown.render(
        _text(name),
        slug=chatbot.slug if chatbot else markdown.EXAMPLE_SLUG,
        origin=origin,
        target=lambda href: _target(href, chatbot),
        image=lambda source: static(f"help/{PurePosixPath(source).name}"),
    )


def _target(href: str, chatbot: Chatbot | None) -> str:
    """Return the address of a link on a page: a section, another page, or a page for clients."""
    path, hash_sign, anchor = href.partition("#")
    if not path:
        return href
    name = PurePosixPath(path).stem
    if path == f"{name}.md" and name in page_names():
        return f"{page_url(name, chatbot)}{hash_sign}{anchor}"
    address = clients.target(href, slug=chatbot.slug if chatbot else None, folder="staff")
    if address is None:
        raise ValueError(f"The service has no page for {href}.")
    return address


def page_url(name: str, chatbot: Chatbot | None = None) -> str:
    """Return the address of a page. The address of a guide is below the chatbot if one is given."""
    if chatbot is not None and name in GUIDES:
        return reverse("console:guide", kwargs={"slug": chatbot.slug, "guide": name})
    return reverse("console:help_page", kwargs={"name": name})
