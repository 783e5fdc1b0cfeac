"""A replay at its command: a database and a bucket that look restored, after deletions by the product."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Chatbot, Variable
from chatbots.operations.chatbots import NewVariable, change_chatbot
from common.storage import ObjectStorage
from compliance.ledger import lines
from compliance.models import Callback, ComplianceRequest, Export, JournalEntry, LedgerLine, Service
from compliance.requests import decisions
from conversations.models import Conversation, Identity, Message, NameWord, Tombstone, VariableValue
from tests.compliance.replay.conftest import became_of, gone, replay, sweep_and_work, work, write_journal
from tests.factories import ready_chatbot
from tests.functional.company import DAY, NOON, Company, became, document, words_in
from tests.functional.support import dump, everything_in
from tests.places import asked_about
from tests.restoring import Backup, restored, unnoticed


def test_who_was_erased_since_the_backup_is_erased_again(company, other, storage, monkeypatch) -> None:
    monkeypatch.setattr(connection, "chunked_cursor", None)  # a pooler may keep it from the next statement
    Chatbot.objects.filter(pk=company.chatbot.pk).update(callback_url="https://hooks.example.com/privacy")
    mine, shared = company.talk("c-1", "alice", has_file=True), company.talk("c-2", "alice", "bob")
    bobs, theirs = company.talk("c-3", "bob"), other.talk("c-1", "alice")
    company.send({"id": "c-1", "user_name": "Alice Liddell"}, {"id": "c-3", "user_name": "Bob"})
    # As if digests did not depend on the chatbot.
    Identity.objects.filter(conversation=theirs).update(digest=Identity.objects.get(conversation=mine).digest)
    digest = Conversation.objects.get(pk=mine).external_id_digest
    Conversation.objects.filter(pk=theirs).update(external_id_digest=digest)
    with restored():
        deletion = company.delete("alice")
        work()
        assert gone(mine, shared, bobs, theirs) == [True, True, False, False]
    assert gone(mine, shared, bobs, theirs) == [False] * 4
    kept = list(Message.objects.filter(conversation__in=[bobs, theirs]).order_by("pk").values())
    assert NameWord.objects.filter(conversation=mine).count() == 2

    before, rows, objects = Service.objects.get(), dump(), list(storage.versions())
    planned = replay("--dry-run")
    assert (planned["plans"], planned["objects"]["lives_mixed"]) == ({"erase": 1}, False)
    assert (dump(), list(storage.versions())) == (rows, objects)
    done = replay()

    assert gone(mine, shared, bobs, theirs) == [True, True, False, False]
    assert list(Message.objects.order_by("pk").values()) == kept
    assert list(NameWord.objects.values_list("conversation", "word")) == [(bobs, "bob")]
    request = ComplianceRequest.objects.get(pk=deletion)
    assert (request.status, request.result, request.origin) == ("completed", "done", "replay")
    assert (request.conversations, request.shared_conversations, request.files) == (2, 1, 1)
    [line] = done["requests"]
    assert (line["request_id"], line["kind"], line["chatbot"], line["outcome"]) == (
        deletion,
        "deletion",
        "acme",
        "erased",
    )
    assert (line["conversations"], line["numbers"]) == (2, [mine, shared])
    assert planned["requests"] == [line | {"outcome": ""}]
    marked = Conversation.objects.filter(deletion_request_id=deletion).order_by("pk")
    assert list(marked.values_list("pk", flat=True)) == [mine, shared]
    after = Service.objects.get()
    assert (after.state, after.service_id) == ("open", before.service_id)
    assert after.incarnation != before.incarnation
    call_command("verify_erasure", "--all")
    assert Tombstone.objects.get().request_id == request.pk
    assert list(Callback.objects.values_list("request", "status")) == [(request.pk, "completed")]
    assert became(company.send(document("c-1", "alice"), document("c-9", "alice"))) == [
        "conversation_deleted",
        "chatter_erased",
    ]


def test_what_a_deletion_named_goes_and_what_only_its_id_names(company: Company, monkeypatch) -> None:
    """Some named the chatter only after the backup, more than fit into a line."""
    monkeypatch.setattr(lines, "CONVERSATIONS_PER_LINE", 2)
    company.talk("c-1", "alice")
    late = [company.talk(f"late-{number}") for number in range(3)]
    named, left = company.talk("c-3", "bob"), company.talk("c-4", "bob")
    with restored():
        assert set(became(company.send(*(document(f"late-{number}", "alice") for number in range(3))))) == {"updated"}
        deletions = [company.delete("alice"), company.delete(["c-3", "c-unknown"])]
        work()
        assert gone(*late) == [True] * 3

    report = replay()

    assert became_of(report) == dict.fromkeys(deletions, "erased")
    assert gone(*late, named, left) == [True] * 4 + [False]
    assert words_in("late-0") not in dump()
    call_command("verify_erasure", "--all")


def test_who_came_back_after_the_restore_is_left_alone(company: Company) -> None:
    before = company.talk("c-1", "alice")
    backup = Backup()
    company.delete("alice")
    work()
    backup.restore()
    # Here it stands for what is later.
    with unnoticed():
        later = company.talk("c-8", "alice", at=timezone.now() + timedelta(hours=1))
        begun_before = company.talk("c-9", "alice", at=NOON)

    report = replay()

    assert report["up_to_number"] == before
    assert gone(before, later, begun_before) == [True, False, True]


def test_a_deletion_that_had_marked_keeps_its_own_cutoff(company: Company) -> None:
    first = company.talk("c-1", "alice")
    deletion = company.delete("alice")
    company.talk("c-2", "bob")
    ComplianceRequest.objects.filter(pk=deletion).update(
        status="processing", started_at=NOON, cutoff_at=timezone.now(), cutoff_number=first
    )
    Conversation.objects.filter(pk=first).update(deletion_request_id=deletion)
    came_back = company.talk("c-3", "alice", at=timezone.now() + timedelta(minutes=1))
    with restored():
        ComplianceRequest.objects.filter(pk=deletion).update(status="accepted")
        work()
        assert gone(first, came_back) == [True, False]

    report = replay()

    assert became_of(report) == {deletion: "erased"}
    assert gone(first, came_back) == [True, False]


def test_lines_of_chatbots_that_live_apart_are_planned_and_filed_apart(company, other, shards) -> None:
    numbers = [one.talk("c-1", "alice") for one in (company, other)]
    with restored():
        for one in (company, other):
            one.delete("alice")
        work()
    shards([company.chatbot], [other.chatbot])

    with CaptureQueriesContext(connection) as captured:
        report = replay()

    assert gone(*numbers) == [True, True]
    assert report["plans"] == {"erase": 2}
    assert asked_about(Conversation, captured, if_it_has="is_meant") == [[company.chatbot.pk], [other.chatbot.pk]]
    # So is whatever else Citus takes for one place alone.
    assert all(len(chatbots) == 1 for chatbots in asked_about(Conversation, captured, if_it_has="LATERAL"))


def test_numbers_that_others_have_by_now_hit_nobody(company: Company) -> None:
    with restored():
        newer = Company(ready_chatbot(slug="newer"))
        newer.talk("c-1", "alice")
        deletion = newer.delete("alice")
        work()
        numbers = (newer.chatbot.pk, ComplianceRequest.objects.get(pk=deletion).variable_id)
    # After a restore, sequences give these numbers again.
    stranger = ready_chatbot(slug="stranger")
    Chatbot.objects.filter(pk=stranger.pk).update(slug="unused")
    assert stranger.pk > numbers[0]
    again = Chatbot.objects.create(pk=numbers[0], slug="again", name="Again", compliance_enabled=True)
    Variable.objects.create(pk=numbers[1], chatbot=again, name="member_id", category="custom", is_uci=True)
    with unnoticed():
        number = Company(again).talk("c-1", "alice")

    report = replay()

    assert became_of(report) == {deletion: "unknown_chatbot"}
    assert report["requests"][0]["chatbot"] is None
    assert gone(number) == [False]


@pytest.mark.django_db(transaction=True)
def test_files_exports_and_daily_extracts_go_again(company: Company, storage: ObjectStorage) -> None:
    company.talk("c-1", "alice", has_file=True)
    company.talk("c-2", "bob", has_file=True)
    exports = [company.export(who) for who in ("alice", "bob", "carol")]
    work()
    removed, kept, of_nobody = (Export.objects.get(request_id=UUID(each)) for each in exports)
    company.make_day()
    objects = {version.key: storage.read(version.key) for version in storage.versions()}
    with restored():
        deletion = company.delete("alice", erase_exports=True)
        work()
        ComplianceRequest.objects.update(not_before=None)
        work()
        assert company.status(deletion) == "completed"
        accepted = company.delete("carol", erase_exports=True)
        write_journal()
    # The bucket of an operator who restores both.
    for key, content in objects.items():
        if not storage.exists(key):
            storage.put(key, content, "text/plain")
    assert words_in("c-1") in everything_in(storage)

    report = replay()

    assert became_of(report) == {deletion: "erased", accepted: "filed_again"}
    assert (
        company.request_object(deletion)["counts"] | {"extracts": 1, "files": 1, "exports": 1}
        == (company.request_object(deletion)["counts"])
    )
    left = everything_in(storage)
    assert words_in("c-1") not in left
    assert "picture in c-1" not in left
    assert words_in("c-2") in storage.read(str(company.extract().key)).decode()
    assert not storage.exists(str(removed.key))
    assert storage.exists(str(kept.key))
    assert company.extract(DAY).state == "done"
    work()
    of_nobody.refresh_from_db()
    assert (company.status(accepted), of_nobody.key) == ("completed", None)


def test_a_deletion_of_nobody_here_is_recorded_and_remembers_the_chatter(company: Company) -> None:
    """One that was carried out, and two that were accepted. The client sends again what the restore has lost."""
    lost = document("c-1", "alice"), document("c-2", "bob"), document("c-3", "carol")
    with restored():
        company.send(*lost)
        carried_out = company.delete("carol")
        work()
        accepted = [company.delete("alice"), company.delete(["c-2"])]
        write_journal()

    report = replay()

    assert became_of(report) == dict.fromkeys(accepted, "nothing_found")
    assert (report["plans"], report["outcomes"]) == ({"complete": 2, "record": 1}, {"nothing_found": 3})
    for request in ComplianceRequest.objects.all():
        assert (request.status, request.result) == ("completed", "nothing_found")
    request = ComplianceRequest.objects.get(pk=carried_out)
    assert request.completed_at == request.cutoff_at
    expected = ["chatter_erased", "conversation_deleted", "conversation_deleted", "chatter_erased"]
    assert became(company.send(*lost, document("c-9", "carol"))) == expected


def test_conversations_that_were_marked_late_are_erased_again(company: Company) -> None:
    """A replay of another life was interrupted: what it filed of late data is not taken for erased."""
    stored = company.talk("c-2")
    company.talk("c-1", "alice")
    deletion = company.delete("alice")
    work()
    with restored():
        assert became(company.send(document("c-2", "alice"))) == ["chatter_erased"]
        sweep_and_work()
        assert gone(stored) == [True]
    filed = {"plan": "late", "outcome": "filed", "kind": "accepted", "line": {}, "key": "x", "at": timezone.now()}
    other = LedgerLine.objects.create(request_id=uuid4(), chatbot=company.chatbot, incarnation=uuid4(), **filed)

    assert became_of(replay()) == {deletion: "erased"}

    other.refresh_from_db()
    assert (gone(stored), other.outcome) == ([True], "filed")


def test_other_open_requests_wait_until_the_service_is_open(company: Company) -> None:
    alices, bobs = company.talk("c-1", "alice"), company.talk("c-2", "bob")
    waiting = company.delete("bob")
    with restored():
        # In the former life it was withdrawn in the last seconds, which the ledger does not have.
        company.caller.post(f"requests/{waiting}/cancel", {})
        JournalEntry.objects.all().delete()
        deletion = company.delete("alice")
        work()

    report = replay()

    assert became_of(report) == {deletion: "erased"}
    assert (gone(alices, bobs), company.status(waiting)) == ([True, False], "accepted")


def test_a_request_that_erases_nobody_makes_no_uci_of_its_variable(company: Company) -> None:
    """A lost export, and deletions that were withdrawn, their lines in one object or two.

    Values of a UCI are not kept, so that all that was said of it would go.
    """
    names = ("city", "town", "land")
    variables = [NewVariable("custom", name) for name in names]
    change_chatbot(chatbot=company.chatbot, actor="user:7", variables=variables)
    company.send(document("c-1", custom_variables=dict.fromkeys(names, "Paris")))
    values = VariableValue.objects.filter(variable__name__in=names)
    assert values.count() == 3
    with restored():
        filed = {}
        for name in names:
            change_chatbot(chatbot=company.chatbot, actor="user:7", uci=name)
            selector = {"unique_chatter_identifier_key": name, "unique_chatter_identifier_value": "Rome"}
            path = "data-export" if name == "city" else "data-deletion"
            filed[name] = company.caller.post(path, selector).json()["request_id"]
            if name == "town":
                write_journal()
        for name in ("town", "land"):
            decisions.cancel(request_id=UUID(filed[name]), actor="user:7")
        write_journal()

    assert became_of(replay()) == {filed["city"]: "lost_export"}
    sweep_and_work()

    assert values.count() == 3
