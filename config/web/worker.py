"""A gunicorn worker that serves with waitress, and gunicorn's logger with our formatter."""

import os
import resource
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn import glogging
from gunicorn.config import Config
from gunicorn.workers.base import Worker as GunicornWorker
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from common.logs import formatter
from config import env  # noqa: F401  loads `.env`
from config.web import limits
from config.web.connections import TcpServer, UnixServer

_Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

# A connection has a socket, and at worst two files: for a body and a response.
_FILES = 3 * limits.CONNECTIONS + 200


class Worker(GunicornWorker):  # type: ignore[misc]  # gunicorn has no types
    """Uses gunicorn's `threads`, `max_requests`, `graceful_timeout` and `backlog`, and `most_body_bytes(environ)` of
    the application: how many bytes of an unread body to read.
    """

    alive: bool  # gunicorn's own

    def run(self) -> None:
        _allow_open_files(_FILES)
        self._map: dict[int, Any] = {}
        self._threads = ThreadedTaskDispatcher()
        self._threads.set_thread_count(self.cfg.threads)
        self._servers = [self._server(listener.sock) for listener in self.sockets]
        while self.alive:
            self._turn(1)
            if self.ppid != os.getppid():
                self.log.info("The parent process has ended: stopping.")
                break
        self._stop()

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self._wake()

    def count_request(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Reached max_requests: another process takes over.")
            self.alive = False
            self._wake()

    def _server(self, listener: socket.socket) -> TcpServer | UnixServer:
        adjustments = Adjustments(
            threads=self.cfg.threads,
            backlog=self.cfg.backlog,
            ident=None,
            recv_bytes=limits.SMALL_BODY_BYTES,
            inbuf_overflow=limits.SMALL_BODY_BYTES,
            outbuf_overflow=limits.ANSWER_BYTES_IN_MEMORY,
            outbuf_high_watermark=limits.UNREAD_BYTES,
            max_request_header_size=limits.HEAD_BYTES,
            # No limit: the application decides.
            max_request_body_size=2**62,
            connection_limit=2**30,
            cleanup_interval=1,
            log_socket_errors=False,
            # The application decides which proxies to trust.
            clear_untrusted_proxy_headers=False,
        )
        kind = UnixServer if listener.family == socket.AF_UNIX else TcpServer
        server = kind(
            _without_body_for_head(self.wsgi),
            self._map,
            True,
            listener,
            dispatcher=self._threads,
            adj=adjustments,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )
        server.most_body_bytes = self.wsgi.most_body_bytes
        server.count_request = self.count_request
        return server

    def _turn(self, seconds: float) -> None:
        self.notify()
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._map, count=1)

    def _wake(self) -> None:
        for server in getattr(self, "_servers", []):
            server.pull_trigger()

    def _stop(self) -> None:
        """Stop accepting connections, answer requests that have come or come soon, and end the threads."""
        began = time.monotonic()
        for server in self._servers:
            server.is_stopping = True
            server.accepting = False
            server.del_channel()
            server.socket.close()
        while (waited := time.monotonic() - began) < self.cfg.graceful_timeout:
            open_still = [channel for server in self._servers for channel in server.active_channels.values()]
            if waited > limits.STOPPING_SECONDS:
                for channel in open_still:
                    channel.will_close |= channel.is_at_rest()
            if all(channel.will_close for channel in open_still):
                break
            for server in self._servers:
                server.maintenance(time.time())
            self._turn(0.1)
        self._threads.shutdown(timeout=max(0.0, self.cfg.graceful_timeout - (time.monotonic() - began)))
        wasyncore.close_all(self._map, ignore_all=True)


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own tracebacks would quote whole rows."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        # The settings validate it, but gunicorn's parent process never loads them.
        form = os.environ.get("LOG_FORMAT", "line")
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(formatter(form))


def _without_body_for_head(application: _Application) -> _Application:
    """Omit the body for HEAD: waitress leaves that to the application, Django to the server."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = application(environ, start_response)
        if environ["REQUEST_METHOD"] != "HEAD":
            return body
        getattr(body, "close", lambda: None)()
        return []

    return answer


def _allow_open_files(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
