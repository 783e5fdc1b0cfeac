"""The counts of deletions: what their statements erased, each row once, however many requests were about it."""

import pytest

from chatbots.buckets import ObjectStorage
from conversations.models import UploadedFile
from tests.functional.company import Company, settle, work
from tests.functional.refusing import FILES, Refusals

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_row_is_counted_once_and_for_whoever_erased_it(
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

    counts = [company.told(each)["counts"] for each in requests]
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


def test_uploads_that_broke_off_are_removed_and_not_counted(
    company: Company, storage: ObjectStorage, refusals: Refusals
) -> None:
    number = company.talk("c-1", "alice", has_file=True)
    refusals.unwritable.add(FILES)
    assert company.upload(number, "half a picture").status_code == 503
    refusals.end()
    assert UploadedFile.objects.filter(conversation=number).count() == 2
    deletion = company.delete("alice")
    settle()

    assert company.told(deletion)["counts"]["files"] == 1
    assert not UploadedFile.objects.exists()
    assert list(storage.versions(FILES)) == []
