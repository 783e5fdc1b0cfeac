"""What the client can do. Each method is a generator of steps: see `core`."""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, Unpack
from urllib.parse import quote, urlencode, urlsplit

from data_compliance_client import bodies
from data_compliance_client.bodies import ConversationFilters, Filters, LogPage, Request, Stored
from data_compliance_client.core import Item, Items, Pause, Steps, Transport, read
from data_compliance_client.downloads import MANIFEST, File, Target, contents, listed_in
from data_compliance_client.errors import APIError, ComplianceError, DownloadIncomplete, Unreachable, WaitTimeout

T = TypeVar("T")
# Limits of the service. A lot that it finds too large is halved.
_MOST_ITEMS = 1_000
_MOST_BYTES = 8 << 20
_MOST_SIGNED_BYTES = 1_000_000
_FIRST_POLL, _LAST_POLL = 0.5, 30.0
_CHANGELOG_PAGE = 1_000
_NEXT = re.compile(r'<([^>]+)>; rel="next"')


class Operations:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def delete(self, *, idempotency_key: str | None = None, **options: Unpack[bodies.Deletion]) -> Steps[Request]:
        """File a deletion, and return the request. It cannot be undone: `preview` it first.

        `idempotency_key` makes the call safe to repeat for 24 hours, also by another process; by default it is safe
        to repeat within this call alone.
        """
        return (yield from self._file("data-deletion", bodies.deletion(**options), idempotency_key))

    def export(self, *, idempotency_key: str | None = None, **options: Unpack[bodies.Export]) -> Steps[Request]:
        """File an export, and return the request. `wait` for it, then `download` it."""
        return (yield from self._file("data-export", bodies.export(**options), idempotency_key))

    def file(
        self, requests: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> Items[Request | APIError]:
        """File many requests, and yield what became of each, in order: a request, or the error that refused it.

        Nothing is filed before you iterate, and lots that you do not reach are not filed.

        `requests` are bodies by `deletion()` and `export()`. They are filed in lots of up to 1,000. With the same
        `idempotency_key` and the same requests, the call can be repeated for 24 hours.
        """
        key = _key(idempotency_key)
        most = _MOST_SIGNED_BYTES if self._transport.signing_secret else _MOST_BYTES
        encoded = (json.dumps(one, separators=(",", ":")).encode() for one in requests)
        for number, lot in enumerate(_lots(encoded, most, size=len)):
            body = b'{"requests":[' + b",".join(lot) + b"]}"
            with _naming(key):
                answer = yield from self._transport.call(
                    "POST", "requests/batch", body=body, idempotency_key=f"{key}-{number}", is_filing=True
                )
                outcomes = read(answer, _outcomes)
            for outcome in outcomes:
                yield Item(outcome)

    def preview(self, action: str | None = None, **subject: Unpack[bodies.Subject]) -> Steps[Any]:
        """Return what a request would do now, and similar values. `action` is `delete` or `export`; default: both."""
        body = bodies.fields({"action": action, **subject})
        return (yield from self._json("POST", "preview", _as_it_is, body))

    def request(self, request_id: str) -> Steps[Request]:
        """Return a request as it is now."""
        return (yield from self._json("GET", _at(request_id), Request.of))

    def requests(self, **filters: Unpack[Filters]) -> Items[Request]:
        """Yield requests, the newest first."""
        yield from self._pages("requests", filters, Request.of)

    def lookup(self, **subject: Unpack[bodies.Subject]) -> Steps[list[Request]]:
        """Return the requests about a chatter or about conversations, the newest first: 200 at most."""

        def of(found: Mapping[str, Any]) -> list[Request]:
            return [Request.of(one) for one in found["results"]]

        return (yield from self._json("POST", "requests/lookup", of, bodies.fields(subject)))

    def wait(
        self,
        request_id: str,
        *,
        timeout: float | None = None,
        on_change: Callable[[Request], object] | None = None,
    ) -> Steps[Request]:
        """Return the request once no worker will go on with it, whether completed, failed, ended or on hold.

        `timeout` is in seconds; None waits for good. `on_change` gets the request after each look at it. Raises
        WaitTimeout, and Unreachable if the service did not answer for `patience` seconds. The request goes on, so
        wait again.
        """
        until = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_POLL
        while True:
            request = yield from self.request(request_id)
            if on_change is not None:
                on_change(request)
            if not request.is_unfinished:
                return request
            left = pause if until is None else until - time.monotonic()
            if left <= 0:
                raise WaitTimeout(request_id, timeout or 0)
            yield Pause(min(pause, left))
            pause = min(pause * 1.5, _LAST_POLL)

    def decide(
        self, request_id: str, decision: str, *, reason: str | None = None, note: str | None = None
    ) -> Steps[Request]:
        """Decide on a request, and return it: `cancel`, `approve`, `reject` or `extend`, with a reason code."""
        body = bodies.fields({"reason": reason, "note": note})
        return (yield from self._json("POST", f"{_at(request_id)}/{decision}", Request.of, body, can_repeat=False))

    def redact(
        self,
        number: int,
        message_ids: Sequence[str] = (),
        *,
        reason: str,
        csat_comment: bool = False,
        reference: str | None = None,
        callback_url: str | None = None,
    ) -> Steps[Request]:
        """Redact messages of the conversation with this number, and return the request. It cannot be undone.

        An attempt that may have arrived is not repeated: Unreachable is raised. Call again then: a second request
        finds nothing.
        """
        body = {"ids": list(message_ids), "reason": reason, "csat_comment": csat_comment or None}
        body |= {"reference": reference, "callback_url": callback_url}
        path = f"conversations/{number}/messages/redact"
        return (yield from self._json("POST", path, Request.of, bodies.fields(body), can_repeat=False))

    def download(self, request: Request | str, path: str | Path, *, file: str | None = None) -> Steps[list[Path]]:
        """Download the files of a completed export in the operator's bucket, and return their paths.

        An export of one file is written to `path`, or into it if it is a folder. One of several files is written
        into the folder `path`. `file` is the name of a single one. Length and SHA-256 of each are checked. Files are
        readable by their owner alone, take their names once they are whole, and replace older ones. Raises
        DownloadIncomplete, and the APIErrors InClientBucket, NotReady and ExportExpired.
        """
        if isinstance(request, str):
            request = yield from self.request(request)
        if not request.data["export"]:
            # The service says why. If it was finished just now, the next look has it.
            yield from self._transport.call("GET", f"{_at(request.id)}/download")
            request = yield from self.request(request.id)
        main, others, left_out = contents(request)
        path = Path(path)
        if file is not None:
            chosen = next((one for one in others if one.name == file), None)
            if chosen is None:
                raise DownloadIncomplete("The request lists no file of this name.")
            return [(yield from self._save(request.id, path / file if path.is_dir() else path, chosen))]
        if not others:
            target = path / main.name if path.is_dir() else path
            return [(yield from self._save(request.id, target, main))]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        saved = [(yield from self._save(request.id, path / main.name, main))]
        if main.name == MANIFEST:
            others, left_out = listed_in(saved[0]), 0
        for one in others:
            saved += [(yield from self._save(request.id, path / one.name, one))]
        if left_out:
            raise DownloadIncomplete(
                f"The request lists its first {len(others)} files alone, and {left_out} are missing. Export with "
                "archive='zip', or with a second format: then a manifest lists all."
            )
        return saved

    def send(self, documents: Iterable[Mapping[str, Any] | str | bytes]) -> Items[Stored]:
        """Store conversations, and yield what became of each, in order. It is safe to repeat.

        Nothing is sent before you iterate.

        A document is a mapping, or a line of JSON; empty lines have no result. They are sent in lots as
        newline-delimited JSON, so a long file needs little memory.
        """
        lines = ((number, _line(one)) for number, one in enumerate(documents, start=1))
        some = ((number, line) for number, line in lines if line)
        yield from self._send(some, "conversations", "application/x-ndjson", (b"", b"\n", b"\n"))

    def identify(self, identities: Iterable[tuple[str, str, str]]) -> Items[Stored]:
        """Say who chatted in conversations, and yield what became of each, in order. It is safe to repeat.

        Nothing is sent before you iterate.

        An identity is the platform's id of the conversation, the key and the value of the chatter.
        """
        bodies_of = ({"id": one, **bodies.fields({"key": key, "value": value})} for one, key, value in identities)
        lines = ((number, _line(one)) for number, one in enumerate(bodies_of, start=1))
        yield from self._send(lines, "conversations/identify", "application/json", (b'{"identities":[', b",", b"]}"))

    def conversations(self, **filters: Unpack[ConversationFilters]) -> Items[dict[str, Any]]:
        """Yield the conversations of the log, the newest first."""
        yield from self._pages("conversations", filters, dict)

    def changelog(
        self,
        *,
        after: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        event: str | None = None,
        request_id: str | None = None,
    ) -> Items[LogPage]:
        """Yield the change log in pages, the oldest first, up to now. `after` is `next` of a page: go on there."""
        filters = {"since": since, "until": until, "event": event, "request_id": request_id}
        query = urlsplit(after).query if after else _query(filters | {"limit": _CHANGELOG_PAGE})
        while True:
            answer = yield from self._transport.call("GET", f"changelog?{query}")
            found = _NEXT.search(answer.headers.get("link", ""))
            if found is None:
                raise Unreachable("something answered that is not the service")
            entries = [json.loads(line) for line in answer.body.splitlines()]
            yield Item(LogPage(entries, found[1]))
            if not entries:
                return
            query = urlsplit(found[1]).query

    def call(self, method: str, path: str, body: Any = None) -> Steps[Any]:
        """Make any other call of the API below the chatbot's address, and return its JSON. GET alone is repeated."""
        return (yield from self._json(method, path, _as_it_is, body, can_repeat=method == "GET"))

    def _file(self, path: str, body: Mapping[str, Any], idempotency_key: str | None) -> Steps[Request]:
        key = _key(idempotency_key)
        with _naming(key):
            answer = yield from self._transport.call("POST", path, body, idempotency_key=key, is_filing=True)
            return read(answer, Request.of)

    def _json(
        self, method: str, path: str, of: Callable[[Any], T], body: Any = None, *, can_repeat: bool = True
    ) -> Steps[T]:
        return read((yield from self._transport.call(method, path, body, can_repeat=can_repeat)), of)

    def _pages(self, path: str, filters: Mapping[str, Any], of: Callable[[dict[str, Any]], T]) -> Items[T]:
        query = _query(filters)
        while True:
            found, following = yield from self._json(
                "GET", f"{path}?{query}", lambda page: ([of(one) for one in page["results"]], page["next"])
            )
            for one in found:
                yield Item(one)
            if not following:
                return
            # Below the address that we have, and not below another one that the service knows itself by.
            query = urlsplit(following).query

    def _save(self, request_id: str, path: Path, file: File) -> Steps[Path]:
        query = f"?{_query({'file': file.listed_as})}" if file.listed_as else ""
        with Target(path) as target:
            yield from self._transport.call("GET", f"{_at(request_id)}/download{query}", sink=target)
            target.finish(file)
        return path

    def _send(
        self, lines: Iterable[tuple[int, bytes]], path: str, content_type: str, around: tuple[bytes, bytes, bytes]
    ) -> Items[Stored]:
        for lot in _lots(lines, _MOST_BYTES, size=lambda one: len(one[1])):
            yield from self._send_lot(lot, path, content_type, around)

    def _send_lot(
        self, lot: list[tuple[int, bytes]], path: str, content_type: str, around: tuple[bytes, bytes, bytes]
    ) -> Items[Stored]:
        before, between, after = around
        body = before + between.join(line for _, line in lot) + after
        try:
            answer = yield from self._transport.call("POST", path, body=body, content_type=content_type)
        except APIError as error:
            # The lot as a whole is too large, or has too many values. Or one of it is what no list may contain.
            if error.status not in {400, 413}:
                raise
            if len(lot) == 1:
                yield Item(Stored(lot[0][0], None, None, "refused", error))
                return
            middle = len(lot) // 2
            for half in (lot[:middle], lot[middle:]):
                yield from self._send_lot(half, path, content_type, around)
            return

        def of(found: Mapping[str, Any]) -> list[Stored]:
            return [Stored.of(number, one) for (number, _), one in zip(lot, found["results"], strict=True)]

        for stored in read(answer, of):
            yield Item(stored)


def _key(given: str | None) -> str:
    """Return the idempotency key, a new one if none is given."""
    if given is None:
        return str(uuid.uuid4())
    if not (given and given.isascii() and given.isprintable()):
        raise ValueError("The idempotency key is empty, or has characters that are not printable ASCII.")
    return given


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Tell the key with any error: an attempt before the last one may have been carried out."""
    try:
        yield
    except ComplianceError as error:
        error.idempotency_key = key
        raise


def _outcomes(found: Mapping[str, Any]) -> list[Request | APIError]:
    return [Request.of(one) if "request_id" in one else APIError.of(one["error"]) for one in found["results"]]


def _at(request_id: str) -> str:
    return f"requests/{quote(request_id, safe='')}"


def _as_it_is(found: Any) -> Any:
    return found


def _query(parameters: Mapping[str, Any]) -> str:
    def as_text(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(bodies.text(value))

    return urlencode({name: as_text(value) for name, value in parameters.items() if value is not None})


def _line(document: Mapping[str, Any] | str | bytes) -> bytes:
    """Return a document as one line of JSON, without its end."""
    if isinstance(document, bytes):
        return document.strip(b" \t\r\n")
    if isinstance(document, str):
        return document.strip(" \t\r\n").encode()
    return json.dumps(document, separators=(",", ":")).encode()


def _lots(items: Iterable[T], most_bytes: int, *, size: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield the items in lists, each within what one call may have; an item that is larger comes alone."""
    lot: list[T] = []
    total = 0
    for item in items:
        if lot and (len(lot) == _MOST_ITEMS or total + size(item) > most_bytes):
            yield lot
            lot, total = [], 0
        lot.append(item)
        # And what stands between two.
        total += size(item) + 1
    if lot:
        yield lot
