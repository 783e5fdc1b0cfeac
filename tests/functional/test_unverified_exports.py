"""A chatbot's exports leave out conversations whose identity is weaker than it demands; deletions erase them."""

from typing import Any
from uuid import UUID

import pytest

from chatbots.models import ChangeLogEntry, Variable
from chatbots.operations.chatbots import change_chatbot
from common.storage import ObjectStorage
from compliance.models import ExportConversation
from conversations.models import Identity
from tests.compliance.exporting import patch_count
from tests.functional.company import Company, document, found_anywhere, is_erased, settle, words_in, work
from tests.functional.redacting import redact
from tests.functional.refusing import EXPORTS
from tests.under_roles import role

Way = Identity.EstablishedBy


def establish(number: int, way: Way, person: str = "alice") -> int:
    """Let the identity of a person in a conversation have come in this way; return the conversation's number."""
    assert Identity.objects.filter(conversation=number, value=person).update(established_by=way) == 1
    return number


def demand(company: Company, least: str) -> None:
    change_chatbot(chatbot=company.chatbot, changes={"export_assurance": least}, actor="command")


def named(person: str) -> dict[str, Any]:
    return {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": person}


def texts_in(company: Company, storage: ObjectStorage, request_id: str) -> set[str]:
    """Return the conversations of which a finished export has the text."""
    csv = storage.read(company.request_object(request_id)["export"]["key"]).decode()
    return {each for each in ("c-forged", "c-said", "c-real", "c-both") if words_in(each) in csv}


@pytest.fixture
def alice(company: Company) -> dict[str, int]:
    """Alice's conversations: identified through the user channel, by the platform, and verified."""
    return {
        "c-forged": establish(company.talk("c-forged", "alice", has_file=True), Way.USER_CHANNEL),
        "c-said": establish(company.talk("c-said", "alice", has_file=True), Way.CUSTOM),
        "c-real": establish(company.talk("c-real", "alice", has_file=True), Way.SIGNED),
    }


def test_a_forged_value_is_in_no_export_of_a_chatbot_that_demands_verified(company, storage) -> None:
    # As in a chatbot whose UCI comes with the script of a page: everyone can send another person's value.
    Variable.objects.filter(name="member_id").update(category=Variable.Category.USER_CHANNEL)
    claims = {"custom_variables": {}, "user_channel_variables": {"member_id": "alice"}}
    sent = company.send(document("c-forged", **claims), document("c-real", **claims))
    company.caller.post("conversations/identify", {"identities": [{"id": "c-real", **named("alice")}]})
    trusting = company.export("alice")
    settle()
    assert texts_in(company, storage, trusting) == {"c-forged", "c-real"}
    demand(company, "verified")

    careful = company.export("alice")
    settle()

    assert texts_in(company, storage, careful) == {"c-real"}
    shown = company.request_object(careful)
    assert (shown["status"], shown["result"]) == ("completed", "done")
    assert (shown["unverified_left_out"], shown["counts"]["conversations"], shown["counts"]["messages"]) == (1, 1, 1)
    assert company.request_object(trusting)["unverified_left_out"] == 0
    found = {"user_channel": 1, "platform": 0, "verified": 1}
    assert (shown["assurance"], company.request_object(trusting)["assurance"]) == (found, found)
    logged = ChangeLogEntry.objects.get(request_id=careful, event="request.completed").data
    assert logged["unverified_left_out"] == 1

    preview = company.caller.post("preview", named("alice")).json()
    assert preview["deletion"]["assurance"] == preview["export"]["assurance"] == found
    deletion = company.delete("alice", erase_exports=True)
    assert company.request_object(deletion)["assurance"] is None
    settle()
    assert [is_erased(one["number"]) for one in sent] == [True, True]
    assert found_anywhere(storage, ["c-forged", "c-real"]) == set()
    shown = company.request_object(deletion)
    assert (shown["counts"]["conversations"], shown["unverified_left_out"]) == (2, None)
    assert shown["assurance"] == found


@pytest.mark.long(reason="each setting", beyond=1)
@pytest.mark.parametrize(
    ("least", "held"),
    [("verified", ["c-real"]), ("platform", ["c-real", "c-said"]), ("any", ["c-forged", "c-real", "c-said"])],
)
def test_what_is_left_out_is_not_copied_and_not_recorded(company, storage, alice, least, held) -> None:
    demand(company, least)
    request = company.export("alice", include_files=True)
    settle()

    assert texts_in(company, storage, request) == set(held)
    shown = company.request_object(request)
    copies = {storage.read(one["key"]).decode() for one in shown["export"]["files"]}
    assert copies == {f"picture in {one}" for one in held}
    assert (shown["unverified_left_out"], shown["counts"]["files"]) == (3 - len(held), len(held))
    recorded = ExportConversation.objects.filter(export__request_id=UUID(request)).values_list(
        "conversation_id", flat=True
    )
    assert set(recorded) == {alice[one] for one in held}
    # By ids it relies on no claim.
    by_ids = company.request_object(str(company.exported(list(alice)).request_id))
    assert texts_in(company, storage, by_ids["request_id"]) == set(alice)
    assert (by_ids["unverified_left_out"], by_ids["assurance"]) == (0, None)
    # If all is left out, the file is empty, and the status shows it.
    Identity.objects.update(established_by=Way.USER_CHANNEL)
    if least != "any":
        shown = company.request_object(str(company.exported("alice").request_id))
        assert (shown["result"], shown["unverified_left_out"], shown["export"]["rows"]) == ("nothing_found", 3, 0)


def test_the_setting_of_the_snapshot_counts(company, storage, alice, monkeypatch) -> None:
    waiting = company.export("alice")
    demand(company, "platform")
    # An equal call gets the same request, whatever the setting was when it was filed.
    assert company.export("alice") == waiting
    patch_count(monkeypatch, role("owner")(lambda: demand(company, "verified")))
    work()
    finished = company.request_object(waiting)
    assert (finished["unverified_left_out"], finished["counts"]["conversations"]) == (1, 2)
    assert texts_in(company, storage, waiting) == {"c-said", "c-real"}
    work()
    assert company.request_object(waiting) == finished
    later = str(company.exported("alice").request_id)
    assert texts_in(company, storage, later) == {"c-real"}


def test_two_people_each_get_what_their_own_identity_is_enough_for(company: Company, storage: ObjectStorage) -> None:
    number = company.talk("c-both", "alice", "bob")
    establish(number, Way.SIGNED, "alice")
    establish(number, Way.USER_CHANNEL, "bob")
    demand(company, "verified")
    of_alice, of_bob = (company.export(one, include_shared=True) for one in ("alice", "bob"))
    # Shared and too weak: counted as unverified only.
    without_shared = company.export("bob")
    settle()
    assert texts_in(company, storage, of_alice) == {"c-both"}
    for request in (of_bob, without_shared):
        assert texts_in(company, storage, request) == set()
        assert company.request_object(request)["unverified_left_out"] == 1
    assert company.request_object(of_alice)["unverified_left_out"] == 0


@pytest.mark.long(reason="an export is made twice")
def test_an_export_that_a_redaction_files_again_is_narrowed_as_of_then(company, storage, alice) -> None:
    former = str(company.exported("alice").request_id)
    demand(company, "verified")
    redact(company, alice["c-said"])
    settle()
    again = company.request_object(former)["repeated_by"]
    assert texts_in(company, storage, again) == {"c-real"}
    assert company.request_object(again)["unverified_left_out"] == 2


@pytest.mark.usefixtures("refused_at_once")
def test_a_failed_export_holds_no_deletion_of_what_it_would_leave_out(company, alice, refusals) -> None:
    refusals.forbidden.add(EXPORTS)
    export = company.export("alice")
    work()
    assert company.status(export) == "failed"
    demand(company, "platform")
    preview = company.caller.post("preview", {"conversation_ids": ["c-forged"], "action": "delete"}).json()
    deletion = company.delete(["c-forged"])
    refusals.end()
    work()
    assert company.status(deletion) == "completed"
    assert preview["deletion"]["held_by"] == []


def test_the_preview_shows_what_the_export_leaves_out(company, alice) -> None:
    for way in Way:
        establish(company.talk(f"c-both-{way}", "alice", "bob"), way)
    for least, options in (("any", {}), ("platform", {"include_shared": True}), ("verified", {})):
        demand(company, least)
        preview = company.caller.post("preview", named("alice") | options | {"action": "export"}).json()["export"]
        shown = company.request_object(str(company.exported("alice", **options).request_id))
        done = {name: shown["counts"][name] for name in ("conversations", "messages", "files")}
        done |= {name: shown[name] for name in ("unverified_left_out", "assurance")}
        assert done == {name: preview[name] for name in done}
        left = preview["conversations"] + preview["shared_left_out"] + preview["unverified_left_out"]
        assert left == sum(preview["assurance"].values()) == len(alice) + len(Way)
