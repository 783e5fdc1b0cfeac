"""Connections: slow clients are disconnected, refused ones can read the response."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer, UnixWSGIServer
from waitress.task import WSGITask

from config.web import limits
from config.web.parsing import Parser

_GRACE = {
    "idle": limits.IDLE_SECONDS,
    "head": limits.HEAD_SECONDS,
    "body": limits.BODY_SECONDS,
    "answer": limits.BODY_SECONDS,
    "linger": limits.LINGER_SECONDS,
}


class Task(WSGITask):  # type: ignore[misc]  # waitress has no types
    def build_response_header(self) -> bytes:
        if self.request.is_withheld or self.channel.server.is_stopping:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class _AskBodyLimit:
    """Asks the application, in one of its threads, how many bytes of a body to read."""

    def __init__(self, channel: "Connection") -> None:
        self._channel = channel

    def service(self) -> None:
        channel = self._channel
        environ = Task(channel, channel.request).get_environment()
        most = limits.SMALL_BODY_BYTES
        try:
            most = channel.server.most_body_bytes(environ)
        finally:
            channel.server.trigger.pull_trigger(lambda: channel.grant(most))

    def cancel(self) -> None:
        self._channel.cancel()


class Connection(HTTPChannel):  # type: ignore[misc]  # as above
    task_class = Task
    # waitress' own.
    request: Any
    requests: list[Any]
    connected: bool
    last_activity: float
    outbufs: list[Any]
    total_outbufs_len: int
    close_when_flushed: bool
    will_close: bool

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:  # noqa: A002
        self._served = 0
        self._moved = 0
        self._asks_limit = False
        self._leaves_unread = self._lingers = False
        self._doing: tuple[str, int] = ("head", 0)
        self._since, self._moved_before = time.monotonic(), 0
        super().__init__(server, sock, addr, adj, map=map)

    def is_late(self, now: float) -> bool:
        """Return whether the client has exceeded its time. To be called once a second."""
        doing = (self._activity(), self._served)
        if doing != self._doing:
            self._doing, self._since, self._moved_before = doing, now, self._moved
        if doing[0] not in _GRACE:
            return False
        seconds: float = _GRACE[doing[0]]
        if doing[0] in {"body", "answer"}:
            seconds += (self._moved - self._moved_before) / limits.SLOWEST_BYTES
        return now - self._since > seconds

    def closable_since(self) -> tuple[bool, float] | None:
        """Return (is it receiving a response, since when), for choosing which to close; None while being served."""
        activity = self._activity()
        return None if activity == "served" else (activity == "answer", self._since)

    def is_at_rest(self) -> bool:
        """Return whether no request has begun and no response is being sent."""
        return self.request is None and self._activity() in {"idle", "head", "linger"}

    def _activity(self) -> str:
        if self._lingers:
            return "linger"
        if self.requests or self._asks_limit:
            return "served"
        if self.total_outbufs_len or self.close_when_flushed:
            return "answer"
        if self.request is not None:
            return "body" if self.request.headers_finished else "head"
        return "idle" if self._served else "head"

    def unread_in_memory(self) -> int:
        """Return how many bytes of unread responses are in memory."""
        buffers = [each for each in list(self.outbufs) if isinstance(each, OverflowableBuffer)]
        return sum(len(each) for each in buffers if not each.overflowed)

    def cut_off(self) -> None:
        """Close it, from any thread, and free its unread responses at once."""
        self.will_close, self.connected = True, False
        self.outbufs, self.total_outbufs_len = [OverflowableBuffer(0)], 0
        self.server.pull_trigger()

    # --- waitress' interface of a channel

    def parser_class(self, adj: Any) -> Parser:
        return Parser(adj, is_excess=len(self.requests) >= limits.AT_ONCE)

    def write_soon(self, data: Any) -> int:
        taken: int = super().write_soon(data)
        if self.total_outbufs_len > limits.SMALL_BODY_BYTES:
            self.server.bound_memory()
        return taken

    def readable(self) -> bool:
        if self._lingers:
            return True
        return not self._asks_limit and bool(super().readable())

    def recv(self, size: int) -> bytes:
        data: bytes = super().recv(size)
        self._moved += len(data)
        return data

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close=do_close)
        self._moved += sent
        return sent

    def received(self, data: bytes) -> bool:
        if self._lingers:
            return False
        taken = bool(super().received(data))
        if self.request is not None and self.request.needs_limit and not self._asks_limit:
            self._asks_limit = True
            self.server.add_task(_AskBodyLimit(self))
        return taken

    def grant(self, most: int) -> None:
        """Continue with a body of at most `most` bytes."""
        self._asks_limit = False
        request = self.request
        if request is None or not self.connected:
            return
        request.grant(most)
        if request.completed:
            with self.requests_lock:
                self.request = None
                self.requests.append(request)
                if len(self.requests) == 1:
                    self.server.add_task(self)
        elif request.continues_later:
            request.continues_later = False
            with self.requests_lock:
                # With an earlier response pending, `service` sends it afterwards.
                request.expect_continue = bool(self.requests)
                if not self.requests:
                    self.send_continue()

    def service(self) -> None:
        self._served += 1
        self.server.count_request()
        request = self.requests[0]
        # A client that is still sending would see a broken connection instead of the response.
        self._leaves_unread = bool(request.is_withheld or request.error)
        super().service()

    def handle_write(self) -> None:
        if self._leaves_unread and self.close_when_flushed and not self.will_close:
            self._flush_exception(self._flush_some)
            if not self.total_outbufs_len and self.connected:
                self._lingers, self.close_when_flushed = True, False
                with suppress(OSError):
                    self.socket.shutdown(socket.SHUT_WR)
            if not self.will_close:
                return
        super().handle_write()

    def _flush_outbufs_below_high_watermark(self) -> None:
        # waitress would block the thread until the client reads.
        if self.total_outbufs_len > limits.UNREAD_BYTES:
            self.cut_off()


class _Server:
    """Additions to waitress' servers for both socket families."""

    channel_class = Connection
    active_channels: dict[int, Connection]
    is_stopping = False
    most_body_bytes: Callable[[dict[str, Any]], int]
    count_request: Callable[[], None]

    def maintenance(self, _now: float) -> None:
        """Close late connections."""
        now = time.monotonic()
        for channel in list(self.active_channels.values()):
            if channel.is_late(now):
                channel.will_close = True

    def handle_accept(self) -> None:
        if len(self.active_channels) >= limits.CONNECTIONS:
            self._make_room()
        super().handle_accept()  # type: ignore[misc]  # of waitress' server

    def bound_memory(self) -> None:
        """Close the longest idle connections while all together hold too much, from any thread."""
        callers = [(one, one.unread_in_memory()) for one in list(self.active_channels.values())]
        too_much = sum(unread for _, unread in callers) - limits.UNREAD_BYTES_IN_MEMORY
        if too_much <= 0:
            return
        for one, unread in sorted(callers, key=lambda each: each[0].last_activity):
            if unread:
                one.cut_off()
                too_much -= unread
            if too_much <= 0:
                return

    def _make_room(self) -> None:
        callers = [(since, each) for each in self.active_channels.values() if (since := each.closable_since())]
        if callers:
            min(callers, key=lambda one: one[0])[1].handle_close()


class TcpServer(_Server, TcpWSGIServer):  # type: ignore[misc]  # as above
    pass


class UnixServer(_Server, UnixWSGIServer):  # type: ignore[misc]  # as above
    pass
