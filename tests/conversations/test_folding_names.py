"""The migration that folds the names that were stored before there were words."""

from contextlib import closing, suppress
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import OperationalError, connection

from chatbots.models import Chatbot
from common.db import execute, fetch
from conversations.models import Conversation, NameWord
from tests.conversations.closing import erase, mark
from tests.factories import ConversationFactory, conversation_of
from tests.patches import Killed, before

fold_names: Any = import_module("conversations.migrations.0006_fold_names")


_LOCK = "SELECT FROM conversations_conversation WHERE user_name = %s AND deletion_request_id IS NULL"


def fold() -> None:
    with connection.schema_editor(atomic=False) as editor:
        fold_names.fold(apps, editor)


def words() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for conversation, word in NameWord.objects.order_by("conversation", "word").values_list("conversation", "word"):
        found.setdefault(conversation, []).append(word)
    return found


@pytest.fixture
def numbers(chatbot: Chatbot, neighbour: Chatbot, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Conversations whose names have no words yet; the last three have no name that can be found."""
    monkeypatch.setattr(fold_names, "CHUNK", 2)
    names = ["Lucía Peña", "Ada", "?", "Łódź Peña", "Bob"]
    made = [ConversationFactory.create(chatbot=chatbot, user_name=name) for name in names]
    made.append(ConversationFactory.create(chatbot=neighbour, user_name="Ada"))
    marked, erased = (conversation_of(chatbot, "42", user_name="Eve") for _ in range(2))
    mark(marked)
    erase(erased)
    made += [marked, erased, ConversationFactory.create(chatbot=chatbot)]
    NameWord.objects.all().delete()
    return [one.pk for one in made]


def expected(numbers: list[int]) -> dict[int, list[str]]:
    pena, ada, _, lodz, bob, theirs, *_ = numbers
    return {pena: ["lucia", "pena"], ada: ["ada"], lodz: ["lodz", "pena"], bob: ["bob"], theirs: ["ada"]}


def test_open_conversations_get_the_words_of_their_names(numbers: list[int]) -> None:
    fold()
    assert words() == expected(numbers)


def test_after_a_kill_the_rest_is_folded_and_what_has_words_is_left(numbers, monkeypatch) -> None:
    chunks = iter([True, True, False])

    def be_killed(*_: Any, **__: Any) -> None:
        if not next(chunks):
            raise Killed

    with monkeypatch.context() as patch:
        before(patch, fold_names, "_fold_some", be_killed)
        with pytest.raises(Killed):
            fold()
    folded = words()
    assert folded.items() < expected(numbers).items()
    # A name that a new version has stored meanwhile has its words.
    Conversation.objects.filter(pk=numbers[0]).update(user_name="Lucía Peña!")

    fold()

    assert folded
    assert words() == expected(numbers)


@pytest.mark.django_db(transaction=True)
def test_a_conversation_is_neither_erased_nor_renamed_between_reading_and_writing(numbers, monkeypatch) -> None:
    locked = []

    def try_to_lock(name: str) -> None:
        with closing(connection.copy()) as other, other.cursor() as cursor, suppress(OperationalError):
            cursor.execute(f"{_LOCK} FOR UPDATE NOWAIT", [name])
            return
        locked.append(name)

    before(monkeypatch, fold_names, "words", try_to_lock)

    fold()

    assert locked == ["Lucía Peña", "Ada", "?", "Łódź Peña", "Bob", "Ada"]


def test_postgresql_takes_no_samples_of_words(chatbot: Chatbot) -> None:
    for number in range(300):
        ConversationFactory.create(chatbot=chatbot, user_name=f"Ada {number}")
    execute("ANALYZE conversations_nameword")
    sampled = fetch("SELECT attname FROM pg_stats WHERE tablename IN ('conversations_nameword', 'nameword_lookup')")
    assert sampled == [("conversation_id",)]
