"""Another person continues a conversation: the client's server is called again, and no export has it meanwhile."""

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from chatbots.operations.chatbots import change_chatbot
from common.storage import ObjectStorage
from compliance.lookups.queue import RESOLVERS, Lookups, look_up
from conversations.identification import GivenIdentity, identify
from conversations.models import Conversation, IdentityLookup, RefusedIdentity
from tests.functional.company import Company, document, found_anywhere, is_erased, settle, words_in, work
from tests.functional.refusing import EXPORTS, Refusals
from tests.looking_up import SESSION, identities, make_due, with_resolver
from tests.receivers import Received, Receiver, receiving

# The answers of the client's server about a session: a chatter, no chatter, or nothing usable.
ANSWERS = {"a": b'{"value": "alice"}', "b": b'{"value": "bob"}', "nobody": b'{"value": null}', "bad": b"garbage"}


@pytest.fixture
def receiver(chatbot: Chatbot) -> Iterator[Receiver]:
    def respond(received: Received) -> bytes:
        return ANSWERS[received.payload["variables"][SESSION]]

    RESOLVERS.forget()
    with receiving(respond=respond) as one:
        with_resolver(chatbot, one.url())
        yield one
    RESOLVERS.forget()


@pytest.fixture
def talk(company: Company, receiver: Receiver) -> Conversation:
    """A conversation of Alice, identified by the client's server."""
    say(company, "a")
    look_up()
    [one] = Conversation.objects.all()
    assert identities(one) == [("alice", "resolved")]
    return one


def said(session: str | None, name: str = "c-1", **fields: Any) -> dict[str, Any]:
    variables = {"user_channel_variables": {SESSION: session}} if session else {}
    return document(name, at=timezone.now(), **variables | fields)


def say(company: Company, *sessions: str | None, name: str = "c-1", **fields: Any) -> None:
    """Send a document of each of these sessions in one call."""
    results = company.send(*(said(one, name, **fields) for one in sessions))
    assert {one["error"] and one["error"]["code"] for one in results} == {None}


def previewed(company: Company, subject: str | list[str], **options: bool) -> list[int]:
    """Return how many conversations an export would have, and leaves out as unverified and as shared."""
    by_uci = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": subject}
    body = by_uci if isinstance(subject, str) else {"conversation_ids": subject}
    said = company.caller.post("preview", body | options | {"action": "export"}).json()["export"]
    return [said[name] for name in ("conversations", "unverified_left_out", "shared_left_out")]


def exported(company: Company, storage: ObjectStorage, subject: str | list[str], **options: bool) -> list[int]:
    """As `previewed`, of an export that is made: it has the words of what it counts, and no others."""
    said = previewed(company, subject, **options)
    shown = company.request_object(str(company.exported(subject, **options).request_id))
    assert [shown["counts"]["conversations"], shown["unverified_left_out"]] == said[:2]
    assert (words_in("c-1") in storage.read(shown["export"]["key"]).decode()) is bool(said[0])
    return said


def demand(company: Company, least: str) -> None:
    change_chatbot(chatbot=company.chatbot, changes={"export_assurance": least}, actor="command")


# What happens: sessions, some of them in one call, and steps; and whether an export by UCI has the conversation: with
# `any`, and with what demands an identity.
LOOK_UP, GIVE_UP = "(look up)", "(give up)"
WAITS, DOUBTED, IS_IN = (False, False), (True, False), (True, True)
HAPPENINGS: dict[str, tuple[list[str | tuple[str, ...]], tuple[bool, bool]]] = {
    "nothing": ([], IS_IN),
    "the session of nobody": (["nobody", LOOK_UP], IS_IN),
    "no usable answer": (["bad", LOOK_UP], DOUBTED),
    "given up": (["b", GIVE_UP, LOOK_UP], DOUBTED),
    "two changes in a row, the latter answered": (["b", "nobody", LOOK_UP], DOUBTED),
    "two changes in one call": ([("b", "nobody"), LOOK_UP], DOUBTED),
    "a change that was skipped, then one that is answered": (["b", "nobody", LOOK_UP, "a", LOOK_UP], DOUBTED),
    "back again": (["b", "a", LOOK_UP], DOUBTED),
    "two changes, each answered": (["nobody", LOOK_UP, "a", LOOK_UP], IS_IN),
    "a failed one is followed by an answer": (["bad", LOOK_UP, "nobody", LOOK_UP], DOUBTED),
    "logged out": (["undefined"], IS_IN),
    "logged out and in": ([("undefined", "a"), LOOK_UP], IS_IN),
    "a session that ends before it was looked up": (["b", "undefined", LOOK_UP], DOUBTED),
    "a session that begins and ends in one call": ([("b", "undefined"), LOOK_UP], DOUBTED),
    # Nothing is looked up any more.
    "not answered yet": (["b"], WAITS),
    "given up unnoticed": (["b", GIVE_UP], DOUBTED),
    "two changes in a row": (["b", "nobody"], WAITS),
}


def test_exports_leave_out_what_is_not_looked_up_again(company, receiver, storage) -> None:
    """Each happens to a conversation of Alice, identified by the client's server."""
    company.send(*(said("a", name) for name in HAPPENINGS))
    look_up()
    for name, (steps, _) in HAPPENINGS.items():
        lookup = IdentityLookup.objects.filter(conversation__external_id=name)
        for step in steps:
            if step == LOOK_UP:
                look_up()
            elif step == GIVE_UP:
                lookup.update(give_up_at=timezone.now() - timedelta(seconds=1))
            else:
                say(company, *([step] if isinstance(step, str) else step), name=name)

    for place, least in enumerate(("any", "platform", "verified")):
        demand(company, least)
        expected = {name for name, (_, is_in) in HAPPENINGS.items() if is_in[min(place, 1)]}
        assert previewed(company, "alice") == [len(expected), len(HAPPENINGS) - len(expected), 0]
        file = storage.read(str(company.exported("alice").key)).decode()
        assert {row["conversation_id"] for row in csv.DictReader(io.StringIO(file))} == expected, least
    # What is left out stays so for as long as the conversation is here.
    kept = IdentityLookup.objects.filter(expires_at=None).values_list("conversation__external_id", flat=True)
    assert set(kept) == {name for name, (_, is_in) in HAPPENINGS.items() if is_in != IS_IN}


def test_the_answer_makes_it_a_conversation_of_two(company, talk, storage) -> None:
    demand(company, "verified")
    say(company, "b")
    make_due(company.chatbot)
    look_up()
    assert sorted(identities(talk)) == [("alice", "resolved"), ("bob", "resolved")]
    assert exported(company, storage, "alice") == [0, 0, 1]
    assert exported(company, storage, "bob", include_shared=True) == [1, 0, 0]
    company.delete("bob", erase_exports=True)
    settle()
    assert is_erased(talk.pk)


def test_an_identity_that_is_said_meanwhile_answers_nothing(company, talk, receiver, storage) -> None:
    say(company, "b")
    identify(chatbot=company.chatbot, identities=[GivenIdentity(id="c-1", key="member_id", value="alice")])
    assert exported(company, storage, "alice", include_shared=True) == [0, 1, 0]
    look_up()
    assert len(receiver.received) == 2
    assert {value for value, _ in identities(talk)} == {"alice", "bob"}
    assert exported(company, storage, "alice", include_shared=True) == [1, 0, 0]


def test_who_begins_a_conversation_is_named_by_its_document(company, receiver) -> None:
    say(company, "a", None, custom_variables={"member_id": "alice"})
    assert not IdentityLookup.objects.exists()
    say(company, "b", custom_variables={"member_id": "alice"})
    assert previewed(company, "alice") == [0, 1, 0], "a stale variable of the platform identifies no chatter again"
    look_up()
    assert [one.payload["variables"][SESSION] for one in receiver.received] == ["b"]


def test_a_session_that_comes_after_the_identity_is_looked_up(company, receiver) -> None:
    say(company, None, custom_variables={"member_id": "alice"})
    say(company, "b")
    assert previewed(company, "alice") == [0, 1, 0]
    look_up()
    assert previewed(company, "bob", include_shared=True) == [1, 0, 0]


def test_words_before_the_first_answer_are_in_doubt(company, receiver) -> None:
    say(company, "bad", name="after a failed look-up")
    look_up()
    say(company, "a", name="in two calls")
    say(company, "a", "b", name="in one call")
    for name in ("after a failed look-up", "in two calls"):
        say(company, "b", name=name)
    look_up()
    assert previewed(company, "bob") == [3, 0, 0]
    demand(company, "verified")
    assert previewed(company, "bob") == [0, 3, 0]


def test_an_identity_of_the_next_session_says_nothing_of_the_one_before(company, receiver) -> None:
    named = {"custom_variables": {"member_id": "alice"}}
    company.send(said("b", "in one call"), said("nobody", "in one call", **named))
    company.send(said("b", "in two calls"))
    company.send(said("nobody", "in two calls", **named))
    make_due(company.chatbot)
    look_up()
    demand(company, "platform")
    assert previewed(company, "alice") == [0, 2, 0]


def test_a_first_look_up_leaves_nothing_out(company: Company, receiver: Receiver) -> None:
    say(company, "nobody")
    look_up()
    say(company, "a")
    identify(chatbot=company.chatbot, identities=[GivenIdentity(id="c-1", key="member_id", value="alice")])
    demand(company, "verified")
    assert previewed(company, "alice") == [1, 0, 0]


def test_an_old_conversation_is_looked_up_again_as_well(company, talk, storage) -> None:
    Conversation.objects.update(started_at=timezone.now() - timedelta(days=3))
    say(company, "b")
    assert previewed(company, "alice") == [0, 1, 0]
    assert exported(company, storage, ["c-1"]) == [1, 0, 0], "by ids it is whole, for any chatter"


def test_the_person_who_was_erased_meanwhile_is_listed_and_in_no_verified_export(company, talk, storage) -> None:
    say(company, "b")
    company.delete("bob")
    settle()
    look_up()
    assert identities(talk) == [("alice", "resolved")]
    assert RefusedIdentity.objects.get().conversation == talk
    demand(company, "verified")
    assert exported(company, storage, "alice") == [0, 1, 0]


def test_a_deletion_while_the_look_up_waits_leaves_nothing_to_answer(company, talk, receiver, storage) -> None:
    """It is never narrowed."""
    say(company, "b")
    demand(company, "verified")
    company.delete("alice", erase_exports=True)
    settle()
    look_up()
    assert len(receiver.received) == 1
    assert is_erased(talk.pk)
    assert found_anywhere(storage, ["c-1"]) == set()
    [late] = company.send(said("bob"))
    assert late["error"]["code"] == "conversation_deleted"
    assert not IdentityLookup.objects.exists()


def test_a_worker_that_dies_before_it_notes_the_answer_leaves_it_in_doubt(company, talk, receiver, monkeypatch):
    say(company, "b")
    with monkeypatch.context() as patch:
        patch.setattr(Lookups, "end", lambda *call, **options: None)
        look_up()
    assert sorted(value or "" for value, _ in identities(talk)) == ["alice", "bob"]
    assert previewed(company, "alice", include_shared=True) == [0, 1, 0]
    make_due(company.chatbot)
    look_up()
    assert len(receiver.received) == 3
    assert previewed(company, "alice", include_shared=True) == [1, 0, 0]


@pytest.mark.usefixtures("refused_at_once", "receiver")
@pytest.mark.parametrize(("session", "status"), [("b", "on_hold"), ("bad", "completed")])
def test_a_failed_export_holds_a_deletion_by_ids_unless_it_leaves_that_out_for_good(
    company: Company, talk: Conversation, refusals: Refusals, session: str, status: str
) -> None:
    demand(company, "verified")
    refusals.forbidden.add(EXPORTS)
    company.export("alice")
    work()
    say(company, session)
    if session == "bad":
        look_up()
    preview = company.caller.post("preview", {"conversation_ids": ["c-1"], "action": "delete"}).json()
    deletion = company.delete(["c-1"])
    refusals.end()
    work()
    assert company.status(deletion) == status
    assert preview["deletion"]["held_by"] == ["export_pending"] * (status == "on_hold")
