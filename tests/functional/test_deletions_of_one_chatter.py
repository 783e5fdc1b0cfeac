"""Deletions about the same person or conversation: in any order of failures, and each erased row counted once."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import NoReturn
from uuid import UUID

import pytest
from django.utils import timezone

from compliance import worker
from compliance.erasure import verify
from compliance.errors import ClaimLost
from compliance.models import Claim, ComplianceRequest
from compliance.work import claims
from compliance.work.scope import Scope
from conversations.models import UploadedFile
from tests.functional.company import Company, events, found_anywhere, is_erased, key_of_file, settle, work
from tests.functional.refusing import EXPORTS, FILES


@pytest.mark.long(reason="the same the other way round", beyond=1)
@pytest.mark.parametrize("is_lost", [False, True], ids=["in one go", "claim lost after the mark"])
def test_each_row_is_counted_once_for_the_deletion_that_erased_it(
    company, storage, refusals, monkeypatch, *, is_lost
) -> None:
    """The total of a deletion has what another one has erased, too."""
    company.talk("c-1", "alice", "bob", has_file=True)
    company.talk("c-2", "bob")
    refusals.locked.add(FILES)
    requests = [company.delete("alice")]
    work()
    assert company.status(requests[0]) == "failed"
    requests.append(company.delete("bob"))
    if is_lost:
        with monkeypatch.context() as patched:
            patched.setattr(verify, "find_leftovers", _lose_the_claim)
            worker.drain(seconds=30)
        Claim.objects.update(expires_at=timezone.now())
        assert claims.requeue_expired() == 1
    requests.append(company.delete(["c-1", "c-2"]))
    work()
    company.retry(requests[1])
    work()
    refusals.end()
    for each in requests:
        company.retry(each)
    settle()

    found = [company.request_object(each) for each in requests]
    counts = [one["counts"] for one in found]
    total = {name: sum(count[name] for count in counts) for name in counts[0]}
    assert total == {
        "conversations": 2,
        "messages": 2,
        "identities": 3,
        "variable_values": 0,
        "files": 1,
        "exports": 0,
        "extracts": 0,
        "csat_comments": 0,
    }
    assert all(company.is_over(each) for each in requests)
    bobs = found[1]
    assert (bobs["status"], bobs["progress"]["conversations_total"]) == ("completed", 2)
    assert bobs["counts"]["conversations"] == 1


def _lose_the_claim(_ids: Collection[UUID], *, of: Scope) -> NoReturn:
    raise ClaimLost


def test_interrupted_uploads_are_removed_and_not_counted(company, storage, refusals) -> None:
    number = company.talk("c-1", "alice", has_file=True)
    refusals.unwritable.add(FILES)
    assert company.upload(number, "half a picture").status_code == 503
    refusals.end()
    assert UploadedFile.objects.filter(conversation=number).count() == 2
    deletion = company.delete("alice")
    settle()

    assert company.request_object(deletion)["counts"]["files"] == 1
    assert not UploadedFile.objects.exists()
    assert list(storage.versions(FILES)) == []


def test_the_earlier_deletion_of_a_claim_counts_shared_rows(company: Company) -> None:
    company.talk("c-1", "alice", "bob")
    second, first = company.delete("bob"), company.delete("alice")
    # Filed in the opposite order of the ids.
    ComplianceRequest.objects.filter(pk=first).update(seq=0)
    settle()

    assert [company.status(each) for each in (first, second)] == ["completed", "completed"]
    assert [company.request_object(each)["counts"]["messages"] for each in (first, second)] == [1, 0]


BY_VALUE, BY_IDS = "alice", ["c-1"]
selectors = pytest.mark.parametrize(("first", "second"), [(BY_VALUE, BY_IDS), (BY_IDS, BY_VALUE)], ids=str)


@pytest.mark.long(reason="each object, each end of the second, and the other order of selectors", beyond=1)
@selectors
@pytest.mark.parametrize("second_ends", ["accepted", "failed"])
@pytest.mark.parametrize("what", [FILES, EXPORTS], ids=["file", "export"])
def test_a_retried_deletion_does_not_complete_before_its_object_is_removed(
    company, storage, refusals, *, first, second, what, second_ends
):
    company.talk("c-1", "alice", "bob", has_file=what == FILES)
    if what == EXPORTS:
        company.exported(first, include_shared=first == BY_VALUE)
    [key] = storage.keys("uploads/" if what == FILES else "acme/")
    refusals.locked.add(what)
    one = company.delete(first, erase_exports=True)
    work()
    assert company.status(one) == "failed"
    if second_ends == "accepted":
        refusals.end()
        refusals.busy.add(what)
    two = company.delete(second, erase_exports=True)
    work()
    assert company.status(two) == second_ends

    company.retry(one)
    work()
    assert storage.exists(key)
    assert "completed" not in {company.status(each) for each in (one, two)}

    others = [company.delete("bob"), company.export("alice")]
    refusals.end()
    for each in (one, two):
        company.retry(each)
    settle()
    assert [company.is_over(each) for each in (one, two)] == [True, True]
    assert [company.status(each) for each in others] == ["completed", "completed"]
    for each in (one, two):
        assert events(each).count("request.completed") == (company.status(each) == "completed")
    assert not storage.exists(key)
    assert found_anywhere(storage, ["c-1"]) == set()


def test_a_retried_deletion_keeps_conversations_after_its_cutoff_for_the_next(company, storage, refusals) -> None:
    """On one UTC day, to which an erased conversation's beginning is reduced: only its number shows the order."""
    now = datetime.now(tz=UTC)
    earlier = company.talk("c-1", "alice", at=now - timedelta(seconds=1), has_file=True)
    refusals.locked.add(FILES)
    one = company.delete("alice")
    work()
    later = company.talk("c-2", "alice", at=datetime.now(tz=UTC) + timedelta(seconds=1), has_file=True)
    two = company.delete("alice")
    work()
    assert [company.status(each) for each in (one, two)] == ["failed", "failed"]
    assert [is_erased(number) for number in (earlier, later)] == [True, True]

    refusals.end()
    refusals.locked.add(key_of_file(later))
    company.retry(one)
    settle()
    assert [company.status(each) for each in (one, two)] == ["completed", "failed"]
    assert found_anywhere(storage, ["c-1", "c-2"]) == {"c-2"}

    refusals.end()
    company.retry(two)
    settle()
    assert company.status(two) == "completed"
    assert found_anywhere(storage, ["c-1", "c-2"]) == set()
