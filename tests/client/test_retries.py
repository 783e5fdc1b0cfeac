"""Which calls are repeated, and when. The answers are made up: no service gives them on command."""

import contextlib
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import data_compliance_client as package
from data_compliance_client import clients, codes, core, operations
from data_compliance_client.downloads import Target

REQUEST = {
    "request_id": "r-1",
    "kind": "deletion",
    "status": "accepted",
    "hold_reason": None,
    "result": None,
    "reference": None,
    "received_at": "2026-11-24T16:06:39Z",
    "due_at": "2026-12-24T16:06:39Z",
    "finished_at": None,
}
ALICE = {"key": "member_id", "value": "alice-77"}
Answers = Callable[..., tuple[package.Client, list[httpx.Request]]]


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "status": status, "title": "A title"}, headers=headers)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that are waited, which take no time."""
    waited: list[float] = []
    monkeypatch.setattr(clients, "time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture
def answering(pauses: list[float]) -> Iterator[Answers]:
    """Return a function that makes a client whose calls get these answers, or errors, in turn."""
    made: list[package.Client] = []

    def make(*answers: httpx.Response | Exception, **keys: Any) -> tuple[package.Client, list[httpx.Request]]:
        calls: list[httpx.Request] = []
        left = list(answers)

        def answer(call: httpx.Request) -> httpx.Response:
            calls.append(call)
            found = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(found, Exception):
                raise found
            return found

        keys = {"token": "t"} | keys
        made.append(package.Client("https://service.example", "acme", transport=httpx.MockTransport(answer), **keys))
        return made[-1], calls

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    "first",
    [
        *(httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x")),
        *(problem(500, "internal"), problem(503, "unavailable"), problem(429, "rate_limited")),
        *(httpx.Response(502, text="a proxy's page"), httpx.Response(504)),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else str(one.status_code),
)
def test_a_filing_is_repeated_with_the_same_key(answering: Answers, pauses: list[float], first: Any) -> None:
    client, calls = answering(first, httpx.Response(200, json=REQUEST))
    assert client.delete(**ALICE).id == "r-1"
    assert len(calls) == 2
    assert calls[0].headers["Idempotency-Key"] == calls[1].headers["Idempotency-Key"]
    assert calls[0].content == calls[1].content
    assert len(pauses) == 1


def test_each_attempt_is_signed_anew(answering: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1_700_000_000.0, 1_700_000_400.0])
    monkeypatch.setattr(core, "time", SimpleNamespace(time=lambda: next(seconds), monotonic=time.monotonic))
    client, calls = answering(httpx.ReadTimeout("x"), httpx.Response(200, json=REQUEST), signing_secret="s")
    client.delete(**ALICE)
    assert [call.headers["X-Mindsay-Timestamp"] for call in calls] == ["1700000000", "1700000400"]
    for call in calls:
        assert "Authorization" not in call.headers
        timestamp, signature = call.headers["X-Mindsay-Timestamp"], call.headers["X-Mindsay-Signature"]
        assert signature == package.sign("s", timestamp, call.content)


def test_the_line_end_of_a_file_is_no_part_of_a_key(answering: Answers) -> None:
    client, calls = answering(httpx.Response(200, json=REQUEST), token="t\n", signing_secret="s\n")
    client.request("r-1")
    client.delete(**ALICE)
    assert calls[0].headers["Authorization"] == "Bearer t"
    call = calls[1]
    assert call.headers["X-Mindsay-Signature"] == package.sign("s", call.headers["X-Mindsay-Timestamp"], call.content)


def test_the_wait_lasts_as_long_as_it_may(answering, pauses, monkeypatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: sum(pauses))
    monkeypatch.setattr(operations, "time", clock)
    client, _ = answering(httpx.Response(200, json=REQUEST))
    with pytest.raises(package.WaitTimeout):
        client.wait("r-1", timeout=60)
    assert sum(pauses) == 60


@pytest.mark.parametrize("identifier", ["../../acme2/requests/r-1", "r-1/approve", "r-1?x", "r-1\n"])
def test_an_id_is_no_path(answering: Answers, identifier: str) -> None:
    """It can come from a form, or a log."""
    client, calls = answering(httpx.Response(200, json=REQUEST))
    client.request(identifier)
    client.decide(identifier, "cancel", reason="duplicate")
    for call in calls:
        [_, rest] = call.url.raw_path.split(b"/api/v1/chatbots/acme/requests/")
        assert rest.removesuffix(b"/cancel").count(b"/") == rest.count(b"?") == 0


def test_the_service_says_how_long_to_wait(answering: Answers, pauses: list[float]) -> None:
    client, _ = answering(problem(429, "rate_limited", **{"Retry-After": "17"}), httpx.Response(200, json=REQUEST))
    client.request("r-1")
    assert 17 < pauses[0] < 18


def test_the_pauses_grow_and_end_with_the_patience(answering, pauses, monkeypatch) -> None:
    monkeypatch.setattr(core, "time", SimpleNamespace(monotonic=lambda: sum(pauses)))
    client, calls = answering(httpx.ConnectError("x"), patience=100)
    with pytest.raises(package.Unreachable, match="ConnectError") as caught:
        client.delete(**ALICE)
    assert caught.value.idempotency_key == calls[0].headers["Idempotency-Key"]
    assert caught.value.__cause__ is None
    assert 60 < sum(pauses) <= 100
    assert max(pauses) <= 30
    assert len(calls) == len(pauses) + 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(400, "invalid"), codes.Invalid),
        (problem(401, "stale_timestamp"), codes.StaleTimestamp),
        (problem(503, "restored_database"), codes.RestoredDatabase),
        (problem(418, "a_code_of_later"), package.APIError),
        (httpx.Response(403, text="a proxy's page"), package.Unreachable),
        (httpx.Response(200, text="a page for guests of the hotel"), package.Unreachable),
        (httpx.Response(302, headers={"Location": "https://elsewhere.example"}), package.Unreachable),
    ],
)
def test_what_no_repetition_mends_is_told_at_once(answering: Answers, answer: Any, error: type[Exception]) -> None:
    client, calls = answering(answer)
    with pytest.raises(error) as caught:
        client.delete(**ALICE)
    assert type(caught.value) is error
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("first", "attempts"),
    [
        (httpx.ConnectError("x"), 2),
        (problem(429, "rate_limited"), 2),
        (httpx.ReadTimeout("x"), 1),
        (problem(503, "unavailable"), 1),
    ],
)
def test_what_could_happen_twice_is_repeated_only_if_it_did_not_happen(answering, first, attempts) -> None:
    client, calls = answering(first, httpx.Response(200, json=REQUEST))
    if attempts == 1:
        with pytest.raises(package.ComplianceError):
            client.redact(17, ["m1"], reason="other")
    else:
        client.redact(17, ["m1"], reason="other")
    assert len(calls) == attempts


@pytest.mark.parametrize(
    "last",
    [problem(503, "unavailable"), httpx.ReadTimeout("x"), httpx.Response(200, text="a page"), httpx.Response(302)],
    ids=["503", "no answer", "a page", "elsewhere"],
)
def test_what_may_have_been_filed_names_the_key_that_files_it_once(answering: Answers, last: Any) -> None:
    """An earlier attempt can have arrived. The key of a batch is that of the call, and not that of a lot."""
    client, calls = answering(httpx.ReadTimeout("x"), last, patience=2)
    with pytest.raises(package.ComplianceError) as caught:
        list(client.file([package.deletion(**ALICE)]))
    key = caught.value.idempotency_key
    with pytest.raises(package.ComplianceError) as again:
        list(client.file([package.deletion(**ALICE)], idempotency_key=key))
    assert again.value.idempotency_key == key
    assert len({call.headers["Idempotency-Key"] for call in calls}) == 1


@pytest.mark.parametrize("answer", [{}, [], 7, REQUEST | {"received_at": 5}, {"code": "x", "errors": ["y"]}])
def test_json_of_something_else_is_no_answer(answering: Answers, answer: Any) -> None:
    status = 400 if "errors" in REQUEST | (answer if isinstance(answer, dict) else {}) else 200
    client, _ = answering(httpx.Response(status, json=answer))
    with pytest.raises(package.Unreachable):
        client.delete(**ALICE)
    if status == 200:
        with pytest.raises(package.Unreachable):
            list(client.file([package.deletion(**ALICE)]))
        with pytest.raises(package.Unreachable):
            list(client.send(["{}"]))


def test_an_empty_key_is_none_of_its_own(answering: Answers) -> None:
    """It is a variable that is not set, and the caller counts on it."""
    client, calls = answering(httpx.Response(200, json=REQUEST))
    with pytest.raises(ValueError, match="empty"):
        client.delete(**ALICE, idempotency_key="")
    with pytest.raises(ValueError, match="empty"):
        list(client.file([package.deletion(**ALICE)], idempotency_key=""))
    assert calls == []


class Parts(httpx.SyncByteStream):
    """The parts of a body, the last of which can be an error."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, Exception):
                raise part
            yield part


def test_a_broken_download_begins_anew(answering: Answers, tmp_path: Any) -> None:
    client, calls = answering(
        httpx.Response(200, stream=Parts(b"half of ", httpx.ReadError("x"))),
        httpx.Response(200, stream=Parts(b"who", b"le")),
    )
    [path] = client.download(export_of_whole(), tmp_path)
    assert path.read_bytes() == b"whole"
    assert len(calls) == 2


def export_of_whole(**export: Any) -> package.Request:
    export = {"key": "acme/x/1_export.csv", "bytes": 5, "sha256": _DIGEST, "files": []} | export
    return package.Request.of(REQUEST | {"export": export, "archive": None, "counts": {"files": 0}})


def test_two_downloads_of_one_file_leave_it_whole(answering: Answers, tmp_path: Any) -> None:
    target = tmp_path / "file"
    other = Target(target)

    class Second(httpx.SyncByteStream):
        """While the first one arrives, another one begins, and breaks off."""

        def __iter__(self) -> Iterator[bytes]:
            yield b"wh"
            other.__enter__().write(b"ha")
            yield b"ole"

    client, _ = answering(httpx.Response(200, stream=Second()))
    with contextlib.suppress(package.DownloadIncomplete):
        client.download(export_of_whole(), target)
    other.__exit__()
    assert not target.exists() or target.read_bytes() == b"whole"


def test_a_download_that_broke_off_removes_what_it_wrote_at_once(answering: Answers, tmp_path: Any) -> None:
    """While the error is held, too: what came is personal data. A later download stays as it is."""
    client, _ = answering(httpx.Response(200, stream=Parts(b"half", OSError("The disk is full."))))
    with pytest.raises(OSError, match="full"):
        client.download(export_of_whole(), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_the_patience_begins_with_the_failure(answering, pauses, monkeypatch, tmp_path) -> None:
    """A download of an hour that breaks off is repeated."""
    now = 0.0
    monkeypatch.setattr(core, "time", SimpleNamespace(monotonic=lambda: now))

    class AnHour(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            nonlocal now
            yield b"who"
            now += 3600
            raise httpx.ReadError("x")

    client, _ = answering(
        httpx.Response(200, stream=AnHour()),
        httpx.Response(200, stream=Parts(b"whole")),
    )
    [path] = client.download(export_of_whole(), tmp_path)
    assert path.read_bytes() == b"whole"


def test_files_that_a_request_does_not_list_are_told(answering: Answers, tmp_path: Any) -> None:
    file = {"bytes": 5, "sha256": _DIGEST}
    copy = {"name": "17", "file_id": 17, **file}
    export = {"key": "acme/x/1_export.csv", "files": [copy], **file}
    request = package.Request.of(REQUEST | {"export": export, "archive": None, "counts": {"files": 3}})
    client, _ = answering(*(httpx.Response(200, stream=Parts(b"whole")) for _ in range(2)))
    with pytest.raises(package.DownloadIncomplete, match="2 are missing"):
        client.download(request, tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {"1_export.csv", "17"}


_DIGEST = "5d5766cf2d78701614200418ee1450690d9af12c84d52545e4802f001ad53099"
