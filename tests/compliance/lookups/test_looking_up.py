"""Looking up who a chatter is: what the client's server gets, and what becomes of its answer."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from chatbots.models import Chatbot, Resolver
from chatbots.operations.chatbots import NewVariable, add_variable, change_chatbot, designate_uci
from chatbots.operations.resolvers import remove_resolver
from compliance.lookups import queue
from compliance.lookups.queue import Lookups, look_up
from conversations.identification import GivenIdentity, identify
from conversations.intake import store
from conversations.models import Conversation, IdentityLookup, RefusedIdentity, VariableValue
from tests.conversations.documents import update
from tests.conversations.intakes import erase
from tests.factories import deletion_of
from tests.looking_up import SESSION, after_a_turn, begin, identities, lookup_of, make_due, resolver_of, with_resolver
from tests.patches import after, before
from tests.receivers import Receiver, receiving
from tests.under_roles import role


def test_the_answer_becomes_the_identity(chatbot: Chatbot, secret: str, receiver: Receiver) -> None:
    [one] = begin(chatbot, "c-1")
    assert after_a_turn(one) == ("resolved", "")
    assert identities(one) == [("42", "resolved")]
    [received] = receiver.received
    assert received.path == "/who-5813"
    assert received.payload == {
        "type": "identity.lookup",
        "conversation_id": "c-1",
        "variables": {SESSION: "token-c-1"},
    }
    assert received.headers["Content-Type"] == "application/json"
    assert received.is_webhook_of(secret)
    lookup = lookup_of(one)
    assert lookup.attempts == 1
    assert lookup.finished_at is not None
    assert timedelta(days=6) < lookup.expires_at - lookup.finished_at <= timedelta(days=7)
    look_up()
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({"send": ["member_of"], "session_token": None}, "resolved"),
        ({"send": ["member_of", SESSION]}, "resolved"),
        ({"session_token": None}, "custom"),
        ({"send": [SESSION, "plan"]}, "custom"),
    ],
)
def test_what_can_be_forged_on_the_way_verifies_nothing(chatbot, receiver, options, way) -> None:
    add_variable(chatbot=chatbot, variable=NewVariable("custom", "member_of"), actor="test")
    with_resolver(chatbot, receiver.url(), **options)
    [one] = begin(chatbot, "c-1", custom_variables={"member_of": "x"})
    store(chatbot=chatbot, documents=[update("c-1", user_channel_variables={"plan": "gold"})])
    assert after_a_turn(one) == ("resolved", "")
    assert identities(one) == [("42", way)]


@pytest.mark.long(reason="a call for each answer", beyond=6)
@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"value": null}', ("unknown", "")),
        (404, b"", ("unknown", "")),
        (404, b'{"value": "42"}', ("unknown", "")),
        (200, b'{"value": 42}', ("failed", "not_text")),
        (200, b'{"other": "42"}', ("failed", "no_value")),
        (200, b'["42"]', ("failed", "no_value")),
        (200, b"<html>", ("failed", "not_json")),
        (200, b'{"value": "1", "value": "42"}', ("failed", "not_json")),
        (200, b'{"value": "\xff"}', ("failed", "not_json")),
        (200, b"[" * 60_000, ("failed", "not_json")),
        (200, b'{"value": ""}', ("failed", "bad_value")),
        (200, b'{"value": "\\ud800"}', ("failed", "bad_value")),
        (200, json.dumps({"value": "x" * 70_000}).encode(), ("failed", "answer_too_long")),
        (200, b'{"value": "42"}' + b" " * 10_000_000, ("failed", "answer_too_long")),
        (201, b'{"value": "42"}', ("pending", "bad_status")),
        (302, b"", ("pending", "bad_status")),
        (500, b'{"value": "42"}', ("pending", "bad_status")),
    ],
)
@pytest.mark.usefixtures("secret")
def test_answers_that_say_nothing(chatbot, receiver, status, body, outcome) -> None:
    receiver.answers, receiver.body = [status], body
    if status == 302:
        receiver.headers["Location"] = receiver.url("/elsewhere")
    [one] = begin(chatbot, "c-1")
    assert after_a_turn(one) == outcome
    assert identities(one) == []
    assert [each.path for each in receiver.received] == ["/who-5813"]
    lookup = lookup_of(one)
    assert lookup.attempts == 1
    if outcome[0] == "pending":
        assert lookup.next_attempt_at is not None
        assert lookup.next_attempt_at > timezone.now()


def test_the_pointer_says_where_the_value_is(chatbot: Chatbot, receiver: Receiver) -> None:
    answers: list[tuple[str, bytes, str | None]] = [
        ("", b'"42"', "42"),
        ("/data/members/1/id", b'{"data": {"members": [{}, {"id": "42"}]}}', "42"),
        ("/a~1b/m~0n", b'{"a/b": {"m~n": "42"}}', "42"),
        ("/0", b'{"0": "42"}', "42"),
        ("/01", b'["41", "42"]', None),
        ("/-", b'["42"]', None),
        ("/", b'{"": "42"}', "42"),
    ]
    for number, (pointer, body, found) in enumerate(answers):
        with_resolver(chatbot, receiver.url(), pointer=pointer)
        receiver.body = body
        [one] = begin(chatbot, f"c-{number}")
        look_up()
        assert identities(one) == ([(found, "resolved")] if found else []), pointer


def test_what_failed_is_tried_again_until_a_day_is_over(chatbot: Chatbot, secret: str, receiver: Receiver) -> None:
    receiver.answers = [503, 503, 503, 200]
    [one] = begin(chatbot, "c-1")
    assert after_a_turn(one) == ("pending", "bad_status")
    make_due(chatbot)
    look_up()
    assert lookup_of(one).attempts == 2
    IdentityLookup.objects.update(give_up_at=timezone.now())
    make_due(chatbot)
    assert after_a_turn(one) == ("failed", "bad_status")
    assert len(receiver.received) == 2
    make_due(chatbot)
    look_up()
    assert len(receiver.received) == 2
    assert identities(one) == []


def test_a_changed_value_is_sent(chatbot: Chatbot, secret: str, receiver: Receiver) -> None:
    receiver.answers = [404, 200]
    [one] = begin(chatbot, "c-1")
    assert after_a_turn(one) == ("unknown", "")
    begin(chatbot, "c-1", session="another")
    assert after_a_turn(one) == ("resolved", "")
    assert [each.payload["variables"][SESSION] for each in receiver.received] == ["token-c-1", "another"]


def test_nothing_is_called_once_the_identity_is_known(chatbot: Chatbot, secret: str, receiver: Receiver) -> None:
    [one, _, three] = begin(chatbot, "c-1", "c-2", "c-3")
    store(chatbot=chatbot, documents=[update("c-1", custom_variables={"member_id": "7"})])
    identify(chatbot=chatbot, identities=[GivenIdentity(id="c-2", key="member_id", value="8")])
    Conversation.objects.filter(pk=three.pk).update(deletion_request_id=uuid4())
    look_up()
    assert receiver.received == []
    assert not IdentityLookup.objects.exists()
    assert identities(one) == [("7", "custom")]


def test_many_that_need_no_call_hold_up_none(chatbot: Chatbot, secret: str, receiver: Receiver) -> None:
    ids = [f"c-{number}" for number in range(20)]
    begin(chatbot, *ids)
    identify(chatbot=chatbot, identities=[GivenIdentity(id=one, key="member_id", value="7") for one in ids])
    [last] = begin(chatbot, "last")
    look_up()
    assert identities(last) == [("42", "resolved")]
    assert [one.payload["conversation_id"] for one in receiver.received] == ["last"]
    assert IdentityLookup.objects.count() == 1


@pytest.mark.parametrize("way", ["compliance", "uci", "removed"])
def test_nothing_is_called_while_it_is_off(chatbot: Chatbot, secret: str, receiver: Receiver, way: str) -> None:
    begin(chatbot, "c-1")
    if way == "compliance":
        change_chatbot(chatbot=chatbot, actor="test", changes={"compliance_enabled": False})
    elif way == "uci":
        designate_uci(chatbot=chatbot, name="plan", actor="test")
    else:
        remove_resolver(chatbot=chatbot, actor="test")
    assert not look_up()
    assert receiver.received == []


@pytest.mark.parametrize("is_expired", [True, False], ids=["expired", "a placeholder"])
def test_a_value_that_is_gone_ends_it(chatbot, secret, receiver, is_expired) -> None:
    [one] = begin(chatbot, "c-1")
    if is_expired:
        VariableValue.objects.all().delete()
    else:
        begin(chatbot, "c-1", session="undefined")
    assert after_a_turn(one) == ("failed", "value_missing")
    assert receiver.received == []


def test_an_erased_chatter_is_refused_and_listed(chatbot: Chatbot, secret: str, receiver: Receiver) -> None:
    [one] = begin(chatbot, "c-1")
    erase(chatbot, "42", cutoff_at=timezone.now() + timedelta(hours=1))
    assert after_a_turn(one) == ("failed", "not_stored")
    assert not any(value for value, _ in identities(one))
    assert RefusedIdentity.objects.get().conversation == one


def test_a_deletion_removes_the_look_ups_of_its_conversations_alone(chatbot, secret, receiver, drain) -> None:
    [one, _] = begin(chatbot, "c-1", "c-2")
    look_up()
    identify(chatbot=chatbot, identities=[GivenIdentity(id="c-2", key="member_id", value="43")])
    deletion_of(chatbot, "43")
    drain()
    assert list(IdentityLookup.objects.values_list("conversation_id", flat=True)) == [one.pk]


@pytest.mark.usefixtures("secret", "receiver")
def test_what_is_answered_once_the_conversation_is_closed_is_not_stored(chatbot, monkeypatch) -> None:
    """Also when it is closed between the last look at it and the storing."""
    [one] = begin(chatbot, "c-1")

    def close(*arguments: Any) -> None:
        with role("owner"):
            Conversation.objects.filter(pk=one.pk).update(deletion_request_id=uuid4())

    after(monkeypatch, queue, "held", close)
    look_up()
    assert identities(one) == []
    assert not IdentityLookup.objects.exists()


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize("way", ["erased", "identified", "another value"])
def test_what_is_answered_too_late_is_not_stored(chatbot, receiver, monkeypatch, way) -> None:
    """The call is on its way when the look-up is erased, is not needed any more, or is queued with another value."""
    [one] = begin(chatbot, "c-1")
    note = Lookups.note

    def late(self: Lookups, *arguments: Any) -> None:
        with role("owner"):
            if way == "erased":
                IdentityLookup.objects.all().delete()
            elif way == "identified":
                identify(chatbot=chatbot, identities=[GivenIdentity(id="c-1", key="member_id", value="7")])
            else:
                begin(chatbot, "c-1", session="another")
                receiver.body = b'{"value": "of another"}'
        note(self, *arguments)
        monkeypatch.setattr(Lookups, "note", note)

    monkeypatch.setattr(Lookups, "note", late)
    look_up()
    expected = {"erased": [], "identified": [("7", "asserted")], "another value": [("of another", "resolved")]}
    make_due(chatbot)
    look_up()
    assert identities(one) == expected[way]


@pytest.mark.long(reason="each way in which it can change", beyond=1)
@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("way", "body"),
    [
        ("removed", b'{"value": "42"}'),
        ("removed", b"garbage"),
        ("another address", b'{"value": "42"}'),
        ("another address", b'{"value": null}'),
        ("another pointer", b'{"id": "42"}'),
        ("no session token", b'{"value": "42"}'),
        ("another UCI", b'{"value": "42"}'),
    ],
)
def test_what_a_former_resolver_answers_does_not_count(chatbot, receiver, monkeypatch, way, body) -> None:
    """It is changed while the call is on its way: it may have been changed because it answers wrongly."""
    receiver.body = body
    [one] = begin(chatbot, "c-1")

    def late(self: Lookups, *arguments: Any) -> None:
        with role("owner"):
            if way == "removed":
                remove_resolver(chatbot=chatbot, actor="test")
            elif way == "another UCI":
                designate_uci(chatbot=chatbot, name="plan", actor="test")
            else:
                path = "/another" if way == "another address" else "/who-5813"
                token = {"session_token": None} if way == "no session token" else {}
                pointer = {"pointer": "/id"} if way == "another pointer" else {}
                with_resolver(chatbot, receiver.url(path), **token, **pointer)

    before(monkeypatch, Lookups, "note", late)
    look_up()
    assert len(receiver.received) == 1
    assert identities(one) == []
    lookup = lookup_of(one)
    assert (lookup.state, lookup.attempts, lookup.last_error) == ("pending", 0, "")
    assert lookup.token is None, "no worker is kept from calling"
    assert not Resolver.objects.filter(called_at__isnull=False).exists()


def test_chatbots_are_called_at_their_own_addresses(chatbot, neighbour, secret, receiver) -> None:
    with receiving(body=b'{"value": "theirs"}') as another:
        theirs_secret = with_resolver(neighbour, another.url())
        [ours], [theirs] = begin(chatbot, "c-1"), begin(neighbour, "c-1")
        look_up()
    assert (identities(ours), identities(theirs)) == ([("42", "resolved")], [("theirs", "resolved")])
    [received] = another.received
    assert received.is_webhook_of(theirs_secret)
    assert not received.is_webhook_of(secret)


def test_without_a_secret_it_is_tried_again(chatbot: Chatbot, secret: str, receiver: Receiver) -> None:
    [one] = begin(chatbot, "c-1")
    chatbot.callback_secrets.all().delete()
    assert after_a_turn(one) == ("pending", "signing_key_missing")
    assert receiver.received == []
    assert resolver_of(chatbot).last_error == "signing_key_missing"


def test_a_resolver_keeps_since_when_it_fails(chatbot: Chatbot, secret: str, receiver: Receiver) -> None:
    receiver.answers = [500, 500, 200]
    begin(chatbot, "c-1")
    look_up()
    first = resolver_of(chatbot)
    assert first.failing_since is not None
    assert first.last_error == "bad_status"
    make_due(chatbot)
    look_up()
    assert resolver_of(chatbot).failing_since == first.failing_since
    make_due(chatbot)
    look_up()
    assert resolver_of(chatbot).failing_since is None
    assert resolver_of(chatbot).last_error == "bad_status"


def test_nothing_sent_or_answered_is_logged(chatbot, secret, receiver, caplog) -> None:
    caplog.set_level("DEBUG")
    bodies = [b'{"value": "alice-77"}', b'{"value": {"alice-77": 1}}', b"alice-77"]
    receiver.before_answer = lambda: setattr(receiver, "body", bodies.pop())
    begin(chatbot, "c-alice-77-1", "c-alice-77-2", "c-alice-77-3", session="alice-77-{}")
    look_up()
    assert len(receiver.received) == 3
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("django.db")]
    assert any("lookup.failed" in line for line in ours)
    for secret_text in ("alice-77", "who-5813", "127.0.0.1"):
        assert not any(secret_text in line for line in ours)
