"""Two deletions about the same person or conversation, in whatever order they fail and are retried.

Neither waits for the other forever, and neither completes before everything in the scope of both is removed.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common.storage import ObjectStorage
from tests.functional.company import Company, Subject, events, found_anywhere, is_erased, key_of_file, settle, work
from tests.functional.refusing import EXPORTS, FILES, Refusals

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
def test_both_complete_in_whatever_order_they_are_retried(
    company: Company, storage: ObjectStorage, refusals: Refusals, *, first: str, second: str, order: tuple[int, int]
) -> None:
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


def test_a_retried_deletion_keeps_conversations_after_its_cutoff_for_the_next(
    company: Company, storage: ObjectStorage, refusals: Refusals
) -> None:
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
