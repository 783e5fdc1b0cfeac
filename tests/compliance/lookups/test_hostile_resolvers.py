"""Look-ups on the network: a call ends in time whatever the address does, and no other work waits for it."""

import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from chatbots.models import Chatbot, Resolver
from compliance import tasks
from compliance.callbacks.queue import RECEIVERS
from compliance.cluster.broker import TaskFailed
from compliance.lookups import client
from compliance.lookups.queue import Lookups, look_up
from compliance.models import Callback
from compliance.work import call_queue, dispatcher
from conversations.models import IdentityLookup
from tests import hostile
from tests.calls import SigningCaller
from tests.factories import CallbackFactory, deletion_of
from tests.functional.elsewhere import Elsewhere, Gate
from tests.hostile import OK, Hostile, behaving
from tests.looking_up import after_a_turn, begin, identities, make_due, resolver_of, with_resolver
from tests.patches import before, failing
from tests.receivers import Receiver, receiving


def closes_in_the_body(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b'Content-Length: 100\r\n\r\n{"value": "42"}')


def closes_in_a_chunk(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b'Transfer-Encoding: chunked\r\n\r\nf\r\n{"value": "42"}\r\n')


def answers_in_chunks(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b'Transfer-Encoding: chunked\r\n\r\nf\r\n{"value": "42"}\r\n0\r\n\r\n')


def claims_to_be_compressed(server: Hostile, connection: socket.socket) -> None:
    server.hear(connection)
    connection.sendall(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00")


@pytest.mark.long(reason="waits for the limit of time with each behaviour", beyond=1)
@pytest.mark.parametrize(
    ("behave", "outcome"),
    [
        (hostile.says_nothing, ("pending", "no_answer")),
        (hostile.drips_a_head, ("pending", "no_answer")),
        (hostile.drips_a_body, ("pending", "no_answer")),
        (hostile.drips_chunks, ("pending", "no_answer")),
        (hostile.asks_to_go_on, ("pending", "no_answer")),
        (hostile.floods_a_head, ("pending", "bad_answer")),
        (hostile.floods_a_body, ("failed", "answer_too_long")),
        (closes_in_the_body, ("pending", "no_answer")),
        (closes_in_a_chunk, ("pending", "no_answer")),
        (answers_in_chunks, ("resolved", "")),
        (claims_to_be_compressed, ("failed", "not_json")),
    ],
)
def test_a_call_ends_in_time_whatever_the_address_does(chatbot, monkeypatch, behave, outcome) -> None:
    monkeypatch.setattr("common.outbound.LOOKUP_SECONDS", 0.5)
    with behaving(behave) as server:
        with_resolver(chatbot, server.url() + "/who")
        [one] = begin(chatbot, "c-1")
        began = time.monotonic()
        assert after_a_turn(one) == outcome
        assert time.monotonic() - began < 8
        assert server.ended.wait(8), "the connection is closed"


def test_answers_about_some_chatters_make_nobody_else_wait(chatbot: Chatbot) -> None:
    """A chatter can send anything through the user channel, and servers have a status of their own for that."""
    with receiving(400, body=b'{"value": "42"}') as receiver:
        receiver.answers = [400] * 6 + [200]
        with_resolver(chatbot, receiver.url())
        begin(chatbot, *(f"bad-{n}" for n in range(6)))
        look_up()
        good = begin(chatbot, *(f"good-{n}" for n in range(6)))
        look_up()
    assert [identities(one) for one in good] == [[("42", "resolved")]] * 6
    assert not IdentityLookup.objects.filter(last_error="resolver_resting").exists()


@pytest.mark.long(reason="nine look-ups for each status", beyond=1)
@pytest.mark.parametrize("status", [408, 429])
def test_an_address_that_cannot_cope_is_left_alone(chatbot: Chatbot, status: int) -> None:
    with receiving(status) as receiver:
        with_resolver(chatbot, receiver.url())
        begin(chatbot, *(f"c-{n}" for n in range(9)))
        look_up()
        assert len(receiver.received) < 9


def test_a_slow_address_delays_neither_another_chatbots_nor_callbacks(chatbot: Chatbot, neighbour: Chatbot) -> None:
    """It answers only once all else has arrived, in the same turn of a worker."""
    RECEIVERS.forget()
    SigningCaller(neighbour)
    arrived = threading.Event()
    others: list[str] = []

    def heard(name: str) -> None:
        others.append(name)
        if others.count("look-up") == 8 and others.count("callback") == 8:
            arrived.set()

    with (
        receiving(body=b'{"value": "slow"}', before_answer=lambda: arrived.wait(4)) as slow,
        receiving(body=b'{"value": "42"}', before_answer=lambda: heard("look-up")) as quick,
        receiving(before_answer=lambda: heard("callback")) as callbacks,
    ):
        with_resolver(chatbot, slow.url())
        with_resolver(neighbour, quick.url())
        begin(chatbot, *(f"c-{n}" for n in range(12)))
        later = begin(neighbour, *(f"c-{n}" for n in range(8)))
        for n in range(8):
            CallbackFactory.create(request=deletion_of(neighbour, str(n)), url=callbacks.url())
        tasks.deliver_callbacks()
        assert arrived.is_set()
        assert len(slow.received) == 12
    assert Callback.objects.filter(state="delivered").count() == 8
    assert all(identities(one) == [("42", "resolved")] for one in later)


def test_names_that_do_not_resolve_in_time_take_nobodys_threads(chatbot, neighbour, known, monkeypatch) -> None:
    """Such a look-up cannot be ended: the call is over, and its thread is not."""
    monkeypatch.setattr("common.outbound.LOOKUP_SECONDS", 0.3)
    monkeypatch.setattr(dispatcher, "THREADS", 2)
    with_resolver(neighbour, "https://127.0.0.1/who")
    Resolver.objects.filter(chatbot=neighbour).update(url="https://slow.example.com/who")

    def slowly(host: str, *arguments: Any, **options: Any) -> None:
        if host == "slow.example.com":
            time.sleep(1)

    before(monkeypatch, socket, "getaddrinfo", slowly)
    begin(neighbour, "c-1", "c-2")
    [one] = begin(chatbot, "c-1")
    IdentityLookup.objects.filter(chatbot=chatbot).update(next_attempt_at=timezone.now() + timedelta(seconds=0.15))
    assert after_a_turn(one) == ("resolved", "")


def test_an_error_with_look_ups_leaves_callbacks_their_turn(chatbot, monkeypatch) -> None:
    SigningCaller(chatbot)

    monkeypatch.setattr(Lookups, "take", failing(RuntimeError("boom")))
    with receiving() as receiver:
        CallbackFactory.create(request=deletion_of(chatbot, "1"), url=receiver.url())
        with pytest.raises(TaskFailed):
            tasks.deliver_callbacks()
        assert len(receiver.received) == 1


@pytest.fixture
def known(chatbot: Chatbot) -> Iterator[Receiver]:
    with receiving(body=b'{"value": "42"}') as receiver:
        with_resolver(chatbot, receiver.url())
        yield receiver


def test_the_look_ups_of_a_killed_worker_are_made_again_and_it_writes_nothing(chatbot, known, monkeypatch) -> None:
    [one] = begin(chatbot, "c-1")
    note, notes = Lookups.note, []
    with monkeypatch.context() as patch:
        patch.setattr(Lookups, "note", lambda *call: notes.append(call))
        look_up()
    assert len(known.received) == 1
    look_up()  # its lease runs
    assert len(known.received) == 1
    assert identities(one) == []

    IdentityLookup.objects.update(next_attempt_at=timezone.now())
    look_up()
    assert len(known.received) == 2
    assert identities(one) == [("42", "resolved")]
    ended = IdentityLookup.objects.values().get()

    # The worker is alive after all, and reports late.
    note(*notes[0])
    assert IdentityLookup.objects.values().get() == ended


def test_a_worker_killed_after_it_stored_the_value_is_followed_by_no_call(chatbot, known, monkeypatch) -> None:
    [one] = begin(chatbot, "c-1")
    with monkeypatch.context() as patch:
        patch.setattr(Lookups, "end", lambda *call, **options: None)
        look_up()
    assert identities(one) == [("42", "resolved")]
    make_due(chatbot)
    look_up()
    assert len(known.received) == 1
    assert not IdentityLookup.objects.exists()


def test_two_workers_make_each_call_once(chatbot: Chatbot, known: Receiver) -> None:
    begin(chatbot, *(f"c-{n}" for n in range(8)))
    first, second = uuid4(), uuid4()
    taken = Lookups().take(first, room=32, busy={})
    assert len(taken) == call_queue.PER_CHATBOT
    # Of two workers one is kept free for requests, whatever it is that the other calls.
    assert Lookups().take(second, room=32, busy={}) == []
    CallbackFactory.create(request=deletion_of(chatbot, "1"), url=known.url())
    assert not dispatcher.run([Lookups()], seconds=5)
    assert known.received == []
    IdentityLookup.objects.filter(token=first).update(next_attempt_at=timezone.now() - timedelta(seconds=1))
    look_up()
    assert sorted(one.payload["conversation_id"] for one in known.received) == [f"c-{n}" for n in range(8)]


def test_what_cannot_be_read_or_sent_is_its_own_chatbots_trouble(chatbot, neighbour, known, monkeypatch) -> None:
    """Neither an answer that no code of ours foresees, nor a resolver that was changed by hand."""
    with receiving(body=b'{"value": "theirs"}') as theirs:
        with_resolver(neighbour, theirs.url())
        [ours], [other] = begin(chatbot, "c-1"), begin(neighbour, "c-1")
        resolver = resolver_of(chatbot)
        resolver.variable_ids = [*resolver.variable_ids, 0]
        resolver.save()
        look_up()
        assert identities(other) == [("theirs", "resolved")]
        assert known.received == []

        resolver.variable_ids = resolver.variable_ids[:1]
        resolver.save()
        make_due(chatbot)

        def fails(document: object, pointer: str) -> None:
            if document == {"value": "42"}:
                raise RuntimeError("unforeseen")

        before(monkeypatch, client, "_resolve_pointer", fails)
        [another] = begin(neighbour, "c-2")
        assert after_a_turn(ours) == ("failed", "bad_answer")
        assert identities(another) == [("theirs", "resolved")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("known")
def test_recording_waits_for_nobody_who_holds_look_ups(chatbot: Chatbot) -> None:
    """An erasure locks them in an order of its own: if both waited, they could wait for each other."""
    begin(chatbot, "c-1", "c-2", "c-3")
    token = uuid4()
    taken = Lookups().take(token, room=32, busy={})
    first, middle, last = sorted(one.id for one in taken)
    gate = Gate()

    def erase() -> None:
        with transaction.atomic():
            IdentityLookup.objects.filter(pk=middle).delete()
            gate.passed()
            IdentityLookup.objects.filter(pk__in=[first, last]).delete()

    erasing = Elsewhere(erase)
    gate.wait_for_caller()
    Lookups().note(token, [(one, client.LookupResult(is_unknown=True)) for one in taken])
    gate.open()
    erasing.end()
    assert not IdentityLookup.objects.exists()
