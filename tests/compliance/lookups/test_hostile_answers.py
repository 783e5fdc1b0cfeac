"""Whatever a client's server answers, a call ends with one of our own words, and a value only from a right answer."""

import gzip
import json
import socket
import ssl
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatbots.models import uci_value_fault
from common import outbound
from common.guarded_calls import Answer, CallFailure, GuardedPost
from compliance.callbacks.client import outcome_of
from compliance.lookups.client import read
from compliance.models import Callback
from conversations.models import IdentityLookup
from tests.fuzzing import examples, texts
from tests.hostile import Hostile, behaving

pytestmark = pytest.mark.fuzz

_LEAST_SECONDS = 5.0
_MOST = 64 * 1024


class Script:
    """What the server sends next, before it closes the connection."""

    def __init__(self) -> None:
        self.reply = b""
        self.url = ""

    def play(self, server: Hostile, connection: socket.socket) -> None:
        server.hear(connection)
        connection.sendall(self.reply)
        # Closed with something unread, the connection would be reset.
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    script = Script()
    with behaving(script.play) as server:
        script.url = f"{server.url()}/who"
        yield script


@cache
def _tls() -> ssl.SSLContext:
    return outbound.tls_context()


def answer_to(script: Script, reply: bytes, *, is_whole: bool) -> Answer:
    script.reply = reply
    call = GuardedPost(
        script.url, seconds=_LEAST_SECONDS, answer_bytes=2 * _MOST, body_bytes=_MOST, is_whole=is_whole, tls=_tls()
    )
    began = time.monotonic()
    answer = call.run(body=b"{}", headers={})
    assert time.monotonic() - began < 4 * _LEAST_SECONDS
    return answer


STATUS_LINES = st.sampled_from(
    [
        *("HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/1.1 404 No", "HTTP/1.1 204 No Content"),
        *("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", "HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK"),
        *("HTTP/1.1 301 Go", "HTTP/1.1 401 Who", "HTTP/1.1 500 Broken", "HTTP/1.1 999 Beyond"),
        *("HTTP/1.1 000 Nothing",),
        *("HTTP/1.1 0200 OK", "HTTP/1.1 -200 OK", "HTTP/1.1 \u0662\u0660\u0660 OK", "HTTP/1.1 200OK"),
        *("HTTP/2 200", "HTTP/1.1", "ICY 200 OK"),
        *("http/1.1 200 OK", " HTTP/1.1 200 OK", "\r\nHTTP/1.1 200 OK", "HTTP/1.1 1000 OK", "HTTP/9.9 200 OK", ""),
    ]
)
HEADERS = st.sampled_from(
    [
        *("Content-Length: 0", "Content-Length: 15", "Content-Length: 5", "Content-Length: 1000000"),
        *("Content-Length: -1",),
        *("Content-Length: 15\r\nContent-Length: 3", "Content-Length: 15, 15", "Content-Length: x"),
        *("Content-Length: +15",),
        *("Content-Length: " + "9" * 30, "Content-Length: " + "9" * 5_000, "Content-Length: \u0661\u0665"),
        *("Transfer-Encoding: chunked", "Transfer-Encoding: Chunked ", "Transfer-Encoding: gzip, chunked"),
        *("Transfer-Encoding: identity", "Transfer-Encoding: chunked\r\nContent-Length: 3", "Transfer-Encoding: x"),
        *("Content-Encoding: gzip", "Content-Encoding: br", "Content-Encoding: deflate, gzip", "Content-Encoding: x"),
        *("Content-Type: application/json; charset=utf-16", "Content-Type: " + "x" * 9_000, "Content-Type: é"),
        *("Connection: keep-alive", "Connection: close", "Upgrade: h2c\r\nConnection: upgrade"),
        *("X: a\r\n folded", "X: a\nY: b", "X: a\rb", "X: \0", ": no name", "no colon", "Set-Cookie: a=b", " X: a"),
        *("Location: https://elsewhere.example/", "Trailer: X", "X: " + "y" * 70_000, "Retry-After: -1"),
        "\r\n".join(f"X-{number}: y" for number in range(150)),
    ]
)


def value_in_json(value: Any) -> bytes:
    return json.dumps({"value": value}).encode()


BODIES = st.one_of(
    texts(most=513).map(value_in_json),
    st.sampled_from(
        [
            *(b'{"value": "42"}', b'{"value": null}', b'{"value": 42}', b'{"value": "4", "value": "2"}', b'["42"]'),
            *(b"", b"42", b'"42"', b"{", b'{"value": "\xff"}', b'\xef\xbb\xbf{"value": "42"}', b"[" * 9_000),
            *('{"value": "42"}'.encode("utf-16"), b'{"value": "\\ud800"}', b'{"value": "\\u0000"}'),
            *(b'{"value": NaN}',),
            *(gzip.compress(b'{"value": "42"}'), b'{"value": ' + b"1" * 5_000 + b"}", b'{"value": "' + b"x" * 70_000),
            *(b'f\r\n{"value": "42"}\r\n0\r\n\r\n', b'f;x="y"\r\n{"value": "42"}\r\n0\r\nX: y\r\n\r\n'),
            *(b'0xf\r\n{"value": "42"}\r\n0\r\n\r\n', b"-1\r\n", b"ffffffffffffffff\r\n"),
            *(b'f\n{"value": "42"}\n0\n\n',),
            *(b'f\r\n{"value": "42"}', b"zz\r\n", b"\r\n\r\n", b"1" * 5_000 + b"\r\n"),
            *(b'{"value": "42"}{"value": "43"}',),
        ]
    ),
    st.binary(max_size=200),
)


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    lines = [draw(STATUS_LINES), *draw(st.lists(HEADERS, max_size=3))]
    head = "\r\n".join(lines).encode("latin-1", "replace")
    end = draw(st.sampled_from([b"\r\n\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n", b""]))
    reply = head + end + draw(BODIES)
    return reply[: draw(st.integers(0, len(reply)) | st.just(len(reply)))]


def whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@examples(60)
@given(reply=replies())
@example(reply=whole(b'{"value": "42"}'))
@example(reply=whole(value_in_json("x" * 512)))
@example(reply=whole(gzip.compress(b'{"value": "42"}')).replace(b"OK\r\n", b"OK\r\nContent-Encoding: gzip\r\n"))
def test_a_look_up_ends_with_a_word_of_ours(script: Script, reply: bytes) -> None:
    answer = answer_to(script, reply, is_whole=True)
    found = read(answer, pointer="/value")

    assert len(answer.body) <= _MOST
    if found.value is None:
        assert found.is_unknown or found.error in IdentityLookup.Failure
        return
    # The value stands in what was sent, which nothing unpacked, and can be one.
    assert (found.status, found.error) == (200, None)
    assert not uci_value_fault(found.value)
    assert answer.body in reply
    assert json.loads(answer.body)["value"] == found.value


@examples(25)
@given(reply=replies())
@example(reply=b"HTTP/1.1 200 OK\r\n")
@example(reply=b"HTTP/1.1 204 No Content\r\n\r\n")
def test_a_callback_ends_with_a_word_of_ours(script: Script, reply: bytes) -> None:
    answer = answer_to(script, reply, is_whole=False)
    outcome = outcome_of(answer)

    assert answer.failure is None or answer.failure in CallFailure
    assert outcome.error is None or outcome.error in Callback.Failure
    # Delivered is only what was answered by a status of success.
    if outcome.error is None:
        assert outcome.status is not None
        assert 200 <= outcome.status < 300
        assert str(outcome.status).encode() in reply


def test_a_right_answer_is_read(script: Script) -> None:
    """What the others say of nothing would be true of a server that does not answer at all."""
    assert read(answer_to(script, whole(b'{"value": "42"}'), is_whole=True), pointer="/value").value == "42"
