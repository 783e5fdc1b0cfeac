"""Import a file of conversation documents, one JSON document per line: read, parse, store, count.

Two batches are stored at a time, each by a thread and a connection of its own, while the next is parsed. While one
waits for PostgreSQL, another uses the interpreter. Batches that share a conversation are stored one after the other,
so its documents keep the order of the file. Memory stays at three batches, whatever the size of the file.

A refused line is reported by its number, pointers and codes, never by its content.
"""

import gzip
import sys
import zlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader, RawIOBase
from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from django.db import connection, connections

from chatbots.models import Chatbot
from common.problems import FieldError, error_at
from conversations.documents import Document, DocumentInvalid, document_or_errors
from conversations.intake import DocumentOutcome, IntakeFailed, StoreResult, store

BATCH_DOCUMENTS = 500
BATCH_BYTES = 16 * 1024 * 1024
# A third writer would mostly wait for the interpreter, which parsing and two writers occupy.
CONNECTIONS = 2

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SourceUnreadable(Exception):
    """The file cannot be opened, or breaks off. The lines before that are stored."""


class ImportLine(NamedTuple):
    """A line and its number, from 1. `raw` is None if the line is too long."""

    number: int
    raw: bytes | None


class RefusedLine(NamedTuple):
    number: int
    errors: tuple[FieldError, ...]


OnRefused = Callable[[RefusedLine], None]


class _ParsedLine(NamedTuple):
    number: int
    document: Document | DocumentInvalid


@dataclass
class ImportSummary:
    outcomes: Counter[DocumentOutcome] = field(default_factory=Counter)
    messages: int = 0
    refused_by_code: Counter[str] = field(default_factory=Counter)

    def count(self, result: StoreResult) -> None:
        self.outcomes[result.outcome] += 1
        self.messages += result.messages
        self.refused_by_code.update({error.code for error in result.errors})


class _Resumed(RawIOBase):
    """A stream from its start, after `begin` was read. Peeking is not enough: a pipe may deliver only one byte."""

    def __init__(self, begin: bytes, rest: BufferedReader) -> None:
        self._begin, self._rest = begin, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._begin:
            return self._rest.readinto1(buffer)
        size = min(len(buffer), len(self._begin))
        buffer[:size], self._begin = self._begin[:size], self._begin[size:]
        return size


@contextmanager
def open_source(path: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for "-", and decompress gzip. Raises SourceUnreadable."""
    try:
        raw = cast("BufferedReader", sys.stdin.buffer) if path == "-" else Path(path).open("rb")  # noqa: SIM115
        begin = raw.read(len(_GZIP_MAGIC))
    except OSError as error:
        raise SourceUnreadable(f"The file cannot be read: {error.strerror}.") from None
    whole = BufferedReader(_Resumed(begin, raw))
    try:
        yield cast("BinaryIO", gzip.GzipFile(fileobj=whole)) if begin == _GZIP_MAGIC else whole
    finally:
        if path != "-":
            raw.close()


def read_lines(source: BinaryIO, *, limit: int) -> Iterator[ImportLine]:
    """Yield the lines that are not empty, reading at most `limit` bytes of each. Raises SourceUnreadable."""
    number = 0
    try:
        # The byte-order mark does not count.
        while raw := source.readline(limit + 1 + (0 if number else len(_BYTE_ORDER_MARK))):
            number += 1
            if number == 1:
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            if len(raw) > limit + raw.endswith(b"\n"):
                while raw and not raw.endswith(b"\n"):
                    raw = source.readline(limit)
                yield ImportLine(number, None)
            elif raw.strip():
                yield ImportLine(number, raw)
    except (OSError, EOFError, zlib.error):
        # An OSError of gzip or of the disk: the line number is more useful than its text.
        raise SourceUnreadable(f"The file breaks off after line {number}: damaged or cut short.") from None


def import_lines(
    *, chatbot: Chatbot, lines: Iterable[ImportLine], summary: ImportSummary, on_refused: OnRefused
) -> Generator[int, None, None]:
    """Store the lines in batches; after each committed batch, yield its number of lines.

    Counts into `summary`, which is also correct after an error, and once the generator is closed. Safe to run again
    from the start: documents that are already stored are `unchanged`. Raises SourceUnreadable and IntakeFailed; the
    batch after a failed one may be stored.

    Inside a transaction, all batches are stored through its connection, one at a time.
    """
    limit = 1 if connection.in_atomic_block else CONNECTIONS
    with _threads(limit if limit > 1 else 0) as threads:
        submit = cycle([thread.submit for thread in threads] or [_run_here])
        running: deque[_RunningBatch] = deque()
        try:
            for batch in _batches(lines):
                documents = [line.document for line in batch]
                ids = frozenset([one["id"] for one in documents if not isinstance(one, DocumentInvalid)])
                while len(running) == limit or any(not ids.isdisjoint(one.ids) for one in running):
                    yield _finish(running, summary, on_refused)
                # The client's sessions of imported conversations are over, so nothing is looked up.
                stored = next(submit)(store, chatbot=chatbot, documents=documents, look_up=False)
                running.append(_RunningBatch(batch, ids, stored))
            while running:
                yield _finish(running, summary, on_refused)
        finally:
            # A batch that has begun will be stored, whatever ends the import: it counts.
            while running:
                with suppress(Exception):  # the first error is being raised already
                    _finish(running, summary, on_refused)


class _RunningBatch(NamedTuple):
    lines: Sequence[_ParsedLine]
    ids: frozenset[str]
    results: "Future[list[StoreResult]]"


@contextmanager
def _threads(number: int) -> Iterator[list[ThreadPoolExecutor]]:
    # One executor per thread, so that each can be asked to close its connection.
    threads = [ThreadPoolExecutor(1) for _ in range(number)]
    try:
        yield threads
    finally:
        for thread in threads:
            thread.submit(connections.close_all)
            thread.shutdown()


def _run_here(function: Callable[..., list[StoreResult]], /, **options: object) -> "Future[list[StoreResult]]":
    done: Future[list[StoreResult]] = Future()
    try:
        done.set_result(function(**options))
    except IntakeFailed as failed:
        done.set_exception(failed)
    return done


def _finish(running: deque[_RunningBatch], summary: ImportSummary, on_refused: OnRefused) -> int:
    """Wait for the oldest running batch, count it, and return its number of lines."""
    try:
        results = running[0].results.result()
    finally:
        lines = running.popleft().lines
    for line, result in zip(lines, results, strict=True):
        summary.count(result)
        if result.outcome is DocumentOutcome.REFUSED:
            on_refused(RefusedLine(line.number, result.errors))
    return len(lines)


def _batches(lines: Iterable[ImportLine]) -> Iterator[Sequence[_ParsedLine]]:
    """Parse lines and yield them in batches, bounded by number and by bytes.

    If the source breaks off, the last incomplete batch is yielded before the error is raised.
    """
    batch: list[_ParsedLine] = []
    size = 0
    try:
        for line in lines:
            batch.append(_ParsedLine(line.number, _parse(line.raw)))
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
    return document_or_errors(raw)
