"""Parses requests, strictly enough for a server behind a proxy.

Anything that waitress accepts and a proxy could read differently is refused: a length beside chunks, folded headers,
malformed chunk sizes, a target that is no plain path.
"""

import io
import re
from typing import Any, NoReturn

from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

from config.web.limits import SMALL_BODY_BYTES

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t -~]{0,256})?\r\n")
_MOST_CHUNK_LINE = 300
_CODING = re.compile(rb"\r\ntransfer-encoding:([^\r]*)", re.IGNORECASE)
# The path must be what a proxy's rules see: no other form of target, no needless escape.
_PLAIN_TARGET = re.compile(r"/(?!/)[^#]*")
_NEEDLESS_ESCAPE = re.compile(r"[^?]*%(2[def]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.IGNORECASE)
_FOLDED = re.compile(rb"\r\n[ \t]")
_MOST_TRAILER = 4 * 1024
_MOST_FIELDS = 100


class Withheld(io.RawIOBase):
    """Stands in for a body that was not read, or is malformed."""

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: object) -> NoReturn:
        raise OSError("The body was not read.")


class Chunks:
    """A receiver of waitress for chunked bodies: `received` returns how many bytes belong to the body."""

    def __init__(self, buffer: OverflowableBuffer) -> None:
        self.buf = buffer
        self.completed = False
        self.error: BadRequest | None = None
        self._line = b""
        self._left = 0
        self._awaited = self._size

    def __len__(self) -> int:
        return len(self.buf)

    def received(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not (self.completed or self.error):
            if self._left:
                piece = data[at : at + self._left]
                self.buf.append(piece)
                self._left -= len(piece)
                at += len(piece)
            else:
                end = data.find(b"\n", at) + 1 or len(data)
                self._line += data[at:end]
                at = end
                if self._line.endswith(b"\n"):
                    line, self._line = self._line, b""
                    self._awaited(line)
                elif len(self._line) > _MOST_TRAILER:
                    self._fail()
        return at

    def getfile(self) -> Any:
        return self.buf.getfile()

    def getbuf(self) -> OverflowableBuffer:
        return self.buf

    def _size(self, line: bytes) -> None:
        found = _CHUNK.fullmatch(line) if len(line) <= _MOST_CHUNK_LINE else None
        if found is None:
            self._fail()
        else:
            self._left = int(found[1], 16)
            self._awaited = self._end_of_chunk if self._left else self._end

    def _end_of_chunk(self, line: bytes) -> None:
        self._awaited = self._size
        if line != b"\r\n":
            self._fail()

    def _end(self, line: bytes) -> None:
        # Trailers are ignored, and limited in length.
        if line == b"\r\n":
            self.completed = True
        elif not line.endswith(b"\r\n"):
            self._fail()

    def _fail(self) -> None:
        self.error = BadRequest("The chunks are malformed.")


class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """An incoming request. A body that is too long is not read: the application refuses it by its length.

    `needs_limit` is true if the body exceeds SMALL_BODY_BYTES and the application has not set a limit (`grant`).
    """

    # waitress' own.
    headers: dict[str, str]
    content_length: int
    request_uri: str
    body_bytes_received: int
    body_rcv: Any
    completed: bool
    expect_continue: bool
    error: Any
    path = ""  # waitress logs it, also of a request that was refused unread

    def __init__(self, adj: Adjustments, *, is_excess: bool = False) -> None:
        super().__init__(adj)
        self._is_excess = is_excess
        self.most: int | None = None
        self.is_withheld = False
        self.continues_later = False

    @property
    def needs_limit(self) -> bool:
        return self.most is None and not self.completed and self._length() > SMALL_BODY_BYTES

    def received(self, data: bytes) -> int:
        if self._is_excess:
            # Not parsed: this thread serves all connections.
            self.version, self.completed = "1.1", True
            self.error = BadRequest("Too many requests came at once.")
            return len(data)
        consumed: int = super().received(data)
        if isinstance(self.body_rcv, Chunks) and self.body_rcv.error:
            # The application answers, in the format of its errors.
            self.error = None
            self.withhold()
        if self.needs_limit and self.expect_continue:
            self.expect_continue, self.continues_later = False, True
        self._refuse_too_long()
        # The rest cannot be distinguished from a following request.
        return len(data) if self.is_withheld or self.error else consumed

    def grant(self, most: int) -> None:
        """Set the limit of the body, and withhold it if it is, or declares to be, longer."""
        self.most = most
        self._refuse_too_long()

    def withhold(self) -> None:
        """Pass the request on without its body. The connection closes after the response."""
        self.is_withheld = self.completed = True
        self.expect_continue = False
        super().close()

    def get_body_stream(self) -> Any:
        return Withheld() if self.is_withheld else super().get_body_stream()

    def parse_header(self, header_plus: bytes) -> None:
        if _FOLDED.search(header_plus):
            raise ParsingError("Folded headers are not supported.")
        if header_plus.count(b"\r\n") > _MOST_FIELDS + 2:
            raise ParsingError("There are too many headers.")
        codings = [value.strip(b" \t").lower() for value in _CODING.findall(header_plus)]
        try:
            super().parse_header(header_plus)
        except ValueError:
            raise ParsingError("The headers are malformed.") from None
        if codings and (codings != [b"chunked"] or "CONTENT_LENGTH" in self.headers or self.version != "1.1"):
            raise ParsingError("A chunked body has no Content-Length and no other coding, and needs HTTP/1.1.")
        if self.version not in {"1.0", "1.1"}:
            raise ParsingError("This version of HTTP is not supported.")
        if "," in self.headers.get("HOST", ""):
            raise ParsingError("There is more than one Host.")
        if not _PLAIN_TARGET.fullmatch(self.request_uri) or _NEEDLESS_ESCAPE.match(self.request_uri):
            raise ParsingError("The target must be a path with one leading slash and no needless escapes.")
        if isinstance(self.body_rcv, ChunkedReceiver):
            self.body_rcv = Chunks(self.body_rcv.getbuf())

    def _length(self) -> int:
        if self.body_rcv is None:
            return 0
        # Including the framing of chunks.
        return max(self.content_length, self.body_bytes_received)

    def _refuse_too_long(self) -> None:
        if self.most is None or self.is_withheld or self.error or self.body_rcv is None:
            return
        length = max(self.content_length, len(self.body_rcv))
        if length > self.most or self.body_bytes_received > 2 * self.most + SMALL_BODY_BYTES:
            self.headers["CONTENT_LENGTH"] = str(max(length, self.most + 1))
            self.withhold()
