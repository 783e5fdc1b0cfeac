"""What a turn plants: words that occur nowhere else, and how each is recognised.

A word is derived from the turn's id under `DIGEST_KEY`, so it is stored nowhere and a later process has it again.
"""

import base64
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from common.crypto import digest
from common.times import rfc3339

UCI, NOTE, PLAN = "chatter", "note", "plan"

_MARK = "canary"
_RANDOM_BYTES = 15  # 24 letters of base32
# Where the words are: one for each place that a document has.
_LABELS = (
    *("value", "name", "comment", "note", "plan", "conversation", "earlier", "message", "said", "answered"),
    *("long ago", "file name", "file"),
)
GZIP = b"\x1f\x8b"
GUNZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1024 * 1024


class Unsearchable(Exception):
    """There is more to be searched than the canary reads, or it is packed in a way that cannot be read."""


class Planted(NamedTuple):
    """The words of a turn, by label."""

    words: dict[str, str]

    def only(self, *labels: str) -> "Planted":
        """Return some of the words, by what they are planted as."""
        return Planted({label: self.words[label] for label in labels})

    @property
    def value(self) -> str:
        return self.words["value"]

    @property
    def about(self) -> dict[str, str]:
        """The chatter, as a request names one."""
        return {"unique_chatter_identifier_key": UCI, "unique_chatter_identifier_value": self.value}

    @property
    def conversation_ids(self) -> list[str]:
        return [self.words["conversation"], self.words["earlier"]]

    @property
    def file_name(self) -> str:
        return f"{self.words['file name']}.txt"

    @property
    def file(self) -> bytes:
        return f"A file with {self.words['file']}.\n".encode()

    @property
    def message_id(self) -> str:
        return self.words["message"]

    def documents(self, *, now: datetime, earlier: datetime) -> list[dict[str, Any]]:
        """Return a conversation of now, with everything that a document can have, and one of an earlier day."""
        words = self.words
        variables = {
            "custom_variables": {UCI: self.value, NOTE: words["note"]},
            "user_channel_variables": {PLAN: words["plan"]},
        }
        return [
            {
                "id": words["conversation"],
                "channel": "widget",
                "language": "en",
                "user_name": f"The {words['name']}",
                "started_at": rfc3339(now),
                "score": 7,
                "csat": {"score": 4, "vote": "positive", "comment": f"It was {words['comment']}."},
                "messages": [
                    _message(words["message"], "user", f"I am {words['said']}.", now),
                    _message("m2", "bot", f"So you are {words['answered']}.", now),
                    _message("m3", "agent", f"{words['said']} and {words['answered']}, " * 20, now),
                ],
                **variables,
            },
            {
                "id": words["earlier"],
                "channel": "other",
                "started_at": rfc3339(earlier),
                "messages": [_message("m1", "user", f"It was {words['long ago']}.", earlier)],
                **variables,
            },
        ]


# Of `documents`: how much a deletion has to count.
COUNTS = {"conversations": 2, "messages": 4, "identities": 2, "variable_values": 4, "files": 1}


def planted(turn_id: UUID) -> Planted:
    return Planted({label: _word(turn_id, label) for label in _LABELS})


def _word(turn_id: UUID, label: str) -> str:
    random = digest("canary", turn_id, label)[:_RANDOM_BYTES]
    return _MARK + base64.b32encode(random).decode().lower()


def _message(message_id: str, sender: str, text: str, at: datetime) -> dict[str, Any]:
    return {"id": message_id, "sender": sender, "kind": "text", "text": text, "sent_at": rfc3339(at)}


class _Form:
    """All words in one form. They have the same length and begin with the same letters.

    These letters are looked for first, so that the words of many turns take no longer than those of one.
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        self._needles = set(needles)
        first, last = min(self._needles), max(self._needles)
        self.length = len(first)
        differs = (place for place, (one, other) in enumerate(zip(first, last, strict=True)) if one != other)
        self._head = first[: next(differs, self.length)]

    def is_in(self, data: bytes) -> bool:
        at = data.find(self._head)
        while at >= 0:
            if data[at : at + self.length] in self._needles:
                return True
            at = data.find(self._head, at + 1)
        return False


class Search:
    """Looks for the words of turns in bytes: as they are, in any case, as hex and as base64, also inside gzip.

    Reads `most_bytes` at most of one thing.
    """

    def __init__(self, *turns: Planted, most_bytes: int = 64 * 1024 * 1024) -> None:
        words = [word.encode() for turn in turns for word in turn.words.values()]
        self._folded = [_Form(words), _Form(word.hex().encode() for word in words)]
        self._exact = [_Form(_in_base64(word, before) for word in words) for before in range(3)]
        self._overlap = max(form.length for form in self._folded + self._exact) - 1
        self._most_bytes = most_bytes

    def is_in(self, data: bytes) -> bool:
        folded = data.lower()
        return any(form.is_in(folded) for form in self._folded) or any(form.is_in(data) for form in self._exact)

    def is_in_text(self, text: str) -> bool:
        return self.is_in(text.encode("utf-8", "replace"))

    def is_in_any(self, chunks: Iterable[bytes]) -> bool:
        """Return whether a word is in what the chunks make together, or in what that is the gzip of.

        Raises Unsearchable.
        """
        plain, unpacked = self._scan(), self._scan()
        gunzip: _Gunzip | None = None
        size = 0
        for chunk in _from_head(chunks):
            if size == 0 and chunk.startswith(GZIP):
                gunzip = _Gunzip()
            size += len(chunk)
            if plain(chunk) or (gunzip and any(unpacked(piece) for piece in gunzip.feed(chunk))):
                return True
        if gunzip and not gunzip.is_whole:
            raise Unsearchable
        return False

    def _scan(self) -> Callable[[bytes], bool]:
        """Return a function that is given one chunk after the other, and says whether a word has come to its end."""
        tail, size = b"", 0

        def scan(chunk: bytes) -> bool:
            nonlocal tail, size
            tail, size = tail + chunk, size + len(chunk)
            if size > self._most_bytes:
                raise Unsearchable
            found = self.is_in(tail)
            tail = tail[-self._overlap :]
            return found

        return scan


class _Gunzip:
    """Unpacks gzip piece by piece, also of several members. Raises Unsearchable where it is none."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(GUNZIP)

    @property
    def is_whole(self) -> bool:
        return self._member.eof

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        left = chunk
        while left:
            if self._member.eof:
                self._member = zlib.decompressobj(GUNZIP)
            try:
                # A few bytes can unpack to very many.
                yield self._member.decompress(left, _PIECE_BYTES)
            except zlib.error:
                raise Unsearchable from None
            left = self._member.unconsumed_tail or self._member.unused_data


def _from_head(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks, the first with what tells gzip from anything else."""
    head: bytes | None = b""
    for chunk in chunks:
        if head is None:
            yield chunk
        elif len(head := head + chunk) >= len(GZIP):
            yield head
            head = None
    if head:
        yield head


def _in_base64(word: bytes, before: int) -> bytes:
    """Return what is common to base64 of every text with the word as the byte `before` of a group of three."""
    encoded = base64.b64encode(bytes(before) + word)
    whole = (before + len(word)) // 3 * 4
    return encoded[(before * 8 + 5) // 6 : whole]
