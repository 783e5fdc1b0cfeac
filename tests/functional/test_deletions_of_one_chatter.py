"""Deletions about the same person or conversation: in any order of failures, and each erased row counted once."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
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
from tests.functional.company import Company, Subject, events, found_anywhere, is_erased, key_of_file, settle, work
from tests.functional.refusing import EXPORTS, FILES, Refusals


def test_each_row_is_counted_once_for_the_deletion_that_erased_it(company, storage, refusals) -> None:
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
def test_the_total_counts_rows_erased_by_another_deletion_once(company, refusals, monkeypatch, *, is_lost) -> None:
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


SUBJECTS: dict[str, Subject] = {"uci": "alice", "ids": ["c-1"]}
PAIRS = [(first, second) for first in SUBJECTS for second in SUBJECTS]
_MORE = pytest.mark.long(reason="every combination of selectors and circumstances; one is tried always")


def pairs_with(**circumstances: Any) -> list[Any]:
    """Return each pair with each of two circumstances as parameters, long but for the first of a mixed pair."""
    return [
        pytest.param(*pair, one, id="-".join([*pair, name]), marks=[] if (turn, place) == (1, 0) else _MORE)
        for turn, pair in enumerate(PAIRS)
        for place, (name, one) in enumerate(circumstances.items())
    ]


@pytest.mark.parametrize(("first", "second", "is_shared"), pairs_with(shared=True, alone=False))
def test_both_complete_after_the_first_was_retried_while_the_second_backed_off(
    company: Company, storage: ObjectStorage, refusals: Refusals, *, first: str, second: str, is_shared: bool
) -> None:
    number = company.talk("c-1", "alice", *(["bob"] if is_shared else []), has_file=True)
    refusals.locked.add(FILES)
    one = company.delete(SUBJECTS[first])
    work()
    assert company.status(one) == "failed"
    refusals.end()
    refusals.busy.add(FILES)
    two = company.delete(SUBJECTS[second])
    work()
    assert company.status(two) == "accepted"
    others = [company.delete("bob"), company.export("alice")]

    refusals.end()
    company.retry(one)
    settle()

    assert [company.status(each) for each in (one, two)] == ["completed", "completed"]
    assert [company.status(each) for each in others] == ["completed", "completed"]
    assert is_erased(number)
    assert found_anywhere(storage, ["c-1"]) == set()


@pytest.mark.parametrize(("first", "second", "order"), pairs_with(first=(0, 1), second=(1, 0)))
def test_both_complete_in_whatever_order_they_are_retried(company, storage, refusals, *, first, second, order):
    company.talk("c-1", "alice", "bob", has_file=True)
    refusals.locked.add(FILES)
    both = []
    for subject in (first, second):
        both.append(company.delete(SUBJECTS[subject]))
        work()
    assert [company.status(each) for each in both] == ["failed", "failed"]
    # The first to be retried meets the lock once more, so that each was the last to fail.
    company.retry(both[order[0]])
    work()

    refusals.end()
    for place in order:
        company.retry(both[place])
        settle()
    assert company.status(both[1]) == "completed"
    assert [company.is_over(each) for each in both] == [True, True]
    assert found_anywhere(storage, ["c-1"]) == set()
    for each in both:
        assert events(each).count("request.completed") == (company.status(each) == "completed")


@pytest.mark.parametrize(("first", "second", "second_ends"), pairs_with(accepted="accepted", failed="failed"))
@pytest.mark.parametrize("what", [pytest.param(FILES, id="file"), pytest.param(EXPORTS, id="export", marks=_MORE)])
def test_a_retried_deletion_does_not_complete_before_its_object_is_removed(
    company: Company,
    storage: ObjectStorage,
    refusals: Refusals,
    *,
    first: str,
    second: str,
    what: str,
    second_ends: str,
) -> None:
    company.talk("c-1", "alice", has_file=what == FILES)
    if what == EXPORTS:
        company.exported(SUBJECTS[first])
    [key] = storage.keys("uploads/" if what == FILES else "acme/")
    refusals.locked.add(what)
    one = company.delete(SUBJECTS[first], erase_exports=True)
    work()
    assert company.status(one) == "failed"
    if second_ends == "accepted":
        refusals.end()
        refusals.busy.add(what)
    two = company.delete(SUBJECTS[second], erase_exports=True)
    work()
    assert company.status(two) == second_ends

    company.retry(one)
    work()
    assert storage.exists(key)
    assert "completed" not in {company.status(each) for each in (one, two)}

    refusals.end()
    for each in (one, two):
        company.retry(each)
    settle()
    assert [company.is_over(each) for each in (one, two)] == [True, True]
    assert not storage.exists(key)
    assert found_anywhere(storage, ["c-1"]) == set()


def test_a_retried_deletion_keeps_conversations_after_its_cutoff_for_the_next(company, storage, refusals) -> None:
    """On one UTC day, to which an erased conversation's beginning is reduced: only its number tells what is later."""
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
