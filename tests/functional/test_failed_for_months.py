"""A failed deletion can be retried after its digests would have expired: they are kept as long as it needs them.

So are those that refuse late data, and that lead another chatter's deletion to the same conversation.
"""

from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from compliance import worker
from tests.functional.company import (
    NOON,
    Company,
    Subject,
    became,
    document,
    found_anywhere,
    is_erased,
    settle,
    travel,
    work,
)
from tests.functional.refusing import EXPORTS, EXTRACTS, FILES, Refusals

pytestmark = pytest.mark.usefixtures("refused_at_once")

LONG = settings.ERASURE_LEDGER_DAYS + timedelta(days=1)
SUBJECTS: dict[str, Subject] = {"uci": "alice", "ids": ["c-1"]}


def failed_long_ago(company: Company, refusals: Refusals, subject: Subject, what: str) -> str:
    """Return a deletion that has failed at an object, more than the ledger's days ago."""
    refusals.locked.add(what)
    refusals.forbidden.add(what)
    deletion = company.delete(subject, erase_exports=True)
    work()
    assert company.status(deletion) == "failed"
    travel(LONG)
    for _ in range(2):
        worker.sweep()
    return deletion


@pytest.fixture(params=[FILES, EXPORTS, EXTRACTS], ids=["file", "export", "day"])
def what(request: pytest.FixtureRequest, company: Company) -> str:
    """The object of Alice's and Bob's conversation that the storage does not remove."""
    company.talk("c-1", "alice", "bob", has_file=request.param == FILES)
    if request.param == EXPORTS:
        company.exported("alice", include_shared=True)
    if request.param == EXTRACTS:
        company.make_day()
    return str(request.param)


@pytest.mark.long(reason="each object by each selector", beyond=1)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_deletion_failed_for_months_completes_when_retried(company, storage, refusals, what, subject) -> None:
    deletion = failed_long_ago(company, refusals, SUBJECTS[subject], what)
    assert company.request_object(deletion)["error"]["retryable"]
    # Late data is refused as long as that.
    began = timezone.now() - 2 * LONG
    results = company.send(document("c-1", "alice"), document("c-2", "alice", at=began))
    assert became(results) == ["conversation_deleted", "chatter_erased" if subject == "uci" else "created"]
    refusals.end()
    company.retry(deletion)
    settle()

    found = company.request_object(deletion)
    assert (found["status"], found["result"], found["counts"]["conversations"]) == ("completed", "done", 1)
    assert found_anywhere(storage, ["c-1"]) == set()
    # No digest is kept once everything is erased.
    travel(LONG)
    for _ in range(2):
        worker.sweep()
    results = company.send(document("c-1", "alice"), document("c-3", "alice", at=NOON - LONG))
    assert became(results) == ["created", "created"]
    assert not any(is_erased(result["number"]) for result in results)


@pytest.mark.long(reason="each object", beyond=1)
def test_another_chatters_deletion_still_finds_the_rest(company, storage, refusals, what) -> None:
    first = failed_long_ago(company, refusals, "alice", what)
    second = company.delete("bob", erase_exports=True)
    work()
    assert company.status(second) != "completed"

    refusals.end()
    for each in (second, first):
        company.retry(each)
        settle()
        assert company.status(each) == "completed"
    assert found_anywhere(storage, ["c-1"]) == set()
