"""Calls of one chatbot's program: repeated until it is known what became of them, noted where they are refused."""

import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from tests.oracle.http import Answer, Client, NoAnswer
from tests.oracle.model import now
from tests.oracle.violations import Violations

# What a service says that cannot serve a call for now: after a fault, or where the bot makes too many long ones.
_TOO_MANY = 429
_FOR_NOW = {503, _TOO_MANY}
# For so long a call may have no answer that says what became of it, beside the time of faults; and so long after a
# fault no call may have none at all.
_PATIENCE, _CALM = 60.0, 90.0


class Silent(Exception):
    """A call has had no answer that says what became of it, for longer than any fault explains."""


class Traffic:
    """Counts calls and their answers, from all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    def note(self, what: str, answer: str) -> None:
        with self._lock:
            self.calls[what] += 1
            self.answers[answer] += 1


class Caller:
    """A refusal that the present fault excuses is repeated. Any other that `ok` does not name is a violation.

    `longest_pause` are the seconds between two attempts.
    """

    def __init__(
        self, client: Client, violations: Violations, traffic: Traffic, *, longest_pause: float = 2.0
    ) -> None:
        self.client = client
        self.bot = client.slug
        self._violations = violations
        self._traffic = traffic
        self._longest_pause = longest_pause

    def get(self, what: str, path: str, *, ok: Collection[int] = (200,)) -> Answer:
        return self._surely(what, ok, lambda: self.client.get(path))

    def post(self, what: str, path: str, body: Any, *, ok: Collection[int] = (200,)) -> Answer:
        """Call with a token what may be repeated as it is."""
        return self._surely(what, ok, lambda: self.client.post(path, body))

    def lines(self, what: str, path: str, documents: Collection[Mapping[str, Any]]) -> Answer:
        """Send documents a line each."""
        raw = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents).encode()
        headers = {"Content-Type": "application/x-ndjson"}
        return self._surely(what, (200,), lambda: self.client.call("POST", path, raw, headers))

    def file(
        self, what: str, path: str, body: Mapping[str, Any], key: str, *, ok: Collection[int] = (200,)
    ) -> Answer:
        """File with a signature, each time anew, and always with the same key."""
        return self._surely(what, ok, lambda: self.client.file(path, body, key=key))

    def batch(self, what: str, requests: Collection[Mapping[str, Any]], key: str) -> Answer:
        return self._surely(
            what, (200,), lambda: self.client.post("requests/batch", {"requests": list(requests)}, key=key)
        )

    def upload(self, number: int, name: str, content: bytes) -> Answer | None:
        """Send a file once. Return None where it is unknown whether it was stored."""
        try:
            answer = self.client.upload(number, name, content)
        except NoAnswer as error:
            self._traffic.note("upload", str(error))
            return None
        self._traffic.note("upload", f"{answer.status} {_code(answer)}".strip())
        if answer.status == 500:
            self._refused("upload", answer)
            return None
        if answer.status not in {201, 404, 410, *_FOR_NOW}:
            self._refused("upload", answer)
        return answer

    def _surely(self, what: str, ok: Collection[int], call: Callable[[], Answer]) -> Answer:
        asked = now()
        pause = 0.1
        while True:
            answer = None
            try:
                answer = call()
                said = f"{answer.status} {_code(answer)}".strip()
            except NoAnswer as error:
                said = str(error)
            self._traffic.note(what, said)
            if answer is not None:
                if answer.status in ok:
                    return answer
                if answer.status == 500:
                    self._refused(what, answer)
                elif answer.status not in _FOR_NOW and _code(answer) not in self._violations.outages.excuses:
                    self._refused(what, answer)
                    return answer
            self._has_reason(what, said, asked)
            time.sleep(pause)
            pause = min(pause * 1.5, self._longest_pause)

    def _has_reason(self, what: str, said: str, asked: datetime) -> None:
        """Look whether faults explain that a call must be repeated. Raises Silent where it need not be any more."""
        outages = self._violations.outages
        if not said.startswith(str(_TOO_MANY)) and not outages.lately(_CALM):
            told = f"{what} of {self.bot} was answered with {said}, and the last fault was over {_CALM:.0f} s ago"
            self._violations.add("no answer", told)
        if (now() - asked).total_seconds() - outages.within(asked, now()) > _PATIENCE:
            told = f"{what} of {self.bot} had no answer for {_PATIENCE:.0f} s for which there is no fault"
            self._violations.add("no answer", told)
            raise Silent(what)

    def _refused(self, what: str, answer: Answer) -> None:
        faults = [f"{fault.get('pointer')} {fault.get('code')}" for fault in (answer.body or {}).get("errors", [])]
        trace = answer.headers.get("x-trace-id", "")
        told = f"{what} of {self.bot} was answered with {answer.status} {_code(answer)} {faults} (call {trace})"
        self._violations.add("wrong answer", told)


def new_key() -> str:
    return secrets.token_hex(12)


def _code(answer: Answer) -> str:
    return str(answer.body.get("code", "")) if isinstance(answer.body, dict) else ""
