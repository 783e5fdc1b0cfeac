"""The servers of the clients: a receiver of callbacks, and a resolver that knows whose session it is.

Both can be told to misbehave. What they receive is verified here, without the service's code.
"""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

from tests.oracle.violations import Violations
from tests.oracle.words import found_in
from tests.receivers import Received

WELL = "well"
_SIGNING = {"webhook-id", "webhook-timestamp", "webhook-signature"}
# For longer than anybody waits.
_SECONDS = 20
_LIES: tuple[bytes, ...] = (
    b'{"value": 42}',
    b"no JSON",
    b'{"other": "x"}',
    b'{"value": "null"}',
    b'{"value": ""}',
    b"[]",
)


def is_genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Verify a call that may lack what signs it."""
    named = {name.lower(): value for name, value in headers.items()}
    return named.keys() >= _SIGNING and Received("", named, body).is_webhook_of(secret)


class Receivers:
    """What both servers know. Callbacks come to `/hook/<chatbot>`, look-ups to `/who/<chatbot>`."""

    def __init__(self, violations: Violations, *, seed: int) -> None:
        self.port = 0
        # How a server is: WELL, or `errors`, `silent`, `drips`, and of the resolver `lies`.
        self.mood = WELL
        self.resolver_mood = WELL
        self.over = threading.Event()
        self.secrets: dict[str, str] = {}
        # By a session: its value.
        self.sessions: dict[str, str] = {}
        # By a session: how often it was answered with its value, and whether it was ever lied to.
        self.told: Counter[str] = Counter()
        self.lied_to: set[str] = set()
        # By a request: the ids of the callbacks of each event that were taken.
        self.taken: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.callbacks = 0
        self.doubled = 0
        self.not_taken = 0
        self.lookups = 0
        self._lock = threading.Lock()
        self._chance = Random(seed)
        self._violations = violations

    def url(self, what: str, bot: str) -> str:
        return f"http://127.0.0.1:{self.port}/{what}/{bot}"

    def verify(self, what: str, bot: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any] | None:
        """Return what came, or None where it is not from the service."""
        if not is_genuine(self.secrets.get(bot, ""), headers, body):
            self._violations.add("forged call", f"a call of {what} of {bot} is not signed with its secret")
            return None
        # A cluster whose clock is wrong sends the time that it has.
        is_excused = "clock" in self._violations.outages.present
        if abs(time.time() - int(headers["webhook-timestamp"])) > 300 and not is_excused:
            self._violations.add("forged call", f"a call of {what} of {bot} has a timestamp of another time")
        found: dict[str, Any] = json.loads(body)
        return found

    def take(self, bot: str, callback: Mapping[str, Any], *, was_taken: bool) -> None:
        if callback["chatbot"] != bot or callback["event"] != f"request.{callback['status']}":
            self._violations.add("wrong callback", f"{callback['event']} of {callback['chatbot']} came to {bot}")
        with self._lock:
            self.callbacks += 1
            if not was_taken:
                self.not_taken += 1
                return
            ids = self.taken[str(callback["request_id"])][str(callback["event"])]
            self.doubled += callback["callback_id"] in ids
            ids.add(str(callback["callback_id"]))

    def answer(self, asked: Mapping[str, Any], mood: str) -> bytes:
        """Return what a resolver answers."""
        session = str(asked["variables"]["session"])
        with self._lock:
            self.lookups += 1
            if mood == "lies":
                self.lied_to.add(session)
                return self._chance.choice(_LIES)
            self.told[session] += 1
            return json.dumps({"value": self.sessions.get(session)}).encode()


@contextmanager
def receiving(violations: Violations, *, seed: int) -> Iterator[Receivers]:
    """Run both on one port of this machine."""
    receivers = Receivers(violations, seed=seed)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            _, what, bot = self.path.split("/")
            mood = receivers.mood if what == "hook" else receivers.resolver_mood
            found = receivers.verify(what, bot, dict(self.headers.items()), body)
            if found is None:
                self.send_error(401)
                return
            answer = b"thank you"
            is_taken = mood in {WELL, "lies"}
            if what == "hook":
                if found_in(body.decode()):
                    violations.add("personal in a callback", f"a callback of {bot} has a planted word")
                receivers.take(bot, found, was_taken=is_taken)
            elif is_taken:
                answer = receivers.answer(found, mood)
            _respond(self, receivers, mood, answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its own name
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore connections that the other side has closed."""

    with Server(("127.0.0.1", 0), Handler) as server:
        receivers.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield receivers
        finally:
            receivers.over.set()
            server.shutdown()
            thread.join()


def _respond(handler: BaseHTTPRequestHandler, receivers: Receivers, mood: str, answer: bytes) -> None:
    if mood == "silent":
        receivers.over.wait(_SECONDS)
        return
    if mood == "drips":
        # A head that never ends, byte by byte.
        end = time.monotonic() + _SECONDS
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while time.monotonic() < end and not receivers.over.wait(0.05):
            handler.wfile.write(b"a")
        return
    handler.send_response(500 if mood == "errors" else 200)
    handler.send_header("Content-Length", str(len(answer)))
    handler.end_headers()
    handler.wfile.write(answer)
