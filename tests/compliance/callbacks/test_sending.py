"""The callback client on the network, against real servers and lying name services."""

import datetime as dt
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from chatbots.models import Chatbot
from common.db import by_index, execute, fetch
from common.storage import breaker
from compliance.callbacks.queue import RECEIVERS, Callbacks, deliver
from compliance.models import Callback
from compliance.work import call_queue
from tests import hostile
from tests.calls import SigningCaller
from tests.certificates import make_certificate, server_context
from tests.common.test_network_guard import PUBLIC, resolve_to
from tests.factories import CallbackFactory, deletion_of
from tests.hostile import behaving
from tests.patches import before
from tests.receivers import receiving

State = Callback.State


def callback_to(chatbot: Chatbot, url: str, value: str = "1") -> Callback:
    return CallbackFactory.create(request=deletion_of(chatbot, value), url=url)


def after_a_turn(callback: Callback) -> tuple[str, int | None, str]:
    deliver()
    callback.refresh_from_db()
    return callback.state, callback.last_status, callback.last_error


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        server.settimeout(0.2)
        yield server


def of(server: socket.socket, scheme: str = "http", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{server.getsockname()[1]}/hook"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for hooks.example.com and 127.0.0.1, with its key."""
    return make_certificate(tmp_path / "receiver.pem")


def test_tls_certificates_are_verified(chatbot, signing, certificate, monkeypatch) -> None:
    with receiving(tls=server_context(certificate)) as receiver:
        trusted, strange = callback_to(chatbot, receiver.url()), callback_to(chatbot, receiver.url("/x"), "2")
        Callback.objects.filter(pk=trusted.pk).update(next_attempt_at=timezone.now() + dt.timedelta(hours=1))
        assert after_a_turn(strange) == ("waiting", None, "tls_failed")
        assert receiver.received == []

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        Callback.objects.filter(pk=trusted.pk).update(next_attempt_at=timezone.now())
        assert after_a_turn(trusted) == ("delivered", 200, "")
        wrong_name = callback_to(chatbot, receiver.url(host="localhost"), "3")
        assert after_a_turn(wrong_name) == ("waiting", None, "tls_failed")


@pytest.mark.usefixtures("nothing_listed")
def test_no_connection_is_opened_to_a_private_address(chatbot, signing, listener) -> None:
    for value, host in enumerate(("127.0.0.1", "localhost")):
        callback = callback_to(chatbot, of(listener, "https", host), str(value))
        assert after_a_turn(callback) == ("waiting", None, "address_refused")
    with pytest.raises(TimeoutError):
        listener.accept()


@pytest.mark.usefixtures("nothing_listed")
def test_nothing_is_sent_when_a_name_resolves_differently(chatbot, signing, listener, monkeypatch) -> None:
    callback = callback_to(chatbot, of(listener, "https", "rebinding.example.com"))
    # Private when the connection is about to be opened.
    asked = resolve_to(monkeypatch, "127.0.0.1", PUBLIC)
    assert after_a_turn(callback) == ("waiting", None, "address_refused")
    assert asked == ["rebinding.example.com"]
    with pytest.raises(TimeoutError):
        listener.accept()


def test_nothing_is_sent_over_plain_http_to_unlisted_networks(chatbot, signing, monkeypatch) -> None:
    callback = callback_to(chatbot, "http://hooks.example.com/x")
    resolve_to(monkeypatch, PUBLIC)
    assert after_a_turn(callback) == ("waiting", None, "address_refused")


def test_proxies_from_the_environment_are_ignored(chatbot, signing, receiver, monkeypatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert after_a_turn(callback_to(chatbot, receiver.url())) == ("delivered", 200, "")


def test_failures_are_distinguished_without_the_address(chatbot, signing, listener, caplog) -> None:
    port = listener.getsockname()[1]
    answers = {
        b"garbage\r\n\r\n": ("waiting", None, "bad_answer"),
        b"": ("waiting", None, "no_answer"),
        b"HTTP/1.1 200 OK\r\n: broken\r\nfolded header\r\n\r\n": ("delivered", 200, ""),
        b"HTTP/1.1 204 No Content\r\n\r\n": ("delivered", 204, ""),
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\nx": ("waiting", 404, "bad_status"),
    }

    def answer(raw: bytes) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(raw)

    listener.settimeout(10)
    with ThreadPoolExecutor(1) as server:
        for number, (raw, expected) in enumerate(answers.items()):
            RECEIVERS.forget()
            answering = server.submit(answer, raw)
            assert after_a_turn(callback_to(chatbot, of(listener), str(number))) == expected
            answering.result(timeout=10)
    listener.close()
    RECEIVERS.forget()
    assert after_a_turn(callback_to(chatbot, f"http://127.0.0.1:{port}/hook", "refused")) == (
        *("waiting", None),
        "no_answer",
    )
    assert after_a_turn(callback_to(chatbot, "https://nobody.invalid/hook", "unknown")) == (
        *("waiting", None),
        "name_unknown",
    )
    assert "127.0.0.1" not in caplog.text
    assert "nobody.invalid" not in caplog.text
    assert "/hook" not in caplog.text


@pytest.mark.long(reason="waits for the limit of time with each behaviour", beyond=1)
@pytest.mark.parametrize(
    ("behave", "outcome"),
    [
        (hostile.says_nothing, ("waiting", None, "no_answer")),
        (hostile.drips_a_body, ("delivered", 200, "")),
        (hostile.floods_a_body, ("delivered", 200, "")),
        (hostile.floods_a_head, ("waiting", None, "bad_answer")),
        (hostile.floods_with_interim_answers, ("waiting", None, "bad_answer")),
    ],
)
def test_a_call_ends_in_time_whatever_the_receiver_does(chatbot, signing, monkeypatch, behave, outcome) -> None:
    """Even if each single wait is short: a byte every few milliseconds, endlessly."""
    monkeypatch.setattr("common.outbound.CALLBACK_SECONDS", 0.5)
    with behaving(behave) as server:
        began = time.monotonic()
        assert after_a_turn(callback_to(chatbot, server.url() + "/hook")) == outcome
        assert time.monotonic() - began < 8
        assert server.ended.wait(8), "the connection is closed"


@pytest.mark.parametrize("behave", [hostile.drips_a_handshake, hostile.never_reads])
def test_a_handshake_ends_in_time(chatbot, signing, monkeypatch, behave) -> None:
    monkeypatch.setattr("common.outbound.CALLBACK_SECONDS", 0.5)
    with behaving(behave) as server:
        began = time.monotonic()
        assert after_a_turn(callback_to(chatbot, server.url("https") + "/hook"))[2] in {"no_answer", "tls_failed"}
        assert time.monotonic() - began < 8


def test_a_silent_name_service_times_out_and_nothing_is_sent_late(chatbot, signing, listener, monkeypatch) -> None:
    monkeypatch.setattr("common.outbound.CALLBACK_SECONDS", 0.5)
    answers, asked = threading.Event(), threading.Event()

    def wait_first(*args: object, **options: object) -> None:
        asked.set()
        answers.wait(20)

    before(monkeypatch, socket, "getaddrinfo", wait_first)
    assert after_a_turn(callback_to(chatbot, of(listener))) == ("waiting", None, "no_answer")
    assert asked.is_set()
    answers.set()
    with pytest.raises(TimeoutError):
        listener.accept()


def test_a_receiver_that_failed_several_times_in_a_run_is_called_later(chatbot, neighbour, receiver, monkeypatch):
    monkeypatch.setattr(call_queue, "MOST_PUT_OFF", 5)
    for owner in (chatbot, neighbour):
        SigningCaller(owner)
    with receiving(500) as broken:
        for n in range(30):
            callback_to(chatbot, broken.url(), str(n))
        other = callback_to(chatbot, receiver.url(), "other")
        theirs = callback_to(neighbour, broken.url())
        deliver()
        ours = [one for one in broken.received if one.payload["chatbot"] == "acme"]
    assert breaker.FAILURES <= len(ours) <= breaker.FAILURES + 4
    resting = Callback.objects.filter(last_error="receiver_resting")
    assert resting.count() == 30 - len(ours)
    assert set(resting.values_list("attempts", "state")) == {(0, "waiting")}
    assert resting.earliest("next_attempt_at").next_attempt_at > timezone.now() + dt.timedelta(seconds=20)
    for callback, expected in ((other, ("delivered", 200)), (theirs, ("waiting", 500))):
        callback.refresh_from_db()
        assert (callback.state, callback.last_status) == expected

    assert not Callback.objects.filter(token__isnull=False).exists(), "no worker is kept from calling"

    # A callback tried for a day is given up, even if its receiver is paused.
    Callback.objects.filter(pk=resting[0].pk).update(
        next_attempt_at=timezone.now(), give_up_at=timezone.now() - dt.timedelta(seconds=1)
    )
    deliver()
    given_up = Callback.objects.get(state=State.GIVEN_UP)
    assert (given_up.last_error, given_up.url) == ("receiver_resting", "")


def test_a_paused_receiver_delays_no_other_receiver_and_no_other_chatbot(chatbot, neighbour) -> None:
    waits = callback_to(chatbot, "https://hooks.example.com/a", "1")
    callback_to(chatbot, "https://hooks.example.com.test/a", "2")
    callback_to(chatbot, "https://hooks.example.com:8443/a", "3")
    callback_to(neighbour, "https://hooks.example.com/a")
    Callbacks().postpone(uuid4(), [], receiver=(chatbot.pk, "https://hooks.example.com"), seconds=60)
    assert list(Callback.objects.filter(next_attempt_at__gt=timezone.now())) == [waits]


_BACKLOG = """
INSERT INTO compliance_callback (id, chatbot_id, request_id, status, error_code, occurred_at, url, state, attempts,
       next_attempt_at, give_up_at, last_error, expires_at)
SELECT gen_random_uuid(), %s, %s, 'cancelled', '', now() - n * interval '1 second', 'https://hooks.example.com/a',
       'waiting', 0, now() - n * interval '1 second', now() + interval '1 day', '', now() + interval '30 days'
  FROM generate_series(1, 2000) AS n
"""


def test_many_that_are_put_off_together_are_not_compared_each_with_each(chatbot: Chatbot) -> None:
    """PostgreSQL takes the rows of one token for one: 5,000 would keep the turn longer than a lease."""
    execute(_BACKLOG, [chatbot.pk, deletion_of(chatbot, "1").pk])
    plans: list[str] = []

    def explain(run: Any, statement: str, values: Any, *others: Any) -> Any:
        if statement.lstrip().startswith(("WITH picked", "WITH ending")):
            plans.append("\n".join(line for (line,) in fetch(f"EXPLAIN {statement}", values)))
        return run(statement, values, *others)

    with transaction.atomic(), connection.execute_wrapper(explain):
        execute(by_index())  # as in a worker's session
        Callbacks().postpone(uuid4(), [], receiver=(chatbot.pk, "https://hooks.example.com"), seconds=60)

    assert Callback.objects.filter(last_error="receiver_resting").count() == 2000
    assert len(plans) == 2, "taken, and recorded"
    assert "Join Filter" not in "".join(plans), plans


def test_only_one_worker_sends_callbacks_at_a_time(chatbot, signing, receiver, settings) -> None:
    """One of two workers is kept free for requests; a killed worker blocks others only until its lease ends."""
    callback, token = callback_to(chatbot, receiver.url()), uuid4()
    on_its_way = callback_to(chatbot, receiver.url(), "2")
    Callback.objects.filter(pk=on_its_way.pk).update(
        token=token, next_attempt_at=timezone.now() + dt.timedelta(seconds=30)
    )
    assert settings.Q_CLUSTER["workers"] == 2
    assert after_a_turn(callback) == ("waiting", None, "")
    Callback.objects.filter(pk=on_its_way.pk).update(next_attempt_at=timezone.now())
    assert after_a_turn(callback) == ("delivered", 200, "")
