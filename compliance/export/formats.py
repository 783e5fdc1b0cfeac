"""Exports in several formats: the names, descriptions and contents of their files, and the ZIP of all.

An export of the CSV alone is that file. Any other one has a folder of files beside `manifest.json`, which lists them;
or it is one ZIP with all of them.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo
from zoneinfo import ZoneInfo

from psycopg import Connection

from chatbots.models import Chatbot
from common.db import local_settings
from compliance.export.records import Target
from compliance.storage_locations import MANIFEST
from conversations import chats, pages
from conversations.snapshots import SNAPSHOT_MINUTES, read_patiently
from conversations.transcripts import CHUNK_BYTES, CONTENT_TYPE, StoredFile, TranscriptCounts, Transcripts

Format = Chatbot.ExportFormat
MANIFEST_TYPE, ZIP_TYPE = "application/json", "application/zip"

_JSON = "conversations.jsonl"
_DESCRIPTIONS = {
    "conversations.csv": "All messages as a table, one line each, for spreadsheets and programs.",
    _JSON: "All conversations for programs: one JSON object a line, with its messages.",
    pages.INDEX: "All conversations for people. Open this file in a browser.",
}
_PAGE, _COPY = (
    "A page of the conversations, which index.html leads to.",
    "A file that was uploaded in a conversation.",
)
_Piece = TypeVar("_Piece")
_PAGE_NAME = re.compile(r"page-[0-9]+\.html")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}$")


@dataclass(frozen=True)
class Part:
    """A file of an export: its name, media type and bytes, which can be read once."""

    name: str
    media_type: str
    data: Iterable[bytes]


class Listed(NamedTuple):
    """A file as the manifest lists it. `sha256` is lower-case hex."""

    name: str
    bytes: int
    sha256: str


@dataclass(eq=False, repr=False)
class Contents:
    """The files of one export, but its manifest. Each is read from the snapshot when its turn comes.

    `meanwhile` is called regularly while it is read. Raises psycopg's errors and StorageError.
    """

    reader: Connection[Any]
    transcripts: Transcripts
    target: Target
    counts: TranscriptCounts
    _: KW_ONLY
    made_at: datetime
    meanwhile: Callable[[], object]

    def parts(self, *, beside: Callable[[Part], object] | None = None) -> Generator[Part]:
        """Yield the files of the formats. Read each to its end before the next, or close the generator.

        Each page is handed to `beside`, if given, while the JSON is read: then PostgreSQL makes both only once.
        """
        formats = self.target.formats
        if Format.CSV in formats:
            with self._patiently(self.transcripts.pieces([self.target.place])) as pieces:
                yield Part("conversations.csv", CONTENT_TYPE, (piece.data for piece in pieces))
        if beside and {Format.JSON, Format.HTML} <= set(formats):
            # The bucket may take as long for each of the two.
            self._limit(2 * SNAPSHOT_MINUTES)
            with self._patiently(self._json_and_pages(self._cover())) as chunks:
                yield Part(_JSON, chats.JSON_LINES, _json_alone(chunks, beside))
            self._limit(SNAPSHOT_MINUTES)
            return
        if Format.JSON in formats:
            with self._patiently(chats.json_lines(self._chats())) as lines:
                yield Part(_JSON, chats.JSON_LINES, lines)
        if Format.HTML in formats:
            with self._patiently(_sliced(pages.write(self._chats(), self._cover()))) as chunks:
                for name, of_page in groupby(chunks, key=itemgetter(0)):
                    yield _page(name, of_page)

    def _json_and_pages(self, cover: pages.Cover) -> Generator[tuple[str, bytes]]:
        lines = bytearray()
        with closing(self._chats()) as found:
            for page in pages.write((chats.copied(chat, lines) for chat in found), cover):
                yield from _sliced([(_JSON, lines), page])
                lines.clear()
        yield from _sliced([(_JSON, lines)])

    def _limit(self, minutes: int) -> None:
        self.reader.execute(local_settings(statement_timeout=f"{minutes}min"))

    def _chats(self) -> Generator[chats.Chat]:
        return chats.read(self.reader, self.transcripts)

    def _patiently(self, pieces: Generator[_Piece]) -> "closing[Generator[_Piece]]":
        """Return the pieces, which are closed at once if their reader breaks off: its statement must end first."""
        return closing(read_patiently(self.reader, pieces, meanwhile=self.meanwhile))

    def copies(self, read_file: Callable[[StoredFile], Iterable[bytes]], *, at_once: int) -> Generator[Part]:
        """Yield the uploaded files, for a ZIP. Empty unless the export includes them."""
        if self.target.include_files:
            for files in self.transcripts.stored_files([self.target.place], at_once=at_once):
                for one in files:
                    yield Part(copy_name(one.file_id, one.name), one.content_type, read_file(one))

    def manifest(self, files: Iterable[Listed]) -> bytes:
        """Return the manifest, which lists these files."""
        document = {
            "request_id": str(self.target.request_id),
            "made_at": self.made_at.isoformat(),
            "conversations": self.counts.conversations,
            "messages": self.counts.messages,
            "files": [one._asdict() | {"description": _description(one.name)} for one in files],
        }
        return json.dumps(document, indent=2).encode() + b"\n"

    def _cover(self) -> pages.Cover:
        chatbot = Chatbot.objects.get(pk=self.target.chatbot_id)
        counts, left_out = self.counts, []
        if counts.shared_left_out:
            left_out.append(f"{counts.shared_left_out:,} in which other people took part")
        if counts.unverified_left_out:
            left_out.append(f"{counts.unverified_left_out:,} of which it is not sure that they are yours")
        return pages.Cover(
            chatbot=chatbot.name,
            made_at=self.made_at,
            zone=ZoneInfo(chatbot.timezone),
            left_out=f"These conversations are left out: {', and '.join(left_out)}." if left_out else "",
            link=self._link if self.target.include_files else lambda _number, _name: None,
        )

    def _link(self, number: int, name: str) -> str:
        return copy_name(number, name) if self.target.archive else str(number)


def _sliced(written: Iterable[tuple[str, bytes | bytearray]]) -> Generator[tuple[str, bytes]]:
    for name, data in written:
        for start in range(0, len(data), CHUNK_BYTES):
            yield name, bytes(data[start : start + CHUNK_BYTES])


def _json_alone(chunks: Iterable[tuple[str, bytes]], beside: Callable[[Part], object]) -> Iterator[bytes]:
    """Yield the JSON, and hand each page over that comes in between."""
    for name, of_one in groupby(chunks, key=itemgetter(0)):
        if name == _JSON:
            yield from (chunk for _, chunk in of_one)
        else:
            beside(_page(name, of_one))


def _page(name: str, chunks: Iterable[tuple[str, bytes]]) -> Part:
    return Part(name, pages.CONTENT_TYPE, (chunk for _, chunk in chunks))


def media_type_of(target: Target) -> str:
    """Return the media type of the object that the export itself is."""
    if target.archive:
        return ZIP_TYPE
    return CONTENT_TYPE if target.reading_group else MANIFEST_TYPE


def _description(name: str) -> str:
    return _DESCRIPTIONS.get(name) or (_PAGE if _PAGE_NAME.fullmatch(name) else _COPY)


def copy_name(number: int, name: str) -> str:
    """Return the name of an uploaded file's copy in a ZIP: its number, and the ending of its name if it is plain."""
    found = _SUFFIX.search(name)
    return f"{number}{found.group().lower() if found else ''}"


def zipped(contents: Contents, parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield a ZIP of the files and, at its end, their manifest. No file is in memory as a whole."""
    sink, made_at, listed = _Sink(), contents.made_at, list[Listed]()
    with ZipFile(sink, "w", ZIP_DEFLATED) as archive:
        for part in parts:
            size, digest = 0, hashlib.sha256()
            with archive.open(_entry(part.name, made_at), "w", force_zip64=True) as entry:
                for piece in part.data:
                    # Before a part of the ZIP is full, much can be read that shrinks.
                    contents.meanwhile()
                    entry.write(piece)
                    size += len(piece)
                    digest.update(piece)
                    if taken := sink.take():
                        yield taken
            listed.append(Listed(part.name, size, digest.hexdigest()))
        archive.writestr(_entry(MANIFEST, made_at), contents.manifest(listed))
    yield sink.take()


def _entry(name: str, made_at: datetime) -> ZipInfo:
    entry = ZipInfo(name, date_time=made_at.timetuple()[:6])
    entry.compress_type = ZIP_DEFLATED
    return entry


class _Sink(io.RawIOBase):
    """Takes what is written, without a position: so the ZIP is written as a stream."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken
