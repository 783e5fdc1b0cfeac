"""A second chatter's deletion completes once no copy contains their messages, whichever deletion erased the rows.

Alice's and Bob's conversation is erased by her deletion, including the rows that named him. His deletion, filed
then, still waits for the removal of the file, the export and the daily extract with his messages.
"""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from compliance import worker
from tests.functional.company import Company, events, found_anywhere, is_erased, settle, words_in, work
from tests.functional.refusing import EXTRACTS, FILES
from tests.people import Role, member

pytestmark = pytest.mark.usefixtures("refused_at_once")

ORDERS = [(0, 1), (1, 0)]


@pytest.fixture
def shared(company: Company) -> int:
    """Alice's and Bob's conversation, beside others' on the same day."""
    company.talk("c-carol", "carol")
    return company.talk("c-both", "alice", "bob")


def page_of(company: Company, request_id: str) -> str:
    """Return the text of a request's page for an officer."""
    answer = member(company.chatbot, Role.OFFICER).get(f"/admin/requests/{request_id}/")
    assert answer.status_code == 200
    return " ".join(answer.text.split())


def counted(found: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in found["counts"].items() if count}


def test_the_second_waits_for_the_day_that_the_first_waits_for(company, storage, refusals, shared) -> None:
    day = company.make_day()
    refusals.unwritable.add(EXTRACTS)
    first = company.delete("alice")
    assert company.request_object(first)["waiting_for"] is None
    work()
    second = company.delete("bob")
    for _ in range(2):
        work()

    assert words_in("c-both") in storage.read(str(day.key)).decode()
    assert is_erased(shared)
    for request_id, erased in ((first, {"conversations": 1, "messages": 1, "identities": 2}), (second, {})):
        found = company.request_object(request_id)
        assert (found["status"], found["waiting_for"], found["error"]) == ("accepted", "extracts", None)
        assert (found["progress"]["extracts_done"], found["progress"]["extracts_total"]) == (0, 1)
        assert counted(found) == erased
        assert "0 of 1 daily extract rebuilt" in page_of(company, request_id)

    refusals.end()
    settle()
    for request_id, erased in ((first, {"conversations": 1, "messages": 1, "identities": 2}), (second, {})):
        found = company.request_object(request_id)
        assert (found["status"], found["waiting_for"], found["result"]) == ("completed", None, "done")
        assert found["progress"] == {
            "conversations_done": 1,
            "conversations_total": 1,
            "extracts_done": 1,
            "extracts_total": 1,
        }
        assert counted(found) == erased | {"extracts": 1}
        assert "All data in scope is erased" in page_of(company, request_id)
    # One outage is one entry in the change log.
    assert events(first) == ["request.accepted", "request.started", "request.requeued", "request.completed"]
    assert found_anywhere(storage, ["c-both", "c-carol"]) == {"c-carol"}


@pytest.mark.long(reason="the other order", beyond=1)
@pytest.mark.parametrize("order", ORDERS, ids=["first", "second"])
def test_both_fail_at_a_day_that_cannot_be_built_and_complete_in_any_order(company, storage, refusals, shared, order):
    company.make_day()
    refusals.forbidden.add(EXTRACTS)
    requests = []
    for subject in ("alice", "bob"):
        requests.append(company.delete(subject))
        work()
    assert [company.failure(each) for each in requests] == ["storage_access_denied"] * 2
    assert all("s3:PutObject" in company.request_object(each)["error"]["detail"] for each in requests)

    refusals.end()
    for place in order:
        company.retry(requests[place])
        settle()
        assert company.status(requests[place]) == "completed"
        assert found_anywhere(storage, ["c-both"]) == set()
    assert [company.request_object(each)["result"] for each in requests] == ["done", "done"]


def test_the_first_completes_on_the_day_they_share_though_the_second_has_failed(company, storage, refusals, shared):
    company.talk("c-bob", "bob", has_file=True)
    company.make_day()
    refusals.unwritable.add(EXTRACTS)
    first = company.delete("alice")
    work()
    refusals.locked.add(FILES)
    second = company.delete("bob")
    work()
    assert company.failure(second) == "storage_locked"
    refusals.unwritable.clear()
    settle()
    assert [company.status(each) for each in (first, second)] == ["completed", "failed"]
    assert words_in("c-both") not in storage.read(str(company.extract().key)).decode()

    refusals.end()
    company.retry(second)
    settle()
    assert company.status(second) == "completed"
    assert [company.request_object(each)["counts"]["extracts"] for each in (first, second)] == [1, 1]
    assert found_anywhere(storage, ["c-both", "c-bob"]) == set()


def test_neither_of_one_claim_completes_while_a_locked_file_remains(company, storage, refusals) -> None:
    company.talk("c-both", "alice", "bob", has_file=True)
    company.talk("c-carol", "carol", has_file=True)
    refusals.locked.add(FILES)
    requests = [company.delete("alice"), company.delete("bob")]
    work()
    assert [company.failure(each) for each in requests] == ["storage_locked"] * 2
    refusals.end()
    for each in reversed(requests):
        company.retry(each)
        settle()
        assert company.status(each) == "completed"
    assert found_anywhere(storage, ["c-both", "c-carol"]) == {"c-carol"}


def test_the_second_completes_in_the_grace_of_an_export_and_names_it(company, storage) -> None:
    """The copy that Alice requested is hers: his deletion does not remove it before its grace is over."""
    company.talk("c-both", "alice", "bob")
    export = company.exported("alice", include_shared=True)
    first = company.delete("alice")
    settle()
    second = company.delete("bob", erase_exports=True)
    settle()

    for request_id in (first, second):
        found = company.request_object(request_id)
        assert found["status"] == "completed"
        [kept] = found["kept_exports"]
        assert (kept["request_id"], kept["removed_at"]) == (str(export.request_id), None)
        assert "Exports kept" in page_of(company, request_id)
    assert words_in("c-both") in storage.read(str(export.key)).decode()
    export.refresh_from_db()
    assert export.expires_at == export.finished_at + settings.EXPORT_GRACE_DAYS

    type(export).objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    worker.sweep()
    assert found_anywhere(storage, ["c-both"]) == set()
    assert [company.request_object(each)["kept_exports"][0]["removed_at"] is None for each in (first, second)] == [
        False,
        False,
    ]
