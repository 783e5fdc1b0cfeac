from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from chatbots.console.scope import ShortPaginator
from chatbots.models import Chatbot, Membership
from conversations.admin import ConversationAdmin
from conversations.models import Conversation
from tests import factories

LOG = "admin:conversations_conversation_changelist"


def page_of(conversation: Conversation) -> str:
    return reverse("admin:conversations_conversation_change", args=[conversation.pk])


def member(chatbot: Chatbot) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    Membership.objects.create(chatbot=chatbot, user=user, role=Membership.Role.VIEWER)
    client = Client()
    client.force_login(user)
    return client


def deleted(chatbot: Chatbot) -> Conversation:
    """A conversation as a deletion leaves it."""
    return factories.ConversationFactory.create(
        chatbot=chatbot,
        external_id=None,
        message_count=None,
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        score="8.5",
        csat_score=4,
        csat_vote="positive",
        deletion_request_id=uuid4(),
        deleted_at=timezone.now(),
    )


def marked(chatbot: Chatbot) -> Conversation:
    """A conversation that a deletion has marked and not erased yet."""
    return factories.conversation_of(
        chatbot, "42", message_count=777_777, user_name="Ada", csat_comment="so kind", deletion_request_id=uuid4()
    )


def test_it_lists_conversations_newest_first(admin_client: Client, chatbot: Chatbot) -> None:
    older = factories.conversation_of(chatbot, "42", started_at=datetime(2026, 10, 1, 8, 30, tzinfo=UTC))
    newer = factories.conversation_of(chatbot, "42", score="8.5", csat_score=4)

    text = admin_client.get(reverse(LOG)).text

    assert text.index(page_of(newer)) < text.index(page_of(older))
    assert "2026-10-01 08:30" in text
    assert "8.5" in text


def test_one_chatbots_log_stands_in_the_order_of_time_and_several_in_that_of_arrival(
    admin_client: Client, chatbot: Chatbot
) -> None:
    first = factories.conversation_of(chatbot, "42")
    second = factories.conversation_of(chatbot, "42", started_at=datetime(2026, 10, 1, 8, 30, tzinfo=UTC))

    everything = admin_client.get(reverse(LOG)).text
    of_one = admin_client.get(reverse(LOG) + f"?chatbot={chatbot.slug}").text

    assert everything.index(page_of(second)) < everything.index(page_of(first))
    assert of_one.index(page_of(first)) < of_one.index(page_of(second))


def test_it_counts_and_shows_no_more_than_the_first_rows(
    admin_client: Client, chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShortPaginator, "most", 3)
    monkeypatch.setattr(ConversationAdmin, "list_per_page", 2)
    numbers = [factories.conversation_of(chatbot, "42", messages=0).pk for _ in range(5)]

    with CaptureQueriesContext(connection) as queries:
        answer = admin_client.get(reverse(LOG) + "?p=2")

    assert [row.pk for row in answer.context["cl"].result_list] == [numbers[2]]
    assert answer.context["cl"].result_count == 3
    assert not any("COUNT(*)" in query["sql"] for query in queries)


def test_it_opens_a_conversation_with_its_fields_and_message_count_only(
    admin_client: Client, chatbot: Chatbot
) -> None:
    conversation = factories.conversation_of(chatbot, "42", text="a secret wish", user_name="Ada", messages=3)

    answer = admin_client.get(page_of(conversation))

    assert answer.status_code == 200
    assert "Ada" in answer.text
    assert "a secret wish" not in answer.text
    assert "Save" not in answer.text


@pytest.mark.parametrize(
    ("closed", "label"), [(deleted, "Deleted conversation"), (marked, "Conversation being deleted")]
)
def test_it_lists_a_closed_conversation_without_a_link_and_answers_410(
    admin_client: Client, chatbot: Chatbot, closed: Callable[[Chatbot], Conversation], label: str
) -> None:
    conversation = closed(chatbot)

    text = admin_client.get(reverse(LOG)).text
    assert label in text
    assert "2026-11-01" in text
    assert page_of(conversation) not in text
    for hidden in ("12:00", ">777777<", "Ada", "so kind"):
        assert hidden not in text

    for page in (page_of(conversation), reverse("admin:conversations_conversation_history", args=[conversation.pk])):
        answer = admin_client.get(page)
        assert answer.status_code == 410
        assert answer.text == "This conversation was deleted. It cannot be opened."
    assert admin_client.post(page_of(conversation)).status_code == 410


def test_it_still_shows_what_is_kept_of_a_deleted_conversation(admin_client: Client, chatbot: Chatbot) -> None:
    deleted(chatbot)

    text = admin_client.get(reverse(LOG)).text

    for kept in ("8.5", "Web widget", "Positive"):
        assert kept in text


def test_it_shows_a_member_only_their_conversations(chatbot: Chatbot, neighbour: Chatbot) -> None:
    ours, theirs = factories.conversation_of(chatbot, "42"), factories.conversation_of(neighbour, "42")
    client = member(chatbot)

    text = client.get(reverse(LOG)).text
    assert page_of(ours) in text
    assert page_of(theirs) not in text
    assert "Neighbour" not in text  # nor among the filters

    assert client.get(page_of(ours)).status_code == 200
    assert client.get(page_of(theirs)).status_code == 302  # as for one that does not exist
    assert page_of(theirs) not in client.get(reverse(LOG), {"chatbot": "neighbour"}).text


def test_it_does_not_tell_a_member_that_a_conversation_outside_the_scope_was_deleted(
    chatbot: Chatbot, neighbour: Chatbot
) -> None:
    assert member(chatbot).get(page_of(deleted(neighbour))).status_code == 302


def test_it_changes_nothing(admin_client: Client, chatbot: Chatbot) -> None:
    conversation = factories.conversation_of(chatbot, "42")

    assert admin_client.post(page_of(conversation), {"user_name": "Eve"}).status_code == 403
    delete = reverse("admin:conversations_conversation_delete", args=[conversation.pk])
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    assert admin_client.get(reverse("admin:conversations_conversation_add")).status_code == 403
    assert "delete_selected" not in admin_client.get(reverse(LOG)).text


def test_it_has_no_search(admin_client: Client, chatbot: Chatbot) -> None:
    factories.conversation_of(chatbot, "42")

    assert 'name="q"' not in admin_client.get(reverse(LOG)).text


@pytest.mark.parametrize(("state", "found"), [("live", 0), ("marked", 1), ("deleted", 2), ("other", 3)])
def test_it_filters_by_state(admin_client: Client, chatbot: Chatbot, state: str, found: int) -> None:
    marked(chatbot)
    deleted(chatbot)
    deleted(chatbot)

    answer = admin_client.get(reverse(LOG), {"state": state})

    assert answer.context["cl"].result_count == found


def test_it_reads_a_page_of_the_log_in_few_queries(
    admin_client: Client, chatbot: Chatbot, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(20):
        factories.conversation_of(chatbot, "42", messages=0)

    with django_assert_max_num_queries(6):
        admin_client.get(reverse(LOG), {"chatbot": "acme"})
