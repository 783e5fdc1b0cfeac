"""Refusals of intake, and concurrent erasures and intakes."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import pytest
from django.db import connection, transaction
from django.utils import timezone

from chatbots.models import Chatbot, Variable
from conversations import documents, rows
from conversations.intake import MAX_DOCUMENTS, IntakeFailed, store
from conversations.locks import exclude_intake
from conversations.models import Conversation, Identity, Message
from tests.conversations.documents import message, parsed, update
from tests.conversations.intakes import STARTED, erase, results, stored
from tests.factories import VariableFactory, ready_chatbot
from tests.functional.elsewhere import wait_until_blocked
from tests.patches import failing

T = TypeVar("T")


def test_channel_and_start_are_required_only_for_new_conversations(chatbot: Chatbot) -> None:
    [outcome] = stored(chatbot, update("c-1", language="en"))

    assert [(error.pointer, error.code) for error in outcome.errors] == [
        ("/channel", "missing"),
        ("/started_at", "missing"),
    ]
    assert (outcome.id, outcome.number) == ("c-1", None)


def test_times_of_the_future_are_refused_where_they_would_be_stored(chatbot, monkeypatch) -> None:
    """A conversation from before they were refused goes on: what is known of it may be sent again."""
    future = (timezone.now() + timedelta(days=1.1)).isoformat()
    soon = (timezone.now() + timedelta(days=0.9)).isoformat()
    late = [message(id="m1"), message(id="m2", sent_at=future)]
    [started, said] = stored(chatbot, parsed("c-1", started_at=future), parsed("c-2", messages=late))
    assert [error.pointer for error in (*started.errors, *said.errors)] == ["/started_at", "/messages/1/sent_at"]
    assert results(chatbot, parsed("c-1", started_at=soon, messages=[message(sent_at=soon)])) == ["created"]

    with monkeypatch.context() as before:
        before.setattr(documents, "MOST_AHEAD", timedelta(days=3))
        assert results(chatbot, parsed("c-2", started_at=future, messages=late)) == ["created"]
    again = parsed("c-2", started_at=future, messages=[*late, message(id="m3")])
    assert results(chatbot, again) == ["updated"]
    assert results(chatbot, parsed("c-2", messages=[message(id="m4", sent_at=future)])) == ["out_of_range"]


def test_it_takes_at_most_a_thousand_documents(chatbot: Chatbot) -> None:
    with pytest.raises(ValueError, match="1000"):
        store(chatbot=chatbot, documents=[parsed()] * (MAX_DOCUMENTS + 1))

    assert store(chatbot=chatbot, documents=[]) == []


def test_a_database_refusal_contains_no_row_data(chatbot: Chatbot) -> None:
    bad = parsed(user_name="Lovelace")
    bad["messages"] = [{**(bad["messages"] or [])[0], "sender": cast("Any", "nobody")}]

    with pytest.raises(IntakeFailed) as caught:
        stored(chatbot, parsed("c-2"), bad)

    # Citus says of a COPY only that it failed.
    assert str(caught.value) in {"SQLSTATE 23514 (message_sender_known)", "SQLSTATE XX000"}
    assert caught.value.__context__ is None
    assert not Conversation.objects.exists()


def test_it_gives_up_when_other_intakes_keep_winning_the_race(chatbot, monkeypatch) -> None:
    monkeypatch.setattr(rows, "write", failing(rows.ConcurrentIntake))

    with pytest.raises(IntakeFailed, match="kept coming first"):
        stored(chatbot, parsed())


@pytest.mark.parametrize(
    ("cut", "days", "result"),
    [
        (timedelta(seconds=1), 90, "chatter_erased"),
        (timedelta(0), 90, "created"),
        (timedelta(1), -1, "chatter_erased"),
    ],
    ids=["begun before the cut", "begun at the cut", "remembered longer"],
)
def test_it_refuses_an_erased_chatter_s_old_conversations(chatbot, neighbour, cut, days, result) -> None:
    erase(chatbot, "42", cutoff_at=STARTED + cut, days=days)

    assert results(chatbot, parsed()) == [result]
    assert results(chatbot, parsed("c-2", custom_variables={"member_id": "43"})) == ["created"]
    assert results(neighbour, parsed()) == ["created"]


def test_it_knows_a_chatter_erased_under_a_former_uci(chatbot: Chatbot) -> None:
    erase(chatbot, "42", cutoff_at=STARTED + timedelta(days=1))
    Variable.objects.filter(chatbot=chatbot, is_uci=True).update(is_uci=False, was_uci=True)
    VariableFactory.create(chatbot=chatbot, name="account")

    assert results(chatbot, parsed(custom_variables={"member_id": "42", "account": "A"})) == ["chatter_erased"]


def test_it_marks_a_stored_conversation_that_turns_out_to_be_an_erased_chatter_s(chatbot: Chatbot) -> None:
    stored(chatbot, parsed(custom_variables={}))
    erase(chatbot, "42", cutoff_at=STARTED + timedelta(hours=1))
    latest = erase(chatbot, "42", cutoff_at=STARTED + timedelta(hours=2))

    naming = update(custom_variables={"member_id": "42"}, messages=[message("m9")])
    assert results(chatbot, naming, update(language="en")) == ["chatter_erased", "conversation_deleted"]

    row = Conversation.objects.get()
    assert (row.deletion_request_id, row.deleted_at, row.language) == (latest, None, None)
    assert Message.objects.count() == 2
    # Its chatter is known only by digest.
    assert Identity.objects.get().value is None


@pytest.mark.parametrize(
    ("cut", "was_stored", "start", "result"),
    [
        (timedelta(hours=1), False, timedelta(days=1), "chatter_erased"),
        (-timedelta(hours=1), True, timedelta(days=1), "chatter_erased"),
        (-timedelta(hours=1), False, -timedelta(days=1), "updated"),
    ],
    ids=["begun before the cut", "stored before it", "begun and stored after it"],
)
def test_a_documents_start_does_not_change_which_conversations_are_an_erased_chatters(
    chatbot: Chatbot, cut: timedelta, was_stored: bool, start: timedelta, result: str
) -> None:
    [outcome] = stored(chatbot, parsed(custom_variables={}))
    number = (outcome.number or 0) if was_stored else 0
    request_id = erase(chatbot, "42", cutoff_at=STARTED + cut, cutoff_number=number)

    naming = update(custom_variables={"member_id": "42"}, started_at=(STARTED + start).isoformat())
    assert results(chatbot, naming) == [result]

    row = Conversation.objects.get()
    assert (row.started_at, row.deletion_request_id == request_id) == (STARTED, result == "chatter_erased")


def test_it_marks_a_conversation_of_the_same_call_too(chatbot: Chatbot) -> None:
    request_id = erase(chatbot, "42", cutoff_at=STARTED + timedelta(hours=1))

    outcomes = results(chatbot, parsed(custom_variables={}), update(custom_variables={"member_id": "42"}))

    assert outcomes == ["created", "chatter_erased"]
    assert Conversation.objects.get().deletion_request_id == request_id


# --- Several at once -----------------------------------------------------------------------------------


@contextmanager
def workers(count: int) -> Iterator[Callable[[Callable[[], T]], "Future[T]"]]:
    """Threads with their own connections, closed at the end."""
    with ThreadPoolExecutor(count) as pool:

        def run(work: Callable[[], T]) -> T:
            try:
                return work()
            finally:
                connection.close()

        yield lambda work: pool.submit(run, work)


@pytest.mark.django_db(transaction=True)
def test_it_waits_for_a_mark_and_then_refuses() -> None:
    chatbot = ready_chatbot(slug="acme")
    stored(chatbot, parsed("c-1"))
    late = [parsed("c-1", messages=[message("m9")]), parsed("c-2"), parsed("c-3", custom_variables={})]

    with workers(1) as submit:
        with transaction.atomic():
            exclude_intake(chatbot.pk, number=7)
            intake = submit(lambda: results(chatbot, *late))
            wait_until_blocked()
            request_id = erase(chatbot, "42", cutoff_at=timezone.now())
            Conversation.objects.update(deletion_request_id=request_id)
        outcomes = intake.result(timeout=20)

    assert outcomes == ["conversation_deleted", "chatter_erased", "created"]
    marked = Conversation.objects.get(deletion_request_id=request_id)
    assert Message.objects.filter(conversation=marked).count() == 2


@pytest.mark.django_db(transaction=True)
def test_it_lets_two_intakes_of_one_new_conversation_meet() -> None:
    chatbot = ready_chatbot(slug="acme")

    with workers(1) as submit:
        with transaction.atomic():
            [first] = stored(chatbot, parsed("c-1"))
            other = submit(lambda: stored(chatbot, parsed("c-1", messages=[message("m1"), message("m9")])))
            wait_until_blocked()
        [second] = other.result(timeout=20)

    assert (first.outcome, second.outcome, second.messages) == ("created", "updated", 1)
    assert second.number == first.number
    assert Conversation.objects.get().message_count == Message.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_it_ends_consistent_when_two_import_overlapping_documents() -> None:
    chatbot = ready_chatbot(slug="acme")
    together = threading.Barrier(2, timeout=20)
    rounds, size = 12, 40

    def run(mine: str, step: int) -> None:
        for number in range(rounds):
            documents = [
                parsed(f"c-{number // 2}-{one}", messages=[message("m0"), message(f"{mine}{number}")])
                for one in range(size)
            ]
            together.wait()
            assert all(outcome.outcome != "refused" for outcome in stored(chatbot, *documents[::step]))

    with workers(2) as submit:
        for run_ends in [submit(lambda: run("a", 1)), submit(lambda: run("b", -1))]:
            run_ends.result(timeout=60)

    assert set(Conversation.objects.values_list("message_count", flat=True)) == {5}
    there = Counter(Message.objects.values_list("conversation", flat=True))
    assert sorted(there.values()) == [5] * (rounds // 2 * size)
    assert Identity.objects.count() == rounds // 2 * size
