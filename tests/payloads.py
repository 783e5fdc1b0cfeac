"""Texts that would do something on a page which shows them as anything but text, and what tells that one did.

Each would leave an element `hit-me` or an attribute `hit`, call `hit()`, or ask the host `hit.invalid`. The first two
are found in the page's elements, whatever the policy of the page stops.
"""

import re
from html.parser import HTMLParser

HOST = "hit.invalid"

# None is longer than 32 characters, so that the shortest of columns takes one.
PIECES = (
    "<hit-me>",
    "\"'><hit-me>",
    '" hit="1',
    "' hit='1",
    " hit=1 ",
    "</script><hit-me>",
    "--></title></textarea><hit-me>",
    f"<img src=//{HOST}/ onerror=hit()>",
    "<svg/onload=hit()>",
    f"<link href=//{HOST}/ hit>",
    "{{7*7}}{% now 'Y' %}",
    "${hit()}`;hit();//",
    "\\u003chit-me\\u003e",
    "&lt;hit-me&gt;",
    f"}}*{{background:url(//{HOST}/)",
    "</style></noscript><hit-me>",
    "<base hit href=//x>",
    "%3Chit-me%3E",
    "\u202e>em-tih<\u2028",
    "]]><hit-me>",
)
# Begins an address that a browser would run.
SCRIPT_ADDRESS = "javascript:hit()//"


def payload(*, most: int, turn: int, without: str = "") -> str:
    """Return as many of the pieces as fit into so many characters, another one first in each turn.

    `without` matches what the pieces may not have, as a character class of a regular expression.
    """
    found = ""
    for place in range(len(PIECES)):
        piece = PIECES[(place + turn) % len(PIECES)]
        piece = re.sub(without, "", piece) if without else piece
        if len(found) + len(piece) <= most:
            found += piece
    return found


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hits: list[str] = []
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in [(tag, ""), *attrs]:
            leads_out = name in {
                "href",
                "src",
                "action",
                "formaction",
                "data-progress",
                "srcset",
                "poster",
            } and re.match(rf"\s*(javascript:|data:|vbscript:|(https?:)?//{HOST})", value or "", re.IGNORECASE)
            # A letter, which is a file of its own, has an element `style`.
            if name.startswith(("hit", "on")) or (name == "style" and value) or leads_out:
                self.hits.append(f"<{tag} {name}={value!r}>")
            self._text.append(value or "")

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self._text)


def hits(html: str) -> list[str]:
    """Return the elements and attributes in a page that only a payload can have made."""
    return _parsed(html).hits


def text_of(html: str) -> str:
    """Return what a page says, in its elements and their attributes."""
    return _parsed(html).text


def _parsed(html: str) -> _Elements:
    elements = _Elements()
    elements.feed(html)
    elements.close()
    return elements
