"""A look-up in several chatbots: those of the user, under each key, with an entry in the change log of each."""

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chatbots.models import ChangeLogEntry, Chatbot, Membership, Variable
from compliance.requests import lookup
from tests.console.test_lookup import SEARCHES, VALUE, ask, completed, transcripts_of, words_of
from tests.conversations.closing import PLANTED, planted
from tests.factories import IdentityFactory, conversation_of, ready_chatbot
from tests.people import Role, client_of, staff


def test_it_searches_all_chatbots_that_the_user_may_see(chatbot: Chatbot, neighbour: Chatbot) -> None:
    third = ready_chatbot(slug="third")
    ours, theirs, hidden = planted(chatbot), planted(neighbour), planted(third)
    user = staff(chatbot, Role.SUPPORT)
    Membership.objects.create(user=user, chatbot=neighbour, role=Role.VIEWER)
    client = client_of(user)

    for what, text in SEARCHES:
        everywhere = ask(client, what, text, chatbot="", key="")
        shown = set(transcripts_of(everywhere))
        assert shown == ({ours.pk, theirs.pk} if text != VALUE.upper() else set())
        assert f"/conversations/{hidden.pk}/" not in everywhere.text
        assert "third" not in everywhere.text
        # Their role in the other chatbot allows no request.
        assert everywhere.text.count(f"/admin/file/{chatbot.slug}/") == 1
        assert f"/admin/file/{neighbour.slug}/" not in everywhere.text
        assert set(transcripts_of(ask(client, what, text, chatbot=neighbour.slug))) <= {theirs.pk}
    assert "in 2 chatbots" in ask(client, "name", "nobody at all", chatbot="", key="").text


def test_a_value_is_found_under_each_key_with_its_requests(admin_client, chatbot, neighbour) -> None:
    former = Variable.objects.create(chatbot=chatbot, name="old_id", category="custom", was_uci=True)
    conversation_of(chatbot, "42")
    of_former = conversation_of(chatbot)
    IdentityFactory.create(conversation=of_former, variable=former, value="42")
    erased = completed(neighbour, "42")
    answer = ask(admin_client, "value", "42", chatbot="", key="")
    assert len(transcripts_of(answer)) == 2
    words = words_of(answer)
    assert "by member_id" in words
    assert "by old_id" in words
    assert f"Yes, by request {erased.pk}" in words
    only = ask(admin_client, "value", "42", chatbot="", key="old_id")
    assert transcripts_of(only) == [of_former.pk]


def test_each_lookup_is_in_the_change_log_of_each_chatbot_without_its_text(chatbot, neighbour) -> None:
    planted(chatbot)
    user = staff(chatbot, Role.VIEWER)
    Membership.objects.create(user=user, chatbot=neighbour, role=Role.VIEWER)
    client = client_of(user)
    ask(client, "name", PLANTED, chatbot="")
    ask(client, "value", "nobody", chatbot="neighbour")
    ask(client, "request", "no id")
    logged = ChangeLogEntry.objects.filter(event="conversations.looked_up").order_by("pk")
    assert [(one.chatbot, one.actor, one.data) for one in logged] == [
        (chatbot, f"user:{user.pk}", {"by": "name", "shown": 1}),
        (neighbour, f"user:{user.pk}", {"by": "name", "shown": 0}),
        (neighbour, f"user:{user.pk}", {"by": "value", "shown": 0}),
    ]


def test_chatbots_that_hold_nothing_cost_no_queries(admin_client: Client, chatbot: Chatbot) -> None:
    searches = {"value": "42", "name": "42", "conversation": "42", "request": str(completed(chatbot, "42").pk)}

    def asked(what: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            ask(admin_client, what, searches[what], chatbot="", key="")
        return len(captured)

    ready_chatbot(slug="more")
    asked("value")  # the first call of a client also reads its session
    few = {what: asked(what) for what in searches}
    for number in range(5):
        ready_chatbot(slug=f"more-{number}")
    assert {what: asked(what) for what in searches} == few


def test_it_says_that_further_chatbots_hold_something(admin_client, chatbot, neighbour, monkeypatch) -> None:
    monkeypatch.setattr(lookup, "MOST_SHOWN", 1)
    planted(chatbot)
    assert "Choose a chatbot to see the others" not in ask(admin_client, "name", PLANTED, chatbot="").text
    planted(neighbour)
    answer = ask(admin_client, "name", PLANTED, chatbot="")
    assert "Choose a chatbot to see the others" in answer.text
    assert len(transcripts_of(answer)) == 1
