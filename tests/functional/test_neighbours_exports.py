"""The exports that a deletion removes: its chatter's own, and those with erased conversations; no others.

A finished export is a copy that a chatter requested. Within its grace it is removed only by a deletion of its own
chatter that says so.
"""

from datetime import timedelta
from uuid import UUID

import pytest
from django.conf import settings
from django.utils import timezone

from chatbots.models import Chatbot
from compliance import worker
from compliance.models import Export
from compliance.requests import decisions
from conversations.models import Conversation, Identity
from tests.functional.company import Company, found_anywhere, settle, work
from tests.functional.refusing import EXPORTS, FILES

pytestmark = pytest.mark.usefixtures("refused_at_once")

FRESH = timedelta()
OLD = settings.EXPORT_GRACE_DAYS + timedelta(days=1)


@pytest.fixture
def shared(company: Company) -> None:
    """Alice's and Bob's conversation, and one that is his alone."""
    company.talk("c-both", "alice", "bob")
    company.talk("c-bob", "bob")


def kept_by(company: Company, request_id: str) -> list[str]:
    return [export["request_id"] for export in company.request_object(request_id)["kept_exports"]]


def release(export: Export) -> None:
    """End the days of an export, and sweep."""
    Export.objects.filter(pk=export.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    worker.sweep()


def test_exports_of_another_chatter_are_changed_only_where_they_hold_erased_data(company, storage, shared) -> None:
    """Without it they stay; of those with it one goes at once, whose grace is over, and one is named."""
    without = [company.exported("bob", age=age) for age in (FRESH, OLD)]
    recent, old = (company.exported("bob", age=age, include_shared=True) for age in (FRESH, OLD))
    deletion = company.delete("alice", erase_exports=True)
    settle()

    found = company.request_object(deletion)
    assert (found["status"], found["counts"]["exports"]) == ("completed", 1)
    assert kept_by(company, deletion) == [str(recent.request_id)]
    assert [storage.exists(str(export.key)) for export in (*without, recent, old)] == [True, True, True, False]
    for export in without:
        assert Export.objects.get(pk=export.pk).expires_at == export.expires_at
    recent.refresh_from_db()
    assert recent.expires_at == recent.finished_at + settings.EXPORT_GRACE_DAYS
    release(recent)
    assert found_anywhere(storage, ["c-both", "c-bob"]) == {"c-bob"}


@pytest.mark.long(reason="the same with the other option", beyond=1)
@pytest.mark.parametrize("erases_exports", [True, False])
def test_an_empty_export_of_the_chatter_is_treated_as_a_full_one(company, storage, erases_exports) -> None:
    """It contains no conversation, but its key contains the value."""
    old, fresh = company.exported("alice", age=OLD), company.exported("alice")
    assert company.request_object(str(fresh.request_id))["result"] == "nothing_found"
    company.talk("c-alice", "alice")
    deletion = company.delete("alice", erase_exports=erases_exports)
    settle()

    found = company.request_object(deletion)
    assert (found["status"], found["counts"]["exports"]) == ("completed", 2 if erases_exports else 1)
    assert kept_by(company, deletion) == ([] if erases_exports else [str(fresh.request_id)])
    assert [storage.exists(str(export.key)) for export in (old, fresh)] == [False, not erases_exports]

    fresh.refresh_from_db()
    if not erases_exports:
        assert fresh.expires_at == fresh.finished_at + settings.EXPORT_GRACE_DAYS
        Export.objects.filter(pk=fresh.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
        worker.sweep()
    assert list(storage.keys("acme/")) == []
    assert not Export.objects.filter(key__isnull=False).exists()


def test_an_empty_export_that_ran_while_the_deletion_was_held_keeps_its_grace_alone(company, storage) -> None:
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    deletion = company.delete("alice")
    settle()
    export = company.exported("alice")
    decisions.approve(request_id=UUID(deletion), actor="user:2")
    settle()
    assert company.status(deletion) == "completed"
    assert kept_by(company, deletion) == [str(export.request_id)]
    export.refresh_from_db()
    assert export.expires_at == export.finished_at + settings.EXPORT_GRACE_DAYS


@pytest.mark.long(reason="the other order", beyond=1)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first", "second"])
def test_two_deletions_that_need_an_export_removed_both_wait_for_it(company, storage, refusals, shared, order):
    """Bob's deletion comes second and fails; then Alice's is retried."""
    export = company.exported("bob", age=OLD, include_shared=True)
    refusals.busy.add(EXPORTS)
    deletions = [company.delete("alice")]
    work()
    refusals.locked.add(EXPORTS)
    deletions.append(company.delete("bob"))
    worker.drain(seconds=30)
    assert [company.status(each) for each in deletions] == ["accepted", "failed"]

    work()
    assert [company.failure(each) for each in deletions] == ["storage_locked", "storage_locked"]
    assert storage.exists(str(export.key))

    refusals.end()
    for place in order:
        company.retry(deletions[place])
        settle()
        assert company.status(deletions[place]) == "completed"
        assert not storage.exists(str(export.key))
    assert sum(company.request_object(each)["counts"]["exports"] for each in deletions) == 1
    assert found_anywhere(storage, ["c-both", "c-bob"]) == set()


def test_an_erased_conversation_is_found_by_its_chatters_until_no_export_contains_it(company, storage, shared):
    """What it kept of her goes after its grace, or with the next deletion of its own chatter."""
    exports = [company.exported(subject, include_shared=True) for subject in ("alice", "bob")]
    exports.append(company.exported(["c-both"]))
    people = Identity.objects.filter(conversation=Conversation.objects.get(external_id="c-both"))
    first = company.delete("alice")
    settle()

    release(exports[0])
    assert [storage.exists(str(export.key)) for export in exports] == [False, True, True]
    assert people.count() == 2
    second = company.delete("bob", erase_exports=True)
    settle()
    assert [company.status(each) for each in (first, second)] == ["completed", "completed"]
    assert not any(storage.exists(str(export.key)) for export in exports)
    assert people.count() == 0
    removed = {
        one["request_id"]: one["removed_at"] is not None for one in company.request_object(first)["kept_exports"]
    }
    assert removed == {str(export.request_id): True for export in exports}
    assert kept_by(company, second) == []


def test_an_export_to_be_erased_is_not_downloadable_after_the_mark_and_a_later_one_is_not_changed(
    company, storage, refusals
) -> None:
    """The deletion has failed at another step, before it reached an export, and is retried after another export."""
    company.talk("c-1", "alice", has_file=True)
    before = company.exported("alice")
    path = f"requests/{before.request_id}/download"
    assert company.caller.get(path).status_code == 302
    refusals.locked.add(FILES)
    deletion = company.delete("alice", erase_exports=True)
    work()
    assert company.failure(deletion) == "storage_locked"
    answer = company.caller.get(path)
    assert (answer.status_code, answer.json()["code"]) == (409, "export_expired")
    refusals.end()
    worker.sweep()
    assert not storage.exists(str(before.key))

    later = company.exported("alice")
    company.retry(deletion)
    settle()
    worker.sweep()
    assert company.status(deletion) == "completed"
    assert storage.exists(str(later.key))
    assert kept_by(company, deletion) == []
