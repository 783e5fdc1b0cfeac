"""Each operation of the API, once: as a generator that yields calls and pauses, and does no input or output.

`clients` has the two drivers, one that blocks and one for asyncio. Retries, signatures and the reading of answers are
the same in both since they are here.
"""

import json
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar
from urllib.parse import urlsplit

import httpx

from data_compliance_client.errors import APIError, Unreachable
from data_compliance_client.signing import sign

R = TypeVar("R")
T = TypeVar("T")


class Sink(Protocol):
    """Takes the body of an answer as it arrives."""

    def restart(self) -> None:
        """Forget what came: another attempt begins."""

    def write(self, part: bytes, /) -> object:
        """Take the next part."""


@dataclass(frozen=True)
class Call:
    """One attempt of a call."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    sink: Sink | None = None
    """Takes the body of a successful answer, after redirects."""


@dataclass(frozen=True)
class Pause:
    """Wait this many seconds."""

    seconds: float


@dataclass(frozen=True)
class Item(Generic[T]):
    """One element of what the operation iterates over."""

    value: T


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


Outcome: TypeAlias = Answer | httpx.RequestError | None
# The driver sends the outcome of each call in: an answer, or what httpx raised. After anything else it sends None.
Steps: TypeAlias = Generator[Call | Pause, Any, R]
Items: TypeAlias = Generator[Call | Pause | Item[T], Any, None]

_LONGEST_PAUSE = 30.0
# Nothing was sent, so nothing can have been carried out.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# JSON that has another shape, or is none.
_NOT_OURS = (ValueError, LookupError, TypeError, AttributeError)
_LOCAL = {"localhost", "127.0.0.1", "::1"}


class Transport:
    """The address, the keys, and how a call is repeated."""

    def __init__(self, url: str, chatbot: str, *, token: str, signing_secret: str, patience: float) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.scheme not in {"https", "http"}:
            raise ValueError("The address of the service is to be like https://compliance.example.com")
        if parts.scheme == "http" and parts.hostname not in _LOCAL:
            raise ValueError("Without HTTPS anyone on the way could read the data and the key: use https://")
        # A key that was read from a file ends with a line end.
        self.token = token.strip()
        self.signing_secret = signing_secret.strip()
        if not (self.token or self.signing_secret):
            raise ValueError("A token or the secret of a signing key is needed.")
        self.base = f"{url.rstrip('/')}/api/v1/chatbots/{chatbot}/"
        self.patience = patience

    def call(
        self,
        method: str,
        path: str,
        json_body: Any = None,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        idempotency_key: str | None = None,
        is_filing: bool = False,
        can_repeat: bool = True,
        sink: Sink | None = None,
    ) -> Steps[Answer]:
        """Call the API until it answers, and return the answer; `path` is below the chatbot's.

        Without `can_repeat` a call is sent again only if it was not carried out for certain. Raises APIError,
        Unreachable, and ValueError for a call that needs a token where there is none.
        """
        if json_body is not None:
            body = json.dumps(json_body, separators=(",", ":")).encode()
        common = {"Accept": "application/json, */*;q=0.1"}
        if body is not None:
            common["Content-Type"] = content_type
        if idempotency_key is not None:
            common["Idempotency-Key"] = idempotency_key
        until: float | None = None
        attempt = 0
        while True:
            headers = common | self._key(body or b"", is_filing=is_filing)
            outcome = yield Call(method, self.base + path, headers, body, sink)
            error = _error_of(outcome)
            if error is None:
                answer: Answer = outcome
                return answer
            pause = _pause(error, outcome, attempt, can_repeat=can_repeat)
            # Not from the call on: a download that breaks off after an hour is repeated.
            until = time.monotonic() + self.patience if until is None else until
            if pause is None or time.monotonic() + pause > until:
                raise error from None
            yield Pause(pause)
            attempt += 1

    def _key(self, body: bytes, *, is_filing: bool) -> dict[str, str]:
        if is_filing and self.signing_secret:
            # For each attempt anew: a timestamp is valid for 5 minutes.
            timestamp = str(int(time.time()))
            return {
                "X-Mindsay-Timestamp": timestamp,
                "X-Mindsay-Signature": sign(self.signing_secret, timestamp, body),
            }
        if not self.token:
            raise ValueError("This call needs a token: a signing secret is for deletions, exports and batches alone.")
        return {"Authorization": f"Bearer {self.token}"}


def read(answer: Answer, of: Callable[[Any], T]) -> T:
    """Return what `of` makes of the JSON of an answer. Raises Unreachable if it is none, or not the service's."""
    try:
        return of(json.loads(answer.body))
    except _NOT_OURS:
        raise Unreachable("something answered that is not the service") from None


def _error_of(outcome: Answer | httpx.RequestError) -> APIError | Unreachable | None:
    """Return what went wrong with an attempt; None if nothing did."""
    if isinstance(outcome, httpx.RequestError):
        # Not its text, and not as a cause: a request of httpx holds the address, of a download with the value.
        return Unreachable(type(outcome).__name__)
    if outcome.status < 400:
        return None
    try:
        problem = json.loads(outcome.body)
        return APIError.of({**problem, "code": str(problem["code"])}, retry_after=_seconds(outcome.headers))
    except _NOT_OURS:
        return Unreachable(f"HTTP status {outcome.status} without a problem")


def _seconds(headers: Mapping[str, str]) -> float | None:
    header = headers.get("retry-after", "")
    return float(header) if header.isdecimal() else None


def _pause(
    error: APIError | Unreachable, outcome: Answer | httpx.RequestError, attempt: int, *, can_repeat: bool
) -> float | None:
    """Return the seconds until the next attempt; None if another one does not help, or could do something twice."""
    if isinstance(outcome, httpx.RequestError):
        may_repeat = can_repeat or isinstance(outcome, _NOT_SENT)
    elif isinstance(error, APIError) and error.code == "restored_database":
        # A person has to act first.
        may_repeat = False
    else:
        may_repeat = outcome.status == 429 or (can_repeat and outcome.status in {500, 502, 503, 504})
    if not may_repeat:
        return None
    asked = error.retry_after if isinstance(error, APIError) else None
    longest = min(0.5 * 2**attempt, _LONGEST_PAUSE)
    # Else all that waited would come back in one moment.
    return (asked or 0.0) + random.uniform(longest / 2, longest)  # noqa: S311  no secret
