"""The servers of the clients: a receiver of callbacks, and a resolver that identifies the chatter of a session.

Both can be made to misbehave. They verify calls without the service's code.
"""

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from random import Random
from typing import Any

from tests import receivers
from tests.oracle.violations import Violations
from tests.oracle.words import found_in
from tests.receivers import Received

WELL = "well"
_SIGNING = {"webhook-id", "webhook-timestamp", "webhook-signature"}
# Longer than any caller waits.
_SECONDS = 20
_LIES = (b'{"value": 42}', b"no JSON", b'{"other": "x"}', b'{"value": "null"}', b'{"value": ""}', b"[]")


class Receivers:
    """The state of both servers. Callbacks come to `/hook/<chatbot>`, look-ups to `/who/<chatbot>`.

    `mood` is the behaviour of a server, by kind of call: WELL, or `errors`, `silent`, `drips`, and of the resolver
    `lies`.
    """

    def __init__(self, violations: Violations, *, seed: int) -> None:
        self.port = 0
        self.mood = {"hook": WELL, "who": WELL}
        self.over = threading.Event()
        self.secrets: dict[str, str] = {}
        # By a session: its value; how often it was answered with that; whether it was ever lied to.
        self.sessions: dict[str, str] = {}
        self.told: Counter[str] = Counter()
        self.lied_to: set[str] = set()
        # By a request: the ids of the callbacks of each event that were taken.
        self.taken: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.counts: Counter[str] = Counter({"received": 0, "doubled": 0, "not taken": 0, "lookups": 0})
        self._lock = threading.Lock()
        self._chance = Random(seed)
        self._violations = violations

    def url(self, what: str, bot: str) -> str:
        return f"http://127.0.0.1:{self.port}/{what}/{bot}"

    def handle(self, received: Received, handler: BaseHTTPRequestHandler) -> None:
        """Verify a call, record it, and answer by the mood."""
        _, what, bot = received.path.split("/")
        mood = self.mood[what]
        found = self._verified(what, bot, received)
        if found is None:
            handler.send_error(401)
            return
        answer = self._take(bot, found, mood) if what == "hook" else self._answer(found, mood)
        if mood == "silent":
            self.over.wait(_SECONDS)
            return
        if mood == "drips":
            # A head that never ends, byte by byte.
            end = time.monotonic() + _SECONDS
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while time.monotonic() < end and not self.over.wait(0.05):
                handler.wfile.write(b"a")
            return
        handler.send_response(500 if mood == "errors" else 200)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _verified(self, what: str, bot: str, received: Received) -> dict[str, Any] | None:
        """Return the body of a call, or None if it is not from the service."""
        headers = {name.lower(): value for name, value in received.headers.items()}
        genuine = Received(received.path, headers, received.body)
        if not (headers.keys() >= _SIGNING and genuine.is_webhook_of(self.secrets.get(bot, ""))):
            self._violations.add("forged call", f"a call of {what} of {bot} is not signed with its secret")
            return None
        # A cluster with a wrong clock sends a wrong time.
        is_excused = "clock" in self._violations.outages.present
        if abs(time.time() - int(headers["webhook-timestamp"])) > 300 and not is_excused:
            self._violations.add("forged call", f"a call of {what} of {bot} has a timestamp of another time")
        return received.payload

    def _take(self, bot: str, callback: dict[str, Any], mood: str) -> bytes:
        if found_in(json.dumps(callback)):
            self._violations.add("personal in a callback", f"a callback of {bot} has a planted word")
        if callback["chatbot"] != bot or callback["event"] != f"request.{callback['status']}":
            self._violations.add("wrong callback", f"{callback['event']} of {callback['chatbot']} came to {bot}")
        with self._lock:
            self.counts["received"] += 1
            self.counts["not taken"] += mood != WELL
            if mood == WELL:
                ids = self.taken[str(callback["request_id"])][str(callback["event"])]
                self.counts["doubled"] += callback["callback_id"] in ids
                ids.add(str(callback["callback_id"]))
        return b"thank you"

    def _answer(self, asked: dict[str, Any], mood: str) -> bytes:
        session = str(asked["variables"]["session"])
        with self._lock:
            self.counts["lookups"] += 1
            if mood == "lies":
                self.lied_to.add(session)
                return self._chance.choice(_LIES)
            if mood == WELL:
                self.told[session] += 1
            return json.dumps({"value": self.sessions.get(session)}).encode()


@contextmanager
def receiving(violations: Violations, *, seed: int) -> Iterator[Receivers]:
    both = Receivers(violations, seed=seed)
    with receivers.receiving(handle=both.handle) as server:
        both.port = server.port
        try:
            yield both
        finally:
            both.over.set()
