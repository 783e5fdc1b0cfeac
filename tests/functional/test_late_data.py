"""A late document of an erased chatter, in a conversation that is stored already.

It is refused, and the next sweep erases the conversation as the deletion would have: with its files, its days
and the exports that contain it. The completed deletion counts it. A second deletion of the chatter finds it, too.
"""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.utils import timezone

from compliance import worker
from compliance.ledger import journal
from compliance.models import Export
from compliance.requests import decisions
from conversations.models import Identity, UploadedFile
from tests.clients import CLIENT, use_client_bucket, use_hosted_bucket
from tests.commands import run
from tests.functional.company import (
    Company,
    attempts,
    became,
    document,
    events,
    found_anywhere,
    is_erased,
    key_of_file,
    settle,
    work,
)
from tests.functional.refusing import EXTRACTS, FILES, in_the_gap
from tests.functional.support import dump
from tests.s3_server import S3Server

OLD = settings.EXPORT_GRACE_DAYS + timedelta(days=1)


def erased_alice(company: Company, **options: bool) -> str:
    deletion = company.delete("alice", **options)
    settle()
    assert company.status(deletion) == "completed"
    return deletion


def name_late(company: Company, conversation_id: str = "c-late") -> None:
    """Send the document that identifies Alice in the conversation."""
    assert became(company.send(document(conversation_id, "alice"))) == ["chatter_erased"]


def kept_exports(company: Company, deletion: str) -> list[str]:
    return [one["request_id"] for one in company.request_object(deletion)["kept_exports"]]


def verified() -> dict[str, Any]:
    """Return what `verify_erasure` finds of all completed deletions."""
    found: dict[str, Any] = json.loads(run("verify_erasure", "--all", "--json").out)["left"]
    return found


def test_the_status_of_the_deletion_counts_it_and_there_is_no_second_event(company, storage) -> None:
    company.talk("c-late", "carol", has_file=True)
    company.talk("c-later", "carol")
    deletion = erased_alice(company)
    assert company.request_object(deletion)["result"] == "nothing_found"
    for number, name in enumerate(("c-late", "c-later"), start=1):
        name_late(company, name)
        worker.sweep()

        result = company.request_object(deletion)
        assert (result["status"], result["result"]) == ("completed", "done")
        counts, progress = result["counts"], result["progress"]
        assert (counts["conversations"], counts["messages"], counts["files"]) == (number, number, 1)
        # Alice's have no stored value.
        assert counts["identities"] == number
        assert (progress["conversations_done"], progress["conversations_total"]) == (number, number)
    assert events(deletion).count("request.completed") == 1
    assert found_anywhere(storage, ["c-late", "c-later"]) == set()
    assert verified() == {}


def test_an_old_export_with_late_data_is_removed_by_the_next_sweep_and_a_recent_one_after_its_grace(company, storage):
    company.talk("c-late", "carol")
    old, recent = (company.exported("carol", age=age) for age in (OLD, timedelta()))
    deletion = erased_alice(company)
    name_late(company)
    worker.sweep()

    assert [storage.exists(str(export.key)) for export in (old, recent)] == [False, True]
    assert company.request_object(deletion)["counts"]["identities"] == 1
    assert kept_exports(company, deletion) == [str(recent.request_id)]
    recent.refresh_from_db()
    assert recent.expires_at == recent.finished_at + settings.EXPORT_GRACE_DAYS
    Export.objects.filter(pk=recent.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    worker.sweep()
    assert found_anywhere(storage, ["c-late"]) == set()
    assert verified() == {}


@pytest.mark.long(reason="a storage of the client's own")
def test_copies_in_a_clients_bucket_are_named(company: Company, server: S3Server) -> None:
    company.talk("c-late", "carol")
    use_client_bucket(company.chatbot, server, identity=CLIENT)
    delivered, day = company.exported("carol"), company.make_day()
    use_hosted_bucket(company.chatbot)
    deletion = erased_alice(company)
    name_late(company)
    worker.sweep()

    assert kept_exports(company, deletion) == [str(delivered.request_id)]
    assert [one["day"] for one in company.request_object(deletion)["delivered_extracts"]] == [day.day.isoformat()]


def test_a_recent_export_by_ids_is_removed_at_once_if_the_deletion_erases_exports(company, storage) -> None:
    company.talk("c-late")
    export = company.exported(["c-late"])
    erased_alice(company, erase_exports=True)
    name_late(company)
    worker.sweep()

    assert not storage.exists(str(export.key))
    assert found_anywhere(storage, ["c-late"]) == set()


@pytest.mark.long(reason="the same without the sweep", beyond=1)
@pytest.mark.parametrize("is_swept", [True, False], ids=["swept", "unswept"])
def test_a_second_deletion_of_the_late_named_chatter_removes_the_export(company, storage, is_swept) -> None:
    number = company.talk("c-late")
    export = company.exported(["c-late"])
    erased_alice(company)
    name_late(company)
    if is_swept:
        worker.sweep()
    second = company.delete("alice", erase_exports=True)
    work()

    assert company.status(second) == "completed"
    assert is_erased(number)
    assert not storage.exists(str(export.key))
    assert found_anywhere(storage, ["c-late"]) == set()


def test_a_running_export_does_not_keep_a_conversation_named_meanwhile(company, storage, monkeypatch) -> None:
    company.talk("c-late", "carol")
    company.talk("c-carol", "carol")
    erased_alice(company)
    company.export("carol")
    met = in_the_gap(monkeypatch, "write_parts", ".csv", "before", lambda: name_late(company))
    worker.drain(seconds=30)
    assert met
    settle()
    worker.sweep()

    for export in Export.objects.filter(key__isnull=False):
        if "words in c-late" in storage.read(str(export.key)).decode():
            assert export.expires_at == export.finished_at + settings.EXPORT_GRACE_DAYS
            Export.objects.filter(pk=export.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    worker.sweep()
    assert found_anywhere(storage, ["c-late"]) == set()


def test_the_day_is_rebuilt_and_a_second_deletion_waits_for_it(company, storage, refusals) -> None:
    company.talk("c-late", "carol")
    company.make_day()
    erased_alice(company)
    refusals.unwritable.add(EXTRACTS)
    name_late(company)
    worker.sweep()
    second = company.delete("alice")
    work()
    result = company.request_object(second)
    assert (result["status"], result["waiting_for"]) == ("accepted", "extracts")

    refusals.end()
    settle()
    assert company.status(second) == "completed"
    assert found_anywhere(storage, ["c-late"]) == set()


def test_a_late_file_that_is_refused_is_removed_later_without_delaying_words_or_others(company, storage, refusals):
    late = company.talk("c-late", "carol", has_file=True)
    refusals.locked.add(key_of_file(late))
    others = company.talk("c-other", "carol", has_file=True)
    deletions = [company.delete(person) for person in ("alice", "dave")]
    settle()
    name_late(company)
    assert became(company.send(document("c-other", "dave"))) == ["chatter_erased"]
    worker.sweep()
    assert (is_erased(late), is_erased(others)) == (True, True)
    assert "words in c-late" not in dump()
    assert list(UploadedFile.objects.values_list("conversation", "name")) == [(late, "")]
    second = company.delete("alice")
    work()
    assert company.failure(second) == "storage_locked"

    refusals.end()
    worker.sweep()
    assert not Identity.objects.filter(conversation=late).exists()
    assert [company.request_object(each)["counts"]["files"] for each in deletions] == [1, 1]
    assert found_anywhere(storage, ["c-late", "c-other"]) == set()
    company.retry(second)
    work()
    assert company.status(second) == "completed"


def test_data_arriving_before_verification_costs_no_attempt(company, storage, monkeypatch) -> None:
    company.talk("c-1", "alice")
    number = company.talk("c-late", "carol")
    deletion = company.delete("alice")
    journal.intend([UUID(deletion)])  # so that the next object is the one after the erasing
    met = in_the_gap(monkeypatch, "put", "erasure_ledger/", "after", lambda: name_late(company))
    worker.drain(seconds=30)
    assert met
    settle()

    result = company.request_object(deletion)
    assert (result["status"], attempts(deletion)) == ("completed", [0])
    assert "request.failed" not in events(deletion)
    assert is_erased(number)
    assert result["counts"]["conversations"] == 2
    assert found_anywhere(storage, ["c-1", "c-late"]) == set()


def test_a_document_for_an_unused_id_is_new(company: Company) -> None:
    """A deletion by ids stores nothing about ids that it did not find."""
    deletion = company.delete(["c-new"])
    settle()
    assert company.request_object(deletion)["result"] == "nothing_found"
    [stored] = company.send(document("c-new"))
    assert became([stored]) == ["created"]

    worker.sweep()
    assert not is_erased(stored["number"])
    assert verified() == {}


def test_conversations_of_the_last_mark_are_erased_though_an_earlier_mark_completed_first(company, storage, refusals):
    """Approved in the other order, the deletion that was filed first marks last."""
    company.talk("c-1", "alice", has_file=True)
    late = company.talk("c-late")
    company.chatbot.four_eyes = True
    company.chatbot.save()
    refusals.locked.add(FILES)
    first, second = company.delete("alice"), company.delete("alice")
    work()
    for each in (second, first):
        decisions.approve(request_id=UUID(each), actor="another")
        work()
    refusals.end()
    company.retry(second)
    settle()
    assert [company.status(each) for each in (first, second)] == ["failed", "completed"]

    assert became(company.send(document("c-late", "alice"))) == ["chatter_erased"]
    company.retry(first)
    settle()
    assert company.status(first) == "completed"
    assert is_erased(late)
    assert found_anywhere(storage, ["c-1", "c-late"]) == set()
