"""The planted words: each is unique, so any remaining data identifies its chatter, wherever it lies.

A word is in every personal text that clients send: values, ids, names, messages, comments, files.
"""

import base64
import binascii
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import count
from random import Random
from typing import NamedTuple
from zipfile import ZipFile, is_zipfile

_PERSON, _CONVERSATION = "a", "b"
_WORD = re.compile(f"zq([{_PERSON}{_CONVERSATION}])([0-9a-f]{{5}})[0-9a-f]{{6}}")
# Texts that break careless code: quotes, formulas, separators, line ends, other scripts, markup.
_DRESSES = (
    "{}",
    "=1+{}",
    "'{}'",
    'she said "{}", twice',
    "{}; =cmd\n-and\r\nmore",
    "@{}\tmore",
    "שלום {} مرحبا",
    "🙂 {} 🙃",
    "<b>{}</b> ../../{{0}}",
    "+49 {} -1",
    "{}, ,, \\N \\. $1",
)


# Texts that may be bytes in Base64, plain or for addresses, and in hex, as PostgreSQL writes them.
_BASE64, _HEX = re.compile(r"[A-Za-z0-9+/_-]{20,}"), re.compile(r"(?:[0-9a-f]{2}){14,}")
_URLSAFE = str.maketrans("-_", "+/")


class Word(NamedTuple):
    """A word as it was found: of a person or of a conversation, by their numbers in the model."""

    is_person: bool
    number: int
    text: str


class Words:
    """Makes the words of one run: `zq`, whose it is, by kind and number, and its own number."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def of_person(self, number: int) -> str:
        return self._word(_PERSON, number)

    def of_conversation(self, number: int) -> str:
        return self._word(_CONVERSATION, number)

    def _word(self, owner: str, number: int) -> str:
        return f"zq{owner}{number:05x}{next(self._numbers):06x}"


def unzipped(raw: bytes) -> bytes:
    """Return the contents of all files of a ZIP with their names, or what is none as it is."""
    if not is_zipfile(io.BytesIO(raw)):
        return raw
    with ZipFile(io.BytesIO(raw)) as archive:
        return b"\n".join(name.encode() + b"\n" + archive.read(name) for name in archive.namelist())


def found_in(*texts: str | bytes | None) -> set[Word]:
    """Return the planted words in texts, or in the contents of an object."""
    plain = (unzipped(text).decode(errors="replace") if isinstance(text, bytes) else text for text in texts)
    found = (match for text in plain if text for match in _WORD.finditer(text))
    return {Word(match[1] == _PERSON, int(match[2], 16), match[0]) for match in found}


def found_anyhow(text: str) -> set[Word]:
    """Return the planted words in a text, also in its parts in hex or Base64, compressed or not."""
    return found_in(text, *_decoded(text))


def _decoded(text: str) -> Iterator[str]:
    for token in _HEX.findall(text):
        yield from _unpacked(bytes.fromhex(token))
    for token in _BASE64.findall(text):
        # Its end may lack the padding, or have a piece of the following text.
        whole = token[: len(token) - (len(token) % 4 == 1)].translate(_URLSAFE)
        try:
            yield from _unpacked(base64.b64decode(whole + "=" * (-len(whole) % 4)))
        except binascii.Error:
            continue


def _unpacked(raw: bytes) -> Iterator[str]:
    yield raw.decode("latin-1")
    try:
        yield zlib.decompressobj().decompress(raw).decode("latin-1")
    except zlib.error:
        return


def dressed(word: str, chance: Random) -> str:
    """Return a hostile text around a word. The word itself stays unchanged."""
    return chance.choice(_DRESSES).replace("{}", word)


def unguarded(cell: str, other_separator: str) -> str:
    """Return a cell of a CSV without the guard against formulas, as docs/clients/read-the-csv.md removes it."""
    return re.sub(rf"(^|[{other_separator}\t\r\n])'", r"\1", cell)


def told(words: Iterable[Word], most: int = 3) -> str:
    """Return some words for a message."""
    texts = sorted(word.text for word in words)
    rest = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + rest
