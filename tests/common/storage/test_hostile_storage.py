"""A storage that drips, is silent or never stops: each call ends in time and takes little memory."""

import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from chatbots.buckets.locations import StorageLocation
from chatbots.buckets.probe import probe
from chatbots.models import Bucket
from common.storage import ObjectStorage, StorageError
from common.storage.breaker import FAILURES
from tests import clients, hostile
from tests.certificates import make_certificate, server_context
from tests.hostile import OK, Behaviour, Hostile, behaving

SECONDS = 1.0
# Of a call that is to fail in any case.
SHORT = 0.3
# Extra seconds for a busy machine.
PATIENCE = 8.0
MIB = 1024 * 1024

Use = Callable[[ObjectStorage], object]

LOOK: Use = lambda storage: storage.exists("a/key")  # noqa: E731
LIST: Use = lambda storage: list(storage.keys())  # noqa: E731
READ: Use = lambda storage: storage.read("a/key")  # noqa: E731
PUT: Use = lambda storage: storage.put("a/key", b"x", "text/plain")  # noqa: E731
PUT_MUCH: Use = lambda storage: storage.put("a/key", b"x" * 16 * MIB, "text/plain")  # noqa: E731
WRITE: Use = lambda storage: storage.open_upload("a/key", content_type="text/plain")  # noqa: E731
PURGE: Use = lambda storage: storage.purge("a/key")  # noqa: E731


storage_at = partial(clients.storage_at, call_seconds=SECONDS)


def refusal(storage: ObjectStorage, use: Use) -> tuple[str, float]:
    """Return the error code with which a call ends, and its seconds."""
    assert storage.client, "made before, since that takes long the first time"
    began = time.monotonic()
    with pytest.raises(StorageError) as caught:
        use(storage)
    return caught.value.code, time.monotonic() - began


@pytest.mark.long(reason="waits for the limit of time with each behaviour", beyond=3)
@pytest.mark.parametrize(
    ("behave", "use"),
    [
        (hostile.says_nothing, LOOK),
        (hostile.never_reads, PUT_MUCH),
        (hostile.reads_slowly, PUT_MUCH),
        (hostile.drips_a_head, LOOK),
        (hostile.drips_a_head, PUT),
        (hostile.drips_a_body, LIST),
        (hostile.drips_a_body, READ),
        (hostile.drips_a_body, PURGE),
        (hostile.drips_an_error, READ),
        (hostile.drips_chunks, LIST),
        (hostile.drips_chunks, READ),
        (hostile.drips_trailers, LIST),
        (hostile.asks_to_go_on, LOOK),
    ],
)
def test_a_call_ends_in_time_whatever_the_storage_does(behave: Behaviour, use: Use) -> None:
    # Uploads have their own time limit: 64 seconds for 16 MiB, too long for a test.
    with pytest.MonkeyPatch.context() as patch, behaving(behave) as server:
        patch.setattr("common.outbound.STORAGE_LEAST_RATE", 1024 * MIB)
        code, seconds = refusal(storage_at(server.url(), call_seconds=SHORT), use)
    assert code == "storage_unavailable"
    assert seconds < PATIENCE


@pytest.mark.parametrize(
    ("behave", "guarded"),
    [(hostile.drips_a_head, True), (hostile.drips_a_body, False), (hostile.never_reads, True)],
)
def test_a_call_over_tls_ends_in_time(behave, guarded, tmp_path, monkeypatch) -> None:
    certificate = make_certificate(tmp_path / "storage.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    monkeypatch.setattr("common.outbound.STORAGE_LEAST_RATE", 1024 * MIB)
    use = PUT_MUCH if behave is hostile.never_reads else LIST
    with behaving(behave, server_context(certificate)) as server:
        code, seconds = refusal(storage_at(server.url("https"), guarded=guarded, call_seconds=SHORT), use)
    assert code == "storage_unavailable"
    assert seconds < PATIENCE


def test_a_dripping_handshake_ends_in_time() -> None:
    with behaving(hostile.drips_a_handshake) as server:
        code, seconds = refusal(storage_at(server.url("https")), LOOK)
    assert code == "storage_unavailable"
    assert seconds < PATIENCE
    assert server.connections > 1, "what is left of the time is for another try"


@pytest.mark.parametrize(("scheme", "asked"), [("http", b"HEAD http://s3.example.com/"), ("https", b"CONNECT ")])
def test_a_call_through_a_dripping_proxy_ends_in_time(monkeypatch, scheme, asked) -> None:
    with behaving(hostile.drips_a_head) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url())
        code, seconds = refusal(storage_at(f"{scheme}://s3.example.com", call_seconds=SHORT), LOOK)
    assert code == "storage_unavailable"
    assert seconds < PATIENCE
    assert proxy.requests[0].startswith(asked)


@pytest.mark.long(reason="each kind of call reads megabytes", beyond=1)
@pytest.mark.parametrize(
    ("behave", "use"),
    [
        (hostile.floods_a_body, LIST),
        (hostile.floods_a_body, PUT),
        (hostile.floods_chunks, LIST),
        (hostile.floods_an_error, LIST),
        (hostile.floods_an_error, READ),
        (hostile.floods_an_error, PUT),
    ],
)
def test_an_endless_answer_is_cut_off_and_not_asked_for_again(behave: Behaviour, use: Use) -> None:
    with behaving(behave) as server:
        storage = storage_at(server.url(), call_seconds=60)
        refusal(storage, PUT)  # memory loaded once by the first call does not count
        server.requests.clear()
        before = reset_peak()
        code, _ = refusal(storage, use)
        grown = peak() - before
    assert code == "storage_incomplete"
    assert len(server.requests) == 1
    assert grown < 50 * MIB


@pytest.mark.parametrize(("behave", "use"), [(hostile.floods_a_head, LOOK), (hostile.goes_on_and_hangs_up, PUT)])
def test_a_head_without_an_end_or_a_body_is_refused_before_the_time_is_over(behave: Behaviour, use: Use) -> None:
    with behaving(behave) as server:
        code, seconds = refusal(storage_at(server.url(), call_seconds=60), use)
    assert code == "storage_unavailable"
    assert seconds < PATIENCE


def test_redirects_without_an_end_are_followed_once_at_most() -> None:
    with behaving(hostile.redirects_for_ever) as server:
        code, seconds = refusal(storage_at(server.url()), LIST)
    assert code == "storage_incomplete"
    assert len(server.requests) <= 2
    assert seconds < PATIENCE


@pytest.mark.parametrize(
    ("answer", "use"),
    [
        (b"200 OK|<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>", LIST),
        (b"200 OK|<ListBucketResult><MaxKeys>many</MaxKeys></ListBucketResult>", LIST),
        (b"200 OK|<ListVersionsResult><Version><Size>1</Size></Version></ListVersionsResult>", PURGE),
        (b"200 OK\r\nLast-Modified: never|", LOOK),
        (b"200 OK|", WRITE),
        (b"300 Choose|<x/>", LOOK),
        (b"400 No|<Error><Code>a</Code><Code>b</Code></Error>", PUT),
        (b"400 No|<Error>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</Error>", PUT),
    ],
)
def test_a_nonsensical_response_raises_our_own_error(answer: bytes, use: Use) -> None:
    head, _, body = answer.partition(b"|")

    def behave(server: Hostile, connection: socket.socket) -> None:
        while asked := server.hear(connection):
            # What follows the answer to a HEAD would be read as the answer to the next call, or not, by chance.
            sent = b"" if asked.startswith(b"HEAD") else body
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), sent))

    with behaving(behave) as server:
        code, _ = refusal(storage_at(server.url(), call_seconds=60), use)
    assert code == "storage_incomplete"


def test_a_redirect_to_another_region_is_followed_once() -> None:
    def behave(server: Hostile, connection: socket.socket) -> None:
        while asked := server.hear(connection):
            body = b"" if asked.startswith(b"HEAD") else b"<Error><Code>PermanentRedirect</Code></Error>"
            connection.sendall(b"HTTP/1.1 301 Moved\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with behaving(behave) as server:
        code, _ = refusal(storage_at(server.url()), READ)
    assert code == "storage_incomplete"
    assert [request.split()[0] for request in server.requests] == [b"GET", b"HEAD"]


def answers_politely(server: Hostile, connection: socket.socket) -> None:
    """Answer each request except those for the dripping key."""
    while head := server.hear(connection):
        if b"/drip" in head:
            connection.sendall(OK)
            server.drip(connection)
        connection.sendall(OK + b"Content-Length: 0\r\n\r\n")


def test_a_connection_is_reused_after_the_last_calls_deadline() -> None:
    with behaving(answers_politely) as server:
        storage = storage_at(server.url(), call_seconds=SECONDS / 2)
        assert storage.exists("a/key")
        time.sleep(SECONDS * 0.6)
        assert storage.exists("a/key")
        assert server.connections == 1


def test_an_aborted_call_does_not_affect_others_of_the_same_pool() -> None:
    with behaving(answers_politely) as server, ThreadPoolExecutor(1) as thread:
        # A quick call that a busy machine keeps for more than half of this would be tried again.
        storage = storage_at(server.url(), call_seconds=3)
        assert storage.exists("a/key")
        dripping = thread.submit(refusal, storage, lambda storage: storage.exists("drip"))
        calls = 0
        while not dripping.done():
            assert storage.exists("a/key")
            calls += 1
        assert dripping.result()[0] == "storage_unavailable"
        assert storage.exists("a/key")
        assert calls > 1
        assert sum(b"a/key" in head for head in server.requests) == calls + 2, "none was cut off and tried again"


def test_uploads_have_their_own_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.outbound.STORAGE_LEAST_RATE", MIB / 20)

    def takes_its_time(server: Hostile, connection: socket.socket) -> None:
        server.hear(connection)
        time.sleep(SECONDS * 0.7)
        left = MIB
        while left:
            left -= len(connection.recv(left))
        connection.sendall(OK + b"Content-Length: 0\r\n\r\n")

    with behaving(takes_its_time) as server:
        storage_at(server.url(), call_seconds=SECONDS / 2).put("a/key", b"x" * MIB, "text/plain")
        assert server.connections == 1


def test_downloads_are_not_limited_in_time() -> None:
    def sends(server: Hostile, connection: socket.socket) -> None:
        server.hear(connection)
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % (6 * MIB) + bytes(6 * MIB))

    with behaving(sends) as server:
        got = 0
        for piece in storage_at(server.url(), call_seconds=SECONDS / 2).stream("a/key"):
            got += len(piece)
            time.sleep(SECONDS / 6)
        assert got == 6 * MIB, "in more time than a call has, and more than an answer may be long"


def test_a_failed_upload_is_aborted_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller may hold a lease, and has waited long already."""
    monkeypatch.setattr("common.storage.s3._ABORTING_SECONDS", SHORT)
    with behaving(hostile.drips_a_head) as server:
        storage = storage_at(server.url(), call_seconds=60)
        began = time.monotonic()
        storage.abort_after_error("a/key", "upload")
        assert time.monotonic() - began < PATIENCE


@pytest.mark.long(reason="reads a listing until it is given up")
def test_an_endless_listing_does_not_block_a_removal() -> None:
    page = (
        b"<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k%d</NextKeyMarker>"
        b"<NextVersionIdMarker>v%d</NextVersionIdMarker></ListVersionsResult>"
    )

    def behave(server: Hostile, connection: socket.socket) -> None:
        while server.hear(connection):
            body = page % (len(server.requests), len(server.requests))
            connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    with behaving(behave) as server:
        code, seconds = refusal(storage_at(server.url(), call_seconds=SHORT), PURGE)
    assert code == "storage_unavailable"
    assert seconds < PATIENCE


def test_a_link_neither_hides_failures_in_a_row_nor_waits_for_a_paused_storage_nor_ends_the_pause() -> None:
    with behaving(hostile.says_nothing) as server:
        storage = storage_at(server.url(), call_seconds=0.2)
        for _ in range(FAILURES):
            assert refusal(storage, LOOK)[0] == "storage_unavailable"
            assert storage.link("a/key").startswith(server.url())
        assert refusal(storage, LOOK)[0] == "storage_resting"
        assert storage.link("a/key").startswith(server.url())
        assert refusal(storage, LOOK)[0] == "storage_resting"


def test_a_check_of_a_bucket_reads_no_more_than_it_wrote() -> None:
    with behaving(hostile.floods_a_body) as server:
        place = StorageLocation(Bucket.Hosting.CLIENT, "clients", "", storage_at(server.url(), call_seconds=60))
        before = reset_peak()
        assert [step.error.code for step in probe(place) if step.error] == ["storage_incomplete"]
        assert peak() - before < 50 * MIB


def reset_peak() -> int:
    """Reset the peak memory of this process, and return its current memory."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) * 1024
