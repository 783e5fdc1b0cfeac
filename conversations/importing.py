"""Import a file of conversation documents, one JSON document a line: read, parse, store, count.

Two batches are stored at a time, each by a thread and a connection of its own, while the next is parsed: where one
waits for PostgreSQL another has the interpreter. Batches that share a conversation are stored one after the other, so
its documents are taken in the order of the file. Memory stays at three batches whatever the size of the file.

A refused line is told by its number, pointers and codes, never by its content.
"""

import gc
import gzip
import sys
import zlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import cycle
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from django.db import connection, connections

from chatbots.models import Chatbot
from conversations.documents import Document, DocumentError, DocumentInvalid, error_at, parse_document
from conversations.intake import IntakeFailed, Outcome, Result, store

BATCH_DOCUMENTS = 500
BATCH_BYTES = 16 * 1024 * 1024
# A third would mostly wait for the interpreter, which parsing and two writers keep busy.
CONNECTIONS = 2

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SourceUnreadable(Exception):
    """The file cannot be opened, or breaks off. What was read before that is stored."""


class Line(NamedTuple):
    """A line and its number, from 1. `raw` is None if the line was longer than allowed."""

    number: int
    raw: bytes | None


class Refusal(NamedTuple):
    line: int
    errors: tuple[DocumentError, ...]


class _Parsed(NamedTuple):
    line: int
    document: Document | DocumentInvalid


@dataclass
class Summary:
    """What an import has done so far."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    messages: int = 0
    refused_by_code: Counter[str] = field(default_factory=Counter)

    @property
    def documents(self) -> int:
        return self.created + self.updated + self.unchanged + self.refused


@contextmanager
def long_run() -> Iterator[None]:
    """Keep the garbage collector from going through all that was loaded before, again and again, and through what
    is new at every 700 objects: an eighth of an import's time. For a process that does nothing else meanwhile."""
    gc.collect()
    gc.freeze()
    threshold = gc.get_threshold()
    gc.set_threshold(50_000, *threshold[1:])
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()


@contextmanager
def open_source(path: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for "-", and unpack it if it is gzip. Raises SourceUnreadable."""
    try:
        raw = cast("BufferedReader", sys.stdin.buffer) if path == "-" else Path(path).open("rb")  # noqa: SIM115
        begin = raw.peek(2)[:2]
    except OSError as error:
        raise SourceUnreadable(f"The file cannot be read: {error.strerror}.") from None
    try:
        yield cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if begin == _GZIP_MAGIC else raw
    finally:
        if path != "-":
            raw.close()


def read_lines(source: BinaryIO, *, limit: int) -> Iterator[Line]:
    """Yield the lines that hold something; never more than `limit` bytes of one. Raises SourceUnreadable."""
    number = 0
    try:
        while raw := source.readline(limit + 1):
            number += 1
            if number == 1:
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            if len(raw) > limit and not raw.endswith(b"\n"):
                _skip_to_end_of_line(source, limit)
                yield Line(number, None)
            elif raw.strip():
                yield Line(number, raw)
    except (OSError, EOFError, zlib.error):
        # An OSError of gzip's, or of the disk: neither's text is worth more than where it happened.
        raise SourceUnreadable(f"The file breaks off after line {number}: damaged or cut short.") from None


def _skip_to_end_of_line(source: BinaryIO, limit: int) -> None:
    while (rest := source.readline(limit)) and not rest.endswith(b"\n"):
        pass


def import_lines(
    *, chatbot: Chatbot, lines: Iterable[Line], summary: Summary, on_refused: Callable[[Refusal], None]
) -> Generator[int, None, None]:
    """Store the lines in batches; yield, after each batch is committed, how many lines it had.

    Counts into `summary`, which is right after an error too, and once the generator is closed. Safe to run
    again from the start: what is stored already is found `unchanged`. Raises SourceUnreadable and
    `intake.IntakeFailed`; the batch after one that failed may be stored.

    Inside a transaction all is stored through its connection, one batch at a time.
    """
    with _Writers(chatbot, 1 if connection.in_atomic_block else CONNECTIONS) as writers:
        under_way: deque[_Stored] = deque()
        try:
            for batch in _batches(lines):
                ids = _conversation_ids(batch)
                while len(under_way) == writers.number or any(not ids.isdisjoint(one.ids) for one in under_way):
                    yield _finish(under_way, summary, on_refused)
                under_way.append(_Stored(batch, ids, writers.store(batch)))
            while under_way:
                yield _finish(under_way, summary, on_refused)
        finally:
            # What has begun is going to be stored, whatever ends us: it counts.
            while under_way:
                with suppress(Exception):  # the first error is on its way already
                    _finish(under_way, summary, on_refused)


class _Stored(NamedTuple):
    """A batch that is being stored, the ids of its conversations, and what will become of it."""

    batch: Sequence[_Parsed]
    ids: frozenset[str]
    outcomes: "Future[list[Outcome]]"


class _Writers:
    """Threads that store batches in turn; the caller's own thread where there is only one."""

    def __init__(self, chatbot: Chatbot, number: int) -> None:
        self.number = number
        self._chatbot = chatbot
        # One executor for each thread, so that each can be told to close its connection.
        self._threads = [ThreadPoolExecutor(1) for _ in range(number)] if number > 1 else []
        self._turn = cycle(self._threads)

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, *_error: object) -> None:
        for thread in self._threads:
            thread.submit(connections.close_all)
            thread.shutdown()

    def store(self, batch: Sequence[_Parsed]) -> "Future[list[Outcome]]":
        documents = [parsed.document for parsed in batch]
        if self._threads:
            return next(self._turn).submit(store, chatbot=self._chatbot, documents=documents)
        done: Future[list[Outcome]] = Future()
        try:
            done.set_result(store(chatbot=self._chatbot, documents=documents))
        except IntakeFailed as failed:
            done.set_exception(failed)
        return done


def _conversation_ids(batch: Iterable[_Parsed]) -> frozenset[str]:
    documents = (parsed.document for parsed in batch)
    return frozenset([one["id"] for one in documents if not isinstance(one, DocumentInvalid)])


def _finish(under_way: deque[_Stored], summary: Summary, on_refused: Callable[[Refusal], None]) -> int:
    """Wait for the batch that was begun first, count it, and return how many lines it had."""
    try:
        outcomes = under_way[0].outcomes.result()
    except Exception:
        under_way.popleft()
        raise
    batch = under_way.popleft().batch
    for parsed, outcome in zip(batch, outcomes, strict=True):
        _count(summary, outcome.outcome)
        summary.messages += outcome.messages
        if outcome.outcome is Result.REFUSED:
            summary.refused_by_code.update({error.code for error in outcome.errors})
            on_refused(Refusal(parsed.line, outcome.errors))
    return len(batch)


def _count(summary: Summary, result: Result) -> None:
    match result:
        case Result.CREATED:
            summary.created += 1
        case Result.UPDATED:
            summary.updated += 1
        case Result.UNCHANGED:
            summary.unchanged += 1
        case Result.REFUSED:
            summary.refused += 1


def _batches(lines: Iterable[Line]) -> Iterator[Sequence[_Parsed]]:
    """Parse lines and yield them in batches, bounded by number and by bytes; also the last, incomplete one
    before a source that breaks off raises."""
    batch: list[_Parsed] = []
    size = 0
    try:
        for line in lines:
            batch.append(_Parsed(line.number, _parse(line.raw)))
            size += len(line.raw or b"")
            if len(batch) == BATCH_DOCUMENTS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    except SourceUnreadable:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _parse(raw: bytes | None) -> Document | DocumentInvalid:
    if raw is None:
        return DocumentInvalid((error_at((), "too_long", "The line is longer than a document may be."),))
    try:
        return parse_document(raw)
    except DocumentInvalid as invalid:
        return invalid
