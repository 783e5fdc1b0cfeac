"""Identities that a client's server asserts: what later requests find, and what naming an erased chatter does."""

from datetime import timedelta
from functools import partial

import pytest
from django.conf import settings
from django.utils import timezone

from chatbots.models import Chatbot
from compliance import worker
from compliance.erasure import rows
from compliance.models import ComplianceRequest
from conversations import rows as intake_rows
from conversations.identification import GivenIdentity, IdentifyResult, identify
from conversations.models import Conversation, Identity, RefusedIdentity, Tombstone
from tests.calls import TokenCaller
from tests.factories import conversation_of, deletion_of
from tests.functional.company import NOON, Company, document, found_anywhere, is_erased, settle, words_in
from tests.functional.elsewhere import PATIENCE, Elsewhere
from tests.tokens import Backend


@pytest.fixture
def identifier(chatbot: Chatbot) -> TokenCaller:
    """A program whose key may only identify."""
    return TokenCaller(chatbot, scopes=["identities:write"])


def named(caller: TokenCaller, conversation_id: str, value: str) -> str:
    """Identify the chatter of a conversation; return the outcome, or the error code."""
    body = {
        "id": conversation_id,
        "unique_chatter_identifier_key": "member_id",
        "unique_chatter_identifier_value": value,
    }
    [result] = caller.post("conversations/identify", {"identities": [body]}).json()["results"]
    return str(result["error"]["code"] if result["error"] else result["outcome"])


def erased_alice(company: Company) -> str:
    deletion = company.delete("alice")
    settle()
    assert company.status(deletion) == "completed"
    return deletion


def test_requests_by_the_value_find_the_conversation(company, identifier, storage) -> None:
    late, others = company.talk("c-late"), company.talk("c-other", "carol")
    assert named(identifier, "c-late", "alice") == "created"

    export = company.exported("alice")
    assert words_in("c-late") in storage.read(str(export.key)).decode()
    deletion = company.delete("alice", erase_exports=True)
    settle()

    assert company.request_object(deletion)["counts"]["identities"] == 1
    assert (is_erased(late), is_erased(others)) == (True, False)
    assert found_anywhere(storage, ["c-late", "c-other"]) == {"c-other"}


def test_a_conversation_without_identity_is_erased_by_the_next_sweep(company, identifier, storage) -> None:
    number = company.talk("c-late", has_file=True)
    deletion = erased_alice(company)

    assert named(identifier, "c-late", "alice") == "chatter_erased"
    worker.sweep()

    assert is_erased(number)
    assert company.request_object(deletion)["counts"]["conversations"] == 1
    assert found_anywhere(storage, ["c-late"]) == set()
    assert not RefusedIdentity.objects.exists()
    assert named(identifier, "c-late", "alice") == "conversation_deleted"


def test_a_conversation_that_an_export_waits_for_is_not_erased_by_naming(company, identifier, storage) -> None:
    numbers = {name: company.talk(name) for name in ("c-call", "c-token")}
    erased_alice(company)
    export = company.export(list(numbers))

    assert named(identifier, "c-call", "alice") == "chatter_erased"
    [result] = company.send({"id": "c-token", "identity_token": Backend(company.chatbot).token("alice")})
    assert result["error"]["code"] == "chatter_erased"
    settle()
    worker.sweep()

    file = storage.read(company.request_object(export)["export"]["key"]).decode()
    for name, number in numbers.items():
        assert words_in(name) in file
        assert not is_erased(number)
    listed = RefusedIdentity.objects.values_list("conversation", flat=True)
    assert set(listed) == set(numbers.values()), "an officer decides"
    # No caller waits for them any more.
    assert {named(identifier, name, "alice") for name in numbers} == {"chatter_erased"}
    worker.sweep()
    assert [is_erased(number) for number in numbers.values()] == [True, True]


def test_what_is_listed_goes_with_its_conversation(company: Company, identifier: TokenCaller) -> None:
    company.talk("c-1", "carol")
    company.talk("c-2", "carol")
    company.talk("c-3", "dave")
    erased_alice(company)
    for name in ("c-1", "c-2", "c-3"):
        assert named(identifier, name, "alice") == "chatter_erased"
    assert RefusedIdentity.objects.count() == 3

    for subject in ("carol", ["c-3"]):
        deletion = company.delete(subject)
        settle()
        assert company.status(deletion) == "completed"
        assert RefusedIdentity.objects.count() == (1 if subject == "carol" else 0)


def test_what_is_listed_expires_with_the_erased_chatter(company: Company, identifier: TokenCaller) -> None:
    company.talk("c-1", "carol")
    deletion = erased_alice(company)
    assert named(identifier, "c-1", "alice") == "chatter_erased"

    past = timezone.now() - timedelta(seconds=1)
    for model in (RefusedIdentity, Tombstone):
        model._default_manager.update(expires_at=past)
    worker.sweep()
    # As long as its digest is kept.
    assert (RefusedIdentity.objects.count(), Tombstone.objects.count()) == (1, 1)
    ComplianceRequest.objects.filter(pk=deletion).update(completed_at=past - settings.ERASURE_LEDGER_DAYS)
    worker.sweep()
    assert (RefusedIdentity.objects.count(), Tombstone.objects.count()) == (0, 0)
    assert named(identifier, "c-1", "alice") == "created"


# --- Races with a mark


def identified(chatbot: Chatbot, conversation: Conversation, value: str = "42") -> list[IdentifyResult]:
    return identify(chatbot=chatbot, identities=[GivenIdentity(number=conversation.pk, key="member_id", value=value)])


def test_an_identity_that_is_stored_while_the_mark_waits_is_found_by_it(chatbot, storage, gates) -> None:
    conversation = conversation_of(chatbot, messages=2)
    request = deletion_of(chatbot, "42")
    gate = gates(intake_rows, "write", after=True)
    naming = Elsewhere(lambda: identified(chatbot, conversation))
    gate.wait_for_caller()
    deletion = Elsewhere(lambda: worker.drain(seconds=PATIENCE))

    assert deletion.waits  # for the identity that is being stored
    gate.open()
    assert naming.end()[0].outcome == "created"
    deletion.end()

    request.refresh_from_db()
    assert (request.status, request.conversations, request.messages) == ("completed", 1, 2)
    assert is_erased(conversation.pk)
    assert not Identity.objects.exists()


@pytest.mark.parametrize("people", [[], ["stranger"]], ids=["of nobody", "of a stranger"])
def test_an_identity_that_comes_while_a_mark_runs_waits_and_is_refused(chatbot, storage, gates, people) -> None:
    conversation_of(chatbot, "42")
    conversation = conversation_of(chatbot, *people)
    request = deletion_of(chatbot, "42")
    gate = gates(rows, "erase")
    deletion = Elsewhere(lambda: worker.drain(seconds=PATIENCE))
    gate.wait_for_caller()
    naming = Elsewhere(lambda: identified(chatbot, conversation))

    assert naming.waits  # the mark is not committed yet
    gate.open()
    deletion.end()
    [result] = naming.end()

    assert [error.code for error in result.errors] == ["chatter_erased"]
    worker.sweep()
    assert is_erased(conversation.pk) is not bool(people)
    assert Identity.objects.filter(conversation=conversation, value__isnull=False).count() == len(people)
    # It goes with the conversation.
    assert list(RefusedIdentity.objects.values_list("request_id", flat=True)) == [request.pk] * len(people)


def test_two_that_name_the_same_conversations_in_other_orders_end_with_one_identity_each(chatbot: Chatbot) -> None:
    conversations = [conversation_of(chatbot, messages=0) for _ in range(20)]

    def name_all(step: int) -> list[str]:
        identities = [GivenIdentity(number=one.pk, key="member_id", value="42") for one in conversations[::step]]
        return [result.outcome for result in identify(chatbot=chatbot, identities=identities)]

    both = [Elsewhere(partial(name_all, step)) for step in (1, -1)]
    outcomes = sorted(tuple(sorted(set(one.end()))) for one in both)

    assert outcomes == [("confirmed",), ("created",)]
    assert Identity.objects.count() == len(conversations)


def test_naming_an_erased_chatter_and_a_document_that_names_them_close_it_once(company, identifier, gates) -> None:
    number = company.talk("c-late")
    deletion = erased_alice(company)
    gate = gates(intake_rows, "list_refused")
    naming = Elsewhere(lambda: named(identifier, "c-late", "alice"))
    gate.wait_for_caller()
    sending = Elsewhere(lambda: company.send(document("c-late", "alice", at=NOON)))

    assert sending.waits
    gate.open()
    assert naming.end() == "chatter_erased"
    [result] = sending.end()
    assert result["error"]["code"] == "conversation_deleted"
    assert str(Conversation.objects.get(pk=number).deletion_request_id) == deletion
