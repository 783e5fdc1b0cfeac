"""The counts of deletions: each erased row is counted once, however many requests were about it."""

from collections.abc import Collection
from typing import NoReturn
from uuid import UUID

import pytest
from django.utils import timezone

from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import verify
from compliance.errors import ClaimLost
from compliance.models import Claim, ComplianceRequest
from compliance.work import claims
from conversations.models import UploadedFile
from tests.functional.company import Company, settle, work
from tests.functional.refusing import FILES, Refusals


def test_each_row_is_counted_once_for_the_deletion_that_erased_it(
    company: Company, storage: ObjectStorage, refusals: Refusals
) -> None:
    company.talk("c-1", "alice", "bob", has_file=True)
    company.talk("c-2", "alice")
    refusals.locked.add(FILES)
    requests = [company.delete("alice")]
    work()
    requests += [company.delete("bob"), company.delete(["c-1", "c-2"])]
    work()
    refusals.end()
    for each in requests:
        company.retry(each)
    settle()

    counts = [company.request_object(each)["counts"] for each in requests]
    total = {name: sum(count[name] for count in counts) for name in counts[0]}
    assert total == {
        "conversations": 2,
        "messages": 2,
        "identities": 3,
        "variable_values": 0,
        "files": 1,
        "exports": 0,
        "extracts": 0,
    }
    assert all(company.is_over(each) for each in requests)


@pytest.mark.long(reason="the same the other way round", beyond=1)
@pytest.mark.parametrize("is_lost", [False, True], ids=["in one go", "claim lost after the mark"])
def test_the_total_counts_rows_erased_by_another_deletion_once(
    company: Company, refusals: Refusals, monkeypatch: pytest.MonkeyPatch, *, is_lost: bool
) -> None:
    company.talk("c-1", "alice", "bob", has_file=True)
    company.talk("c-2", "bob")
    refusals.locked.add(FILES)
    alices = company.delete("alice")
    work()
    assert company.status(alices) == "failed"
    bobs = company.delete("bob")
    if is_lost:
        with monkeypatch.context() as patched:
            patched.setattr(verify, "find_leftovers", _lose_the_claim)
            worker.drain(seconds=30)
        Claim.objects.update(expires_at=timezone.now())
        assert claims.requeue_expired() == 1
    for _ in range(2):
        work()
        company.retry(bobs)
    refusals.end()
    company.retry(bobs)
    settle()

    found = company.request_object(bobs)
    assert (found["status"], found["progress"]["conversations_total"], found["counts"]["conversations"]) == (
        "completed",
        2,
        1,
    )


def _lose_the_claim(_ids: Collection[UUID]) -> NoReturn:
    raise ClaimLost


def test_interrupted_uploads_are_removed_and_not_counted(
    company: Company, storage: ObjectStorage, refusals: Refusals
) -> None:
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
