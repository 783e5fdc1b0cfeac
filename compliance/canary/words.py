"""The words that a turn plants, which occur nowhere else, and the search for them.

A turn's words are derived from its id, so they are stored nowhere and each later process can derive them again. All
words of a turn begin with the turn's own prefix, and all these prefixes begin with the same letters.
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from gzip import GzipFile
from typing import Any, BinaryIO
from uuid import UUID

from common.times import rfc3339

UCI, NOTE, PLAN = "chatter", "note", "plan"

_MARK = b"canary"
# The fields of contents. Of their words no id has any, and keys have the value alone.
_TEXTS = ("value", "name", "said", "longago", "note", "plan", "filename", "infile")
_RANDOM_BYTES = 15  # 24 letters of base32
GZIP = b"\x1f\x8b"
_PIECE_BYTES = 1024 * 1024


class Unsearchable(Exception):
    """The data is longer than the canary reads, or packed in a form that cannot be read."""


class Planted:
    """The words of a turn. Each is `stem` with the name of its field."""

    def __init__(self, turn_id: UUID) -> None:
        random = hashlib.sha256(_MARK + turn_id.bytes).digest()[:_RANDOM_BYTES]
        self.stem = (_MARK + base64.b32encode(random).lower()).decode()
        self.value = f"{self.stem}value"
        self.name, self.said, self.long_ago = f"{self.stem}name", f"{self.stem}said", f"{self.stem}longago"
        self.conversation_ids = [f"{self.stem}conversation", f"{self.stem}earlier"]
        self.message_id = f"{self.stem}message"
        self.file_name = f"{self.stem}filename.txt"
        self.in_file = f"{self.stem}infile"
        self.file = f"A file with {self.in_file}.\n".encode()
        self.texts = [self.stem + each for each in _TEXTS]
        # The chatter's value in requests.
        self.about = {"unique_chatter_identifier_key": UCI, "unique_chatter_identifier_value": self.value}

    def documents(self, *, now: datetime, earlier: datetime) -> list[dict[str, Any]]:
        """Return a present conversation with every field of a document, and one of an earlier day."""
        variables = {
            "custom_variables": {UCI: self.value, NOTE: f"{self.stem}note"},
            "user_channel_variables": {PLAN: f"{self.stem}plan"},
        }
        return [
            {
                "id": self.conversation_ids[0],
                "channel": "widget",
                "language": "en",
                "user_name": f"The {self.name}",
                "started_at": rfc3339(now),
                "score": 7,
                "csat": {"score": 4, "vote": "positive", "comment": f"It was {self.stem}comment."},
                "messages": [
                    _message(self.message_id, "user", f"I am {self.said}.", now),
                    _message("m2", "bot", f"So you are {self.stem}answered.", now),
                    _message("m3", "agent", f"{self.said}, {self.stem}answered, " * 20, now),
                ],
                **variables,
            },
            {
                "id": self.conversation_ids[1],
                "channel": "other",
                "started_at": rfc3339(earlier),
                "messages": [_message("m1", "user", f"It was {self.long_ago}.", earlier)],
                **variables,
            },
        ]


def _message(message_id: str, sender: str, text: str, at: datetime) -> dict[str, Any]:
    return {"id": message_id, "sender": sender, "kind": "text", "text": text, "sent_at": rfc3339(at)}


def _in_base64(before: int, word: bytes) -> bytes:
    """Return the common part of the base64 of all texts in which the word begins at byte `before` of three."""
    encoded = base64.b64encode(bytes(before) + word)
    whole = (before + len(word)) // 3 * 4
    return encoded[(before * 8 + 5) // 6 : whole]


_FOLDED: list[Callable[[bytes], bytes]] = [bytes, lambda word: word.hex().encode()]
_EXACT: list[Callable[[bytes], bytes]] = [partial(_in_base64, before) for before in range(3)]
# A regular expression that matches every text with a word in one of these forms, and few other texts.
HEADS = "|".join(form(_MARK).decode() for form in (*_FOLDED, *_EXACT))


class Search:
    """Looks for words in bytes: as they are, in any case, as hex and as base64, in a file also inside gzip."""

    def __init__(self, words: Iterable[str], *, most_bytes: int = 64 * 1024 * 1024) -> None:
        known = sorted(word.encode() for word in words)
        # `re` searches for the common beginning first, so that many words take as long as one.
        self._folded = [re.compile(b"|".join(map(form, known))) for form in _FOLDED]
        self._exact = [re.compile(b"|".join(map(form, known))) for form in _EXACT]
        self._overlap = 2 * max(map(len, known)) - 1
        self._most_bytes = most_bytes

    def is_in(self, data: bytes) -> bool:
        folded = data.lower()
        return any(form.search(folded) for form in self._folded) or any(form.search(data) for form in self._exact)

    def is_in_text(self, text: str) -> bool:
        return self.is_in(text.encode("utf-8", "replace"))

    def is_in_file(self, file: BinaryIO) -> bool:
        """Return whether a word is in the rest of a file, or in its content if it is gzip. Raises Unsearchable."""
        start = file.tell()
        if self._is_in_rest(file):
            return True
        file.seek(start)
        if file.read(len(GZIP)) != GZIP:
            return False
        file.seek(start)
        try:
            return self._is_in_rest(GzipFile(fileobj=file))
        except (EOFError, OSError, zlib.error):
            raise Unsearchable from None

    def _is_in_rest(self, file: BinaryIO | GzipFile) -> bool:
        tail, size = b"", 0
        while piece := file.read(_PIECE_BYTES):
            size += len(piece)
            if size > self._most_bytes:
                raise Unsearchable
            if self.is_in(tail := tail + piece):
                return True
            tail = tail[-self._overlap :]
        return False
