"""The conversations of an export as pages that read like a chat: `index.html`, and `page-1.html` and so on.

Each page stands alone: no script, no file of another place. Whatever a text contains is shown as text.
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from html import escape
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic_core import from_json

from common.texts import counted
from conversations.chats import Chat
from conversations.models import Conversation
from conversations.uploads import download_name

CONTENT_TYPE = "text/html; charset=utf-8"
INDEX = "index.html"
# A page begins before it would be larger, with what is around the conversations.
MOST_BYTES = 5_000_000
_AROUND = 10_000
# Conversations that the index lists one by one.
MOST_LISTED = 5_000

_STYLE = """
:root { color-scheme: light dark; --back: #f4f5f7; --card: #fff; --ink: #1c2430; --soft: #566072; --line: #d8dce3;
  --ours: #e3efff; --link: #0b57c2 }
@media (prefers-color-scheme: dark) { :root { --back: #12161c; --card: #1b212a; --ink: #e8ebf0; --soft: #a5afbe;
  --line: #364050; --ours: #1f3350; --link: #8ab8ff } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main, header, footer { max-width: 46rem; margin: 0 auto; padding: 1rem }
a { color: var(--link) }
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.1rem; margin: 0 0 .25rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem;
  margin: 0 0 1.25rem }
.about, .by, footer { color: var(--soft); font-size: .875rem; margin: 0 0 .5rem }
ol.chat { list-style: none; margin: 0; padding: 0 }
ol.chat li { border: 1px solid var(--line); border-radius: .75rem; padding: .5rem .75rem; margin: .5rem 3rem .5rem 0;
  break-inside: avoid }
ol.chat li.user { background: var(--ours); margin: .5rem 0 .5rem 3rem }
.text { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere }
.by { margin: 0 } nav { display: flex; gap: 1rem; flex-wrap: wrap } td, th { text-align: start; padding: .25rem .75rem
  .25rem 0; vertical-align: top; overflow-wrap: anywhere }
@media (max-width: 30rem) { ol.chat li { margin-inline-end: 1rem } ol.chat li.user { margin-inline: 1rem 0 } }
@media print { body { background: none } section { border: 0; padding: 0 } nav { display: none } }
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
_SENDERS = {"user": "User", "bot": "Bot", "agent": "Agent"}
_KINDS = {"quick_reply": "Quick reply", "push": "Push message", "file": "File", "event": "Event"}
_REDACTED = "This message was removed."
# HTML has no characters for these.
_CONTROLS = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]")


@dataclass(frozen=True)
class Cover:
    """What the index says: the chatbot's name, when the export was made, its time zone, and what it leaves out.

    `link` returns the address of an uploaded file's copy by its number and name, or None if there is none.
    """

    chatbot: str
    made_at: datetime
    zone: ZoneInfo
    left_out: str
    link: Callable[[int, str], str | None]


@dataclass
class _Span:
    """The conversations that begin on a page: their number, and the beginnings of the first and the last."""

    number: int = 0
    first: datetime | None = None
    last: datetime | None = None


class _Listed(NamedTuple):
    """A conversation in the index."""

    page: int
    number: int
    began: datetime
    messages: int


def write(chats: Iterable[Chat], cover: Cover) -> Generator[tuple[str, bytes]]:
    """Yield the pages by their names, the index last. A page of at most MOST_BYTES is in memory at a time."""
    writer = _Writer(cover)
    for chat in chats:
        yield from writer.add(chat)
    yield from writer.end()


class _Writer:
    def __init__(self, cover: Cover) -> None:
        self._cover = cover
        self._page = 1
        self._parts: list[bytes] = []
        self._bytes = 0
        self._listed: list[_Listed] = []
        self._spans = [_Span()]
        self._conversations = self._messages = 0
        # Many messages are of one minute.
        self._moment = lru_cache(maxsize=1_000)(partial(_moment, zone=cover.zone))

    def add(self, chat: Chat) -> Iterator[tuple[str, bytes]]:
        about = from_json(chat.about)
        began = datetime.fromisoformat(about["conversation_started_at"])
        head = self._head(chat.number, about)
        if self._is_full(head):
            yield self._turn()
        self._put(head)
        page, number = self._page, 0
        for bunch in chat.messages:
            messages = [self._message(message) for message in from_json(b"[%b]" % bunch)]
            number += len(messages)
            for piece in self._pieces(messages):
                if self._is_full(piece):
                    self._put(b"</ol></section>\n")
                    yield self._turn()
                    self._put(self._head(chat.number, about, continued=True))
                self._put(piece)
        self._put(b"</ol>")
        for file in about["files"]:
            line = self._files([file]).encode()
            if self._is_full(line):
                self._put(b"</section>\n")
                yield self._turn()
                self._put(self._head(chat.number, about, continued=True) + b"</ol>")
            self._put(line)
        self._put(b"</section>\n")
        self._conversations += 1
        self._messages += number
        span = self._spans[page - 1]
        span.number, span.first, span.last = span.number + 1, span.first or began, began
        if self._conversations <= MOST_LISTED:
            self._listed.append(_Listed(page, chat.number, began, number))

    def end(self) -> Iterator[tuple[str, bytes]]:
        if self._parts:
            yield self._finished(is_last=True)
        yield INDEX, self._index()

    def _is_full(self, piece: bytes) -> bool:
        return bool(self._parts) and self._bytes + len(piece) > MOST_BYTES - _AROUND

    def _pieces(self, messages: list[str]) -> list[bytes]:
        """Return the messages as one piece, or each if the page has no room for all."""
        whole = "".join(messages).encode()
        return [message.encode() for message in messages] if self._is_full(whole) else [whole]

    def _put(self, piece: bytes) -> None:
        self._parts.append(piece)
        self._bytes += len(piece)

    def _turn(self) -> tuple[str, bytes]:
        """Return the page, and begin the next one."""
        page = self._finished(is_last=False)
        self._page += 1
        self._spans.append(_Span())
        return page

    def _finished(self, *, is_last: bool) -> tuple[str, bytes]:
        links = [f'<a href="{INDEX}">All conversations</a>']
        if self._page > 1:
            links.append(f'<a href="page-{self._page - 1}.html" rel="prev">Previous page</a>')
        if not is_last:
            links.append(f'<a href="page-{self._page + 1}.html" rel="next">Next page</a>')
        nav = '<nav aria-label="{}">' + " ".join(links) + "</nav>"
        title = f"Conversations with {_bdi(self._cover.chatbot)}, page {self._page}"
        body = (
            f"<header><h1>{title}</h1>{nav.format('Pages')}</header>\n<main>".encode(),
            *self._parts,
            f"</main>\n<footer>{nav.format('Pages, again')}</footer>".encode(),
        )
        self._parts.clear()
        self._bytes = 0
        plain = f"Conversations with {self._cover.chatbot}, page {self._page}"
        return f"page-{self._page}.html", _page(plain, body)

    def _head(self, number: int, about: dict[str, Any], *, continued: bool = False) -> bytes:
        identity = f"c{number}-{self._page}" if continued else f"c{number}"
        facts = [str(Conversation.Channel(about["user_channel"]).label)]
        facts += [f"user name: {_bdi(about['user_name'])}"] if about["user_name"] else []
        facts += [f"{_bdi(about['uci_key'])}: {_bdi(about['uci_value'])}"] if about["uci_key"] else []
        facts += [f"language: {_bdi(about['language'])}"] if about["language"] else []
        facts += [f"score: {about['conversation_score']}"] if about["conversation_score"] is not None else []
        facts += [f"rating: {about['csat_score']}"] if about["csat_score"] is not None else []
        facts += [f"vote: {about['csat_vote']}"] if about["csat_vote"] else []
        comment = (
            f'<p class="about">Comment: <span dir="auto">{_text(about["csat_comment"])}</span></p>'
            if about["csat_comment"]
            else ""
        )
        title = f"{self._moment(about['conversation_started_at'][:16])}{' (continued)' if continued else ''}"
        return (
            f'<section aria-labelledby="{identity}"><h2 id="{identity}">{title}</h2>'
            f'<p class="about">{" · ".join(facts)}</p>{comment}<ol class="chat">'
        ).encode()

    def _message(self, message: dict[str, Any]) -> str:
        kind = message["message_kind"]
        who = _SENDERS.get(message["sender"], message["sender"])
        label = f" · {_KINDS[kind]}" if kind in _KINDS else ""
        text = _REDACTED if kind == "redacted" else message["text"]
        shown = f'<p class="text" dir="auto">{_text(text)}</p>' if text else ""
        return (
            f'<li class="{message["sender"]}"><p class="by"><b>{who}</b>{label} · '
            f'<time datetime="{message["sent_at"]}">{self._moment(message["sent_at"][:16])}</time></p>'
            f"{shown}{self._files(message['files']) if message['files'] else ''}</li>\n"
        )

    def _files(self, files: Iterable[dict[str, Any]]) -> str:
        return "".join(f'<p class="text">{self._file(one["file_id"], one["file_name"])}</p>' for one in files)

    def _file(self, file_id: int, name: str) -> str:
        link, shown = self._cover.link(file_id, name), _bdi(download_name(name))
        return f'File: <a href="{escape(link)}">{shown}</a>' if link else f"File: {shown}"

    def _index(self) -> bytes:
        cover = self._cover
        number = f"{counted(self._conversations, 'conversation')} with {counted(self._messages, 'message')}"
        made = _moment(cover.made_at.astimezone(UTC).isoformat()[:16], cover.zone)
        lines = [
            f"<header><h1>Your conversations with {_bdi(cover.chatbot)}</h1></header>\n<main>",
            f"<section><p>This is a copy of what is stored of your conversations with {_bdi(cover.chatbot)}:",
            f"{number}. It was made on {made}. All times are in the time zone {escape(str(cover.zone))}.</p>",
            f"<p>{escape(cover.left_out)}</p>" if cover.left_out else "",
            "</section>",
        ]
        lines += self._by_day() if self._conversations <= MOST_LISTED else self._by_page()
        return _page(f"Your conversations with {cover.chatbot}", ["\n".join([*lines, "</main>"]).encode()])

    def _by_day(self) -> Iterator[str]:
        day = ""
        for one in self._listed:
            if (this := self._day(one.began)) != day:
                yield ("</ul></section>" if day else "") + f"<section><h2>{this}</h2><ul>"
                day = this
            link = f"page-{one.page}.html#c{one.number}"
            began = one.began.astimezone(self._cover.zone)
            yield f'<li><a href="{link}">{began:%H:%M}</a>, {counted(one.messages, "message")}</li>'
        yield "</ul></section>" if day else ""

    def _day(self, at: datetime) -> str:
        return f"{at.astimezone(self._cover.zone):%-d %B %Y}"

    def _by_page(self) -> Iterator[str]:
        yield '<section><table><thead><tr><th scope="col">Page</th><th scope="col">From</th><th scope="col">To</th>'
        yield '<th scope="col">Conversations</th></tr></thead><tbody>'
        for place, span in enumerate(self._spans, start=1):
            first, last = (self._day(each) if each else "" for each in (span.first, span.last))
            yield (
                f'<tr><th scope="row"><a href="page-{place}.html">Page {place}</a></th><td>{first}</td>'
                f"<td>{last}</td><td>{span.number:,}</td></tr>"
            )
        yield "</tbody></table></section>"


def _page(title: str, body: Iterable[bytes]) -> bytes:
    begin, end = _PAGE.format(title=_text(title), style=_STYLE, body="\0").encode().split(b"\0")
    return b"".join([begin, *body, end])


def _moment(minute: str, zone: ZoneInfo) -> str:
    """Return a minute as a person reads it. `minute` is in UTC, such as `2026-11-01T12:00`."""
    return f"{datetime.fromisoformat(minute).replace(tzinfo=UTC).astimezone(zone):%-d %B %Y, %H:%M}"


def _text(text: str) -> str:
    # Most texts need no search.
    return escape(text if text.isprintable() else _CONTROLS.sub("\ufffd", text))


def _bdi(text: str) -> str:
    """Return a text that does not change the direction of what is beside it."""
    return f"<bdi>{_text(text)}</bdi>"
