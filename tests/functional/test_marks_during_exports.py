"""A deletion that closes a conversation in the middle of an export: in each gap between two calls of the storage.

The export is rebuilt from the remaining data, and loses no attempt. Nothing of the erased conversation is in it, or
anywhere else.
"""

from uuid import UUID

import pytest
from django.conf import settings

from common.storage import ObjectStorage
from compliance import worker
from compliance.models import Export, ExportConversation
from tests.compliance.exporting import patch_count
from tests.functional.company import (
    Company,
    Subject,
    attempts,
    events,
    found_anywhere,
    is_erased,
    key_of_file,
    postpone,
    settle,
    words_in,
    work,
)
from tests.functional.elsewhere import Elsewhere
from tests.functional.refusing import FILES, in_the_gap

CSV, COPY, UPLOAD = ".csv", "_files/", "uploads/"
# At first: while a copy is read, and once all is sent.
GAPS = [
    ("stream", UPLOAD, "before"),
    ("write_parts", CSV, "after"),
    ("open_upload", CSV, "before"),
    ("open_upload", CSV, "after"),
    ("open_upload", COPY, "before"),
    ("open_upload", COPY, "after"),
    ("write_parts", COPY, "before"),
    ("write_parts", COPY, "after"),
    ("write_parts", CSV, "before"),
]


def in_each_gap(gaps: list[tuple[str, str, str]] = GAPS) -> pytest.MarkDecorator:
    names = [f"{when}-{method}-{part.strip('._/')}" for method, part, when in gaps]
    return pytest.mark.parametrize("gap", gaps, ids=names)


# The chatters of the deletion and of the export. Of two by ids one would wait for the other.
MEETINGS: dict[str, tuple[Subject, Subject]] = {
    "uci-uci": ("alice", "bob"),
    "ids-uci": (["c-both"], "bob"),
    "uci-ids": ("alice", ["c-both", "c-bob"]),
}


@pytest.fixture
def numbers(company: Company) -> dict[str, int]:
    return {
        "c-both": company.talk("c-both", "alice", "bob", has_file=True),
        "c-bob": company.talk("c-bob", "bob", has_file=True),
    }


def filed(company: Company, meeting: str = "uci-uci") -> tuple[str, str]:
    """File a waiting deletion, and an export with files that runs first."""
    erased, exported = MEETINGS[meeting]
    deletion = company.delete(erased)
    postpone(deletion)
    return deletion, company.export(exported, include_shared=isinstance(exported, str), include_files=True)


def assert_rebuilt(company: Company, storage: ObjectStorage, numbers: dict[str, int], export: str) -> None:
    """The export is complete with the remaining data, and the bucket contains only it and the remaining file."""
    found = company.request_object(export)
    assert (found["status"], found["error"], attempts(export)) == ("completed", None, [0])
    assert found["counts"]["conversations"] == 1
    held = Export.objects.get(request_id=UUID(export))
    assert held.finished_at
    assert held.expires_at == held.finished_at + settings.HOSTED_FILE_DAYS
    recorded = ExportConversation.objects.filter(export=held).values_list("conversation_id", flat=True)
    assert list(recorded) == [numbers["c-bob"]]
    assert words_in("c-bob") in storage.read(found["export"]["key"]).decode()
    [copy] = found["export"]["files"]
    keys = {key for key in storage.keys("") if not key.startswith("erasure_ledger/")}
    assert keys == {found["export"]["key"], copy["key"], key_of_file(numbers["c-bob"])}
    assert list(storage.uploads()) == []
    assert events(export).count("request.completed") == 1


# While a copy is read, it is rebuilt as below.
@pytest.mark.long(reason="each of eight gaps", beyond=1)
@in_each_gap(GAPS[1:])
def test_an_export_is_rebuilt_without_data_erased_meanwhile(
    company, storage, monkeypatch, numbers, gap: tuple[str, str, str]
):
    deletion, export = filed(company)
    met = in_the_gap(monkeypatch, *gap, work)
    worker.drain(seconds=30)
    assert met
    settle()

    assert company.status(deletion) == "completed"
    assert is_erased(numbers["c-both"])
    assert found_anywhere(storage, ["c-both", "c-bob"]) == {"c-bob"}
    assert_rebuilt(company, storage, numbers, export)


@pytest.mark.long(reason="each meeting", beyond=1)
@pytest.mark.parametrize("meeting", MEETINGS)
def test_a_deletion_between_snapshot_and_first_row_is_noticed_too(company, storage, monkeypatch, numbers, meeting):
    deletion, export = filed(company, meeting)
    patch_count(monkeypatch, lambda: Elsewhere(work).end())
    worker.drain(seconds=30)
    settle()

    assert company.status(deletion) == "completed"
    assert found_anywhere(storage, ["c-both", "c-bob"]) == {"c-bob"}
    assert_rebuilt(company, storage, numbers, export)


@pytest.mark.long(reason="each of nine gaps", beyond=1)
@in_each_gap()
def test_an_export_is_rebuilt_even_if_the_deletion_that_overtook_it_failed(
    company, storage, monkeypatch, refusals, *, numbers, gap: tuple[str, str, str]
):
    """The deletion fails at a file, after it closed the conversation and before it came to any export."""
    deletion, export = filed(company)
    refusals.locked.add(FILES)
    met = in_the_gap(monkeypatch, *gap, work)
    worker.drain(seconds=30)
    assert met
    settle()
    assert company.failure(deletion) == "storage_locked"
    found = company.request_object(export)
    assert (found["status"], attempts(export)) == ("completed", [0])
    assert words_in("c-both") not in storage.read(found["export"]["key"]).decode()

    refusals.end()
    company.retry(deletion)
    settle()
    assert company.status(deletion) == "completed"
    assert found_anywhere(storage, ["c-both", "c-bob"]) == {"c-bob"}
    assert_rebuilt(company, storage, numbers, export)


@pytest.mark.long(reason="each of nine gaps", beyond=1)
@in_each_gap()
def test_a_deletion_of_other_conversations_does_not_delay_an_export(
    company, storage, monkeypatch, numbers, gap: tuple[str, str, str]
):
    """Bob's export leaves what he shares with Alice out."""
    deletion = company.delete("alice", erase_exports=True)
    postpone(deletion)
    export = company.export("bob", include_files=True)
    met = in_the_gap(monkeypatch, *gap, work)
    worker.drain(seconds=30)
    assert met
    settle()

    assert company.status(deletion) == "completed"
    assert events(export) == ["request.accepted", "request.started", "request.completed"]
    assert found_anywhere(storage, ["c-both", "c-bob"]) == {"c-bob"}
    assert_rebuilt(company, storage, numbers, export)
