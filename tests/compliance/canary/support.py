"""What tests of the canary share: a service that answers as a test says."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import ClassVar
from uuid import UUID

import pytest

from compliance.canary.client import Client
from compliance.canary.words import Planted
from compliance.canary.work import Work

WORDS = Planted(UUID(int=1))


def places(work: Work) -> list[str]:
    return sorted(where for _, _, where in work.findings)


class Service(BaseHTTPRequestHandler):
    """Answers calls by the last part of their path: with a document, a status, or nothing; refuses any other."""

    address: ClassVar[str]
    answers: ClassVar[dict[str, object]]
    calls: ClassVar[list[tuple[str, str | None]]]
    idempotency_keys: ClassVar[list[str]]
    ended: ClassVar[Event]

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.calls.append((self.path, self.headers.get("Authorization")))
        if key := self.headers.get("Idempotency-Key"):
            self.idempotency_keys.append(key)
        answer = self.answers.get(name, 403)
        if answer is None:
            self.ended.wait(30)
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Location", f"{self.address}/elsewhere")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    @classmethod
    def client(cls) -> Client:
        return Client(cls.address, "canary", "secret", "t")


@contextmanager
def serving() -> Iterator[type[Service]]:
    Service.answers, Service.calls, Service.idempotency_keys, Service.ended = {}, [], [], Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Service.address = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Service
        finally:
            Service.ended.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def service() -> Iterator[type[Service]]:
    with serving() as service:
        yield service
