"""From documents to rows: stored and updated values."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Chatbot, Variable
from common.crypto import digest
from conversations.models import Conversation, Identity, Message, NameWord, VariableValue
from tests.conversations.documents import message, parsed, update
from tests.conversations.intakes import STARTED, results, stored
from tests.factories import VariableFactory, uci_of


def test_it_stores_a_conversation_with_all_it_carries(chatbot: Chatbot) -> None:
    document = parsed(
        language="en",
        user_name="Ada",
        user_channel_variables={"plan": "gold"},
        agent_handover=True,
        score=7.5,
        csat={"score": 4, "vote": "positive", "comment": "quick"},
    )

    [outcome] = stored(chatbot, document)

    row = Conversation.objects.get()
    assert (outcome.id, outcome.number, outcome.outcome, outcome.messages) == ("c-1", row.pk, "created", 2)
    assert (row.channel, row.language, row.user_name, row.started_at) == ("widget", "en", "Ada", STARTED)
    assert (row.score, row.csat_score, row.csat_vote, row.csat_comment) == (Decimal("7.5"), 4, "positive", "quick")
    assert (row.has_agent_handover, row.has_push, row.has_file_upload) == (True, False, False)
    assert (row.message_count, row.last_message_at) == (2, STARTED + timedelta(seconds=5))
    assert (row.external_id, bytes(row.external_id_digest or b"")) == (
        "c-1",
        digest("conversation", chatbot.public_id, "c-1"),
    )
    assert row.uci_variable == uci_of(chatbot)
    assert Identity.objects.get(conversation=row, variable=row.uci_variable).value == "42"
    assert VariableValue.objects.get(conversation=row).value == "gold"
    assert [entry.text for entry in Message.objects.order_by("external_id")] == ["text of m0", "text of m1"]


def test_it_overwrites_present_fields_and_keeps_absent_ones(chatbot: Chatbot) -> None:
    stored(chatbot, parsed(language="en", user_name="Ada", score=7.5, csat={"score": 4, "comment": "quick"}))

    [outcome] = stored(chatbot, update(language="fr", csat={"score": 0}, agent_handover=True))

    row = Conversation.objects.get()
    assert (outcome.outcome, outcome.number) == ("updated", row.pk)
    assert (row.language, row.user_name, row.score, row.has_agent_handover) == ("fr", "Ada", Decimal("7.5"), True)
    assert (row.csat_score, row.csat_comment, row.message_count) == (0, "quick", 2)


def test_the_words_of_a_name_are_those_of_the_last_name_sent(chatbot: Chatbot, neighbour: Chatbot) -> None:
    def words() -> set[tuple[str, str]]:
        found = NameWord.objects.filter(chatbot=chatbot).values_list("conversation__external_id", "word")
        return {(external_id or "", word) for external_id, word in found}

    stored(neighbour, parsed(user_name="Ada"))
    stored(chatbot, parsed("c-1", user_name="Lucía PEÑA, Lucia"), parsed("c-2", user_name="Ada"), parsed("c-3"))
    assert words() == {("c-1", "lucia"), ("c-1", "pena"), ("c-2", "ada")}
    stored(chatbot, update("c-2", user_name="Ada", score=3), update("c-1", user_name=None, score=3))
    assert words() == {("c-1", "lucia"), ("c-1", "pena"), ("c-2", "ada")}
    stored(chatbot, update("c-1", user_name="Bob"), update("c-1", user_name="Bob Peña"), update("c-3", user_name="?"))
    assert words() == {("c-1", "bob"), ("c-1", "pena"), ("c-2", "ada")}
    assert NameWord.objects.filter(chatbot=neighbour).count() == 1


def test_the_first_document_sets_the_start_of_a_conversation(chatbot: Chatbot) -> None:
    earlier, later = "2026-10-31T09:00:00Z", "2026-11-02T09:00:00Z"
    first = results(chatbot, parsed(), update(started_at=later, language="en"))

    assert first + results(chatbot, update(started_at=earlier), update(started_at=later, language="fr")) == [
        "created", "updated", "unchanged", "updated",
    ]  # fmt: skip
    row = Conversation.objects.get()
    assert (row.started_at, row.language) == (STARTED, "fr")


def test_it_neither_changes_nor_repeats_a_known_message(chatbot: Chatbot) -> None:
    stored(chatbot, parsed())

    later = "2026-11-01T10:00:00Z"
    [outcome] = stored(chatbot, update(messages=[message("m1", text="other"), message("m9", sent_at=later)]))

    texts = dict(Message.objects.values_list("external_id", "text"))
    assert texts == {"m0": "text of m0", "m1": "text of m1", "m9": "text of m9"}
    row = Conversation.objects.get()
    assert (outcome.messages, row.message_count, row.last_message_at) == (1, 3, STARTED + timedelta(hours=1))


def test_it_writes_nothing_for_a_document_that_changes_nothing(chatbot: Chatbot) -> None:
    document = parsed(user_channel_variables={"plan": "gold"}, score=7.5, push=False, csat={"vote": "neutral"})
    stored(chatbot, document)
    before = _row_versions()

    with CaptureQueriesContext(connection) as queries:
        assert results(chatbot, document, document) == ["unchanged", "unchanged"]

    assert _row_versions() == before
    written = ("INSERT", "UPDATE", "DELETE", "COPY")
    assert not [query for query in queries if query["sql"].strip().startswith(written)]


def _row_versions() -> list[Any]:
    """The position of each row and the state of each sequence: any write changes it."""
    tables = [model._meta.db_table for model in (Conversation, Identity, Message, VariableValue)]
    versions: list[Any] = []
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT ctid, xmin FROM {table} ORDER BY id")
            versions += cursor.fetchall()
            cursor.execute(f"SELECT last_value FROM {table}_id_seq")
            versions += cursor.fetchall()
    return versions


def test_it_needs_as_many_statements_for_200_documents_as_for_2(chatbot: Chatbot) -> None:
    def count(first: int, last: int) -> int:
        documents = [parsed(f"c-{number}", user_channel_variables={"plan": "gold"}) for number in range(first, last)]
        again = [update(f"c-{number}", language="fr", messages=[message("m7")]) for number in range(first, last)]
        with CaptureQueriesContext(connection) as queries:
            stored(chatbot, *documents)
            stored(chatbot, *again)
        return len(queries)

    assert count(0, 2) == count(1_000, 1_200)


def test_it_merges_documents_of_one_conversation_in_order(chatbot: Chatbot) -> None:
    outcomes = stored(
        chatbot,
        parsed(language="en"),
        update(language="fr", messages=[message("m1", text="other"), message("m2")]),
        update(language="fr"),
    )

    row = Conversation.objects.get()
    assert [outcome.outcome for outcome in outcomes] == ["created", "updated", "unchanged"]
    assert [outcome.messages for outcome in outcomes] == [2, 1, 0]
    assert {outcome.number for outcome in outcomes} == {row.pk}
    assert (row.language, row.message_count, Message.objects.count()) == ("fr", 3, 3)


def test_it_keeps_what_an_earlier_document_of_the_call_changed(chatbot: Chatbot) -> None:
    stored(chatbot, parsed(language="en"))

    assert results(chatbot, update(language="fr"), update()) == ["updated", "unchanged"]

    assert Conversation.objects.get().language == "fr"


def test_stored_values_are_known_after_a_new_conversation_in_the_same_call(chatbot: Chatbot) -> None:
    stored(chatbot, parsed("c-2"))

    assert results(chatbot, parsed("c-1"), parsed("c-2")) == ["created", "unchanged"]

    assert [row.message_count for row in Conversation.objects.all()] == [2, 2]


def test_it_takes_the_latest_of_the_messages_in_whatever_order_they_stand(chatbot: Chatbot) -> None:
    times = ["2026-11-01T09:00:05Z", "2026-11-01T09:00:09Z", "2026-11-01T09:00:07Z"]
    first = parsed(messages=[message(f"m{number}", sent_at=at) for number, at in enumerate(times)])
    stored(chatbot, first, update(messages=[message("m9", sent_at="2026-10-01T00:00:00Z")]))

    row = Conversation.objects.get()
    assert (row.message_count, row.last_message_at) == (4, STARTED + timedelta(seconds=9))


def test_it_keeps_conversations_of_two_chatbots_apart(chatbot: Chatbot, neighbour: Chatbot) -> None:
    assert results(chatbot, parsed()) == results(neighbour, parsed()) == ["created"]

    assert Conversation.objects.values("external_id_digest").distinct().count() == 2


@pytest.mark.parametrize(("kind", "flag"), [("push", "has_push"), ("file", "has_file_upload")])
def test_it_sets_the_flag_of_a_message_kind(chatbot: Chatbot, kind: str, flag: str) -> None:
    stored(chatbot, parsed(), update(messages=[message("m7", kind=kind)], push=False))

    assert getattr(Conversation.objects.get(), flag)


def test_it_sets_and_takes_back_the_flags_a_document_names(chatbot: Chatbot) -> None:
    stored(chatbot, parsed(push=True, agent_handover=True))
    assert Conversation.objects.filter(has_push=True, has_agent_handover=True).exists()

    stored(chatbot, update(push=False, agent_handover=False))
    assert Conversation.objects.filter(has_push=False, has_agent_handover=False).exists()


def test_it_keeps_texts_that_mean_something_to_copy(chatbot: Chatbot) -> None:
    texts = ["\\N", "\\.", "a\tb\\nc\r\n", "'; --", "\N{RIGHT-TO-LEFT OVERRIDE}", "x" * 100_000, "None ", " "]
    for number, text in enumerate(texts):
        said = {"messages": [message(text=text)], "custom_variables": {"member_id": text[:512]}}
        stored(chatbot, parsed(f"c-{number}", **said))

    assert list(Message.objects.order_by("pk").values_list("text", flat=True)) == texts
    assert list(Identity.objects.order_by("pk").values_list("value", flat=True)) == [text[:512] for text in texts]


# --- Variables and identities --------------------------------------------------------------------------


def test_it_refuses_a_variable(chatbot: Chatbot) -> None:
    VariableFactory.create(chatbot=chatbot, name="bot_mood", category="system", is_uci=False)
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"custom_variables": {"colour": "red"}}, "/custom_variables/colour", "undeclared_variable"),
        ({"custom_variables": {"plan": "gold"}}, "/custom_variables/plan", "wrong_category"),
        ({"user_channel_variables": {"member_id": "1"}}, "/user_channel_variables/member_id", "wrong_category"),
        ({"custom_variables": {"bot_mood": "1"}}, "/custom_variables/bot_mood", "wrong_category"),
        ({"custom_variables": {"member_id": "x" * 513}}, "/custom_variables/member_id", "too_long"),
        # A name that looks like a person is not shown.
        ({"custom_variables": {"ada@example.com": "1"}}, "/custom_variables", "undeclared_variable"),
    ]

    outcomes = stored(chatbot, *(parsed(**fields) for fields, *_ in wrong))

    for outcome, (_, pointer, code) in zip(outcomes, wrong, strict=True):
        assert [(error.pointer, error.code) for error in outcome.errors] == [(pointer, code)]
    assert not Conversation.objects.exists()


def test_it_adds_a_second_identity_and_overwrites_none(chatbot: Chatbot) -> None:
    stored(chatbot, parsed())

    again = update(custom_variables={"member_id": "43"})
    assert results(chatbot, again, again) == ["updated", "unchanged"]

    assert list(Identity.objects.order_by("value").values_list("value", flat=True)) == ["42", "43"]


@pytest.mark.parametrize(
    ("category", "fields"),
    [
        ("custom", {}),
        ("user_channel", {"custom_variables": None, "user_channel_variables": {"member_id": "42"}}),
    ],
)
def test_it_keeps_how_an_identity_came(chatbot: Chatbot, category: str, fields: dict[str, Any]) -> None:
    Variable.objects.filter(pk=uci_of(chatbot).pk).update(category=category)

    stored(chatbot, parsed(**fields))

    assert Identity.objects.get().established_by == category


@pytest.mark.parametrize(
    ("stored_as", "outcome", "kept"),
    [
        ("user_channel", "updated", "custom"),
        ("custom", "unchanged", "custom"),
        ("signed", "unchanged", "signed"),
    ],
)
def test_only_a_stronger_way_replaces_how_an_identity_came(chatbot, stored_as, outcome, kept) -> None:
    stored(chatbot, parsed(), parsed("c-2"))
    first, second = sorted(Identity.objects.all(), key=lambda one: str(one.conversation.external_id))
    Identity.objects.filter(pk__in=[first.pk, second.pk]).update(established_by=stored_as)

    assert results(chatbot, parsed()) == [outcome]

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.established_by, second.established_by) == (kept, stored_as)


def test_a_placeholder_identifies_no_chatter(chatbot: Chatbot) -> None:
    for one in ("", "null", "undefined", "None", "anonymous"):
        assert results(chatbot, parsed(f"c-{one}", custom_variables={"member_id": one})) == ["created"]

    assert not Identity.objects.exists()
    assert not VariableValue.objects.exists()


def test_it_keeps_the_uci_of_a_conversation_s_beginning(chatbot: Chatbot) -> None:
    stored(chatbot, parsed())
    old = uci_of(chatbot)
    Variable.objects.filter(pk=old.pk).update(is_uci=False, was_uci=True)
    VariableFactory.create(chatbot=chatbot, name="account")

    stored(chatbot, update(custom_variables={"member_id": "43", "account": "A"}), parsed("c-2"))

    first, second = Conversation.objects.order_by("pk")
    assert set(first.identity_set.values_list("variable__name", "value")) == {
        ("member_id", "42"),
        ("member_id", "43"),
    }
    # A deletion by the new UCI would not find its value in the old conversation, so it is not stored there.
    assert not first.variablevalue_set.exists()
    assert second.uci_variable == uci_of(chatbot)
    assert not second.identity_set.exists()


def test_no_chatter_is_identified_before_a_uci_is_designated(chatbot: Chatbot) -> None:
    Variable.objects.filter(chatbot=chatbot).update(is_uci=False)

    stored(chatbot, parsed())

    assert Conversation.objects.get().uci_variable is None
    assert VariableValue.objects.get().value == "42"


def test_a_document_changes_something_if_one_of_its_values_is_new(chatbot: Chatbot) -> None:
    VariableFactory.create(chatbot=chatbot, name="order", is_uci=False)
    known = {"custom_variables": {"member_id": "42", "order": "1"}, "user_channel_variables": {"plan": "gold"}}
    for number, values in enumerate(
        (
            {"custom_variables": {"member_id": "43", "order": "1"}},
            {"custom_variables": {"order": "2", "member_id": "42"}},
            {"custom_variables": {"order": "2"}, "user_channel_variables": {"plan": "gold"}},
        )
    ):
        stored(chatbot, parsed(f"c-{number}", **known))
        again = update(f"c-{number}", **values)
        assert results(chatbot, again, again) == ["updated", "unchanged"]


def test_it_keeps_a_value_for_variable_days_from_when_it_was_last_sent(chatbot: Chatbot) -> None:
    document = parsed(user_channel_variables={"plan": "gold"})
    stored(chatbot, document)
    assert _life() == pytest.approx(django_settings.VARIABLE_DAYS, abs=timedelta(minutes=1))

    VariableValue.objects.update(expires_at=VariableValue.objects.get().expires_at - timedelta(days=3))
    assert results(chatbot, document) == ["unchanged"]
    assert _life() == pytest.approx(django_settings.VARIABLE_DAYS, abs=timedelta(minutes=1))

    assert results(chatbot, update(user_channel_variables={"plan": "silver"})) == ["updated"]
    assert VariableValue.objects.get().value == "silver"


def _life() -> timedelta:
    return VariableValue.objects.get().expires_at - timezone.now()
