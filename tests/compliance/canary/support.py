"""What tests of the canary share."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

from compliance.canary.api import Sighting


def collect(sightings: Iterable[Sighting], places: list[str]) -> None:
    """Add where something is to `places`, also if the search ends with an error."""
    for one in sightings:
        places.append(one.where)  # noqa: PERF401  (what came before an error counts)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve with the handler, and yield the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Service(BaseHTTPRequestHandler):
    """Answers calls by the last part of their path, and refuses those without an answer."""

    address: ClassVar[str]
    answers: ClassVar[dict[str, object]]
    idempotency_keys: ClassVar[list[str]]

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        if key := self.headers.get("Idempotency-Key"):
            self.idempotency_keys.append(key)
        self.send_response(200 if name in self.answers else 403)
        self.end_headers()
        self.wfile.write(json.dumps(self.answers.get(name)).encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
