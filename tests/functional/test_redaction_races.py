"""Redactions beside other work: exports, uploads and deletions in flight, workers that stop, two at once."""

from typing import Any
from uuid import UUID

import pytest

from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import exports, objects, verify
from compliance.ledger import journal
from compliance.models import Claim, ComplianceRequest, Export, RepeatedExport
from compliance.redaction import messages
from compliance.work.transitions import completion
from conversations import uploads
from conversations.intake import store
from conversations.models import Conversation, Message, UploadedFile
from tests.clients import CLIENT, empty, use_client_bucket
from tests.compliance.exporting import patch_count
from tests.conversations.documents import parsed
from tests.functional.company import NOON, Company, attempts, document, events, postpone, settle, work
from tests.functional.elsewhere import Elsewhere, uncommitted
from tests.functional.redacting import KEPT, PICTURE, SECRET, found, message_of, redact, said, talk, upload
from tests.functional.refusing import EXPORTS, EXTRACTS, in_the_gap
from tests.functional.support import everything_in
from tests.patches import Killed, after, before, failing
from tests.under_roles import role


def test_two_at_once_redact_their_messages(company: Company, storage: ObjectStorage) -> None:
    number = talk(company, "c-1", "alice")
    company.exported("alice")
    company.make_day()
    both = redact(company, number, "m1"), redact(company, number, "m2")
    other = Elsewhere(work)
    work()
    other.end()
    settle()

    assert {company.status(one) for one in both} == {"completed"}
    assert [message_of(number, one).kind for one in ("m1", "m2")] == ["redacted"] * 2
    assert found(storage) == set()
    assert KEPT not in everything_in(storage)


@pytest.mark.long(reason="three threads that wait for each other")
def test_two_with_the_same_export_file_it_again_once(company, storage, refusals) -> None:
    """The first waits for an export. The second would have it filed again too, and waits for the first."""
    one, other = talk(company, "c-1", "alice"), talk(company, "c-2", "bob")
    exports = [company.exported(["c-1"]), company.exported(["c-1", "c-2"])]
    refusals.busy.add(EXPORTS)
    with uncommitted(lambda: Export.objects.select_for_update().get(pk=exports[0].pk)):
        first = redact(company, one)
        waiting = Elsewhere(lambda: worker.drain(seconds=5))
        assert waiting.waits
        second = redact(company, other)
        Elsewhere(lambda: worker.drain(seconds=5)).end()
        assert attempts(first, second) == [0, 0]
    waiting.end()

    refusals.end()
    settle()
    assert {company.status(redaction) for redaction in (first, second)} == {"completed"}
    repeated = RepeatedExport.objects.filter(removed__in=[export.request_id for export in exports])
    assert set(repeated.values_list("redaction", flat=True)) == {UUID(first)}
    assert not ComplianceRequest.objects.exclude(status="completed").exists()
    assert not ComplianceRequest.objects.filter(lane="isolated").exists()
    assert found(storage) == set()


CSV, COPY, UPLOAD = ".csv", "_files/", "uploads/"
GAPS = [
    ("stream", UPLOAD, "before"),
    ("open_upload", CSV, "before"),
    ("open_upload", CSV, "after"),
    ("open_upload", COPY, "after"),
    ("write_parts", COPY, "after"),
    ("write_parts", CSV, "before"),
    ("write_parts", CSV, "after"),
]


@pytest.mark.long(reason="each of seven gaps", beyond=1)
@pytest.mark.parametrize("gap", GAPS, ids=[f"{when}-{method}-{part.strip('._/')}" for method, part, when in GAPS])
def test_an_export_in_flight_starts_over(company, storage, monkeypatch, gap: tuple[str, str, str]) -> None:
    number = talk(company, "c-1", "alice")
    redaction = redact(company, number)
    postpone(redaction)
    export = company.export("alice", include_files=True)
    met = in_the_gap(monkeypatch, *gap, work)
    worker.drain(seconds=30)
    assert met
    settle()

    assert [company.status(one) for one in (redaction, export)] == ["completed", "completed"]
    assert attempts(export) == [0]
    assert found(storage) == set()
    assert KEPT in storage.read(company.request_object(export)["export"]["key"]).decode()
    assert list(storage.uploads()) == []


def test_a_redaction_between_snapshot_and_first_row_is_noticed_too(company, storage, monkeypatch) -> None:
    number = talk(company, "c-1", "alice")
    redaction = redact(company, number)
    postpone(redaction)
    export = company.export("alice", include_files=True)
    patch_count(monkeypatch, lambda: Elsewhere(work).end())
    worker.drain(seconds=30)
    settle()

    assert [company.status(one) for one in (redaction, export)] == ["completed", "completed"]
    assert "request.requeued" in events(export)
    assert found(storage) == set()


@pytest.mark.long(reason="each of four gaps", beyond=1)
@pytest.mark.parametrize(
    ("method", "when"),
    [("open_upload", "before"), ("open_upload", "after"), ("write_parts", "before"), ("write_parts", "after")],
)
def test_an_upload_in_flight_leaves_nothing(company, storage, monkeypatch, method, when) -> None:
    [result] = company.send(document("c-1", "alice", messages=[said("m1", SECRET, kind="file")]))
    number = result["number"]
    redaction = redact(company, number)
    postpone(redaction)
    assert in_the_gap(monkeypatch, method, UPLOAD, when, work) == []

    refused = upload(company, number)

    assert (refused.status_code, refused.json()["code"]) == (410, "message_redacted")
    settle()
    assert company.status(redaction) == "completed"
    assert found(storage) == set()
    assert not UploadedFile.objects.exists()
    assert list(storage.uploads()) == []


def test_an_upload_that_ends_just_after_the_redaction_is_refused(company, storage, monkeypatch) -> None:
    """The redaction has emptied the message and cannot remove its objects for now."""
    [result] = company.send(document("c-1", "alice", messages=[said("m1", SECRET, kind="file")]))
    number = result["number"]

    def late(**given: Any) -> None:
        with role("owner"):
            Message.objects.filter(conversation=number).update(kind="redacted", text="")

    before(monkeypatch, uploads, "finalise", late)

    refused = upload(company, number)

    assert (refused.status_code, refused.json()["code"]) == (410, "message_redacted")
    assert PICTURE not in everything_in(storage)


@pytest.mark.long(reason="one more meeting of a redaction and a deletion")
def test_it_waits_for_the_day_also_once_a_deletion_has_erased_its_message(company, storage, refusals) -> None:
    number = talk(company, "c-1", "alice")
    company.make_day()
    refusals.unwritable.add(EXTRACTS)
    redaction = redact(company, number)
    work()
    deletion = company.delete("alice")
    work()
    work()

    assert [company.request_object(one)["waiting_for"] for one in (redaction, deletion)] == ["extracts"] * 2
    assert not Message.objects.filter(conversation=number).exists()
    refusals.end()
    settle()
    assert [company.status(one) for one in (redaction, deletion)] == ["completed"] * 2
    assert found(storage) == set()


# Where a worker stops: after the work of each step is done, before or after its commit.
STEPS = [
    (messages, "empty"),
    (exports, "expire_redacted"),
    (verify, "find_leftovers"),
    (objects, "erase_files"),
    (objects, "erase_exports"),
    (journal, "intend"),
    (journal, "conclude"),
    (completion, "complete_deletions"),
]


@pytest.mark.long(reason="eight steps, each with a redaction of its own", beyond=1)
@pytest.mark.parametrize(("module", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_worker_that_stops_at_any_step_is_succeeded(company, storage, monkeypatch, module, name) -> None:
    number = talk(company, "c-1", "alice")
    company.exported("alice", include_files=True)
    redaction = redact(company, number)
    with monkeypatch.context() as patch:
        after(patch, module, name, failing(Killed))
        with pytest.raises(Killed):
            worker.drain(seconds=30)
    Claim.objects.update(expires_at=NOON)
    settle()

    shown = company.request_object(redaction)
    assert (shown["status"], shown["counts"]["messages"], shown["counts"]["files"]) == ("completed", 1, 1)
    assert found(storage) == set()
    assert ComplianceRequest.objects.filter(kind="export").count() == 2
    assert events(redaction).count("request.completed") == 1


@pytest.mark.long(reason="the same with another holder", beyond=1)
@pytest.mark.parametrize("holder", ["intake", "an upload"])
def test_it_waits_for_whoever_has_the_conversation(company: Company, storage: ObjectStorage, holder: str) -> None:
    number = talk(company, "c-1", "alice")
    redaction = redact(company, number)
    document_again = parsed("c-1", custom_variables={"member_id": "alice"}, messages=[said("m3", "new")])

    def lock() -> object:
        if holder == "intake":
            return store(chatbot=company.chatbot, documents=[document_again])
        return Conversation.objects.select_for_update().get(chatbot=company.chatbot, pk=number)

    with uncommitted(lock):
        worker.drain(seconds=30)
        waiting = company.request_object(redaction)
        assert (waiting["status"], waiting["waiting_for"]) == ("accepted", "rows")
        assert message_of(number).text
    settle()
    assert company.status(redaction) == "completed"
    assert found(storage) == set()


@pytest.mark.long(reason="a storage of the client's own")
def test_what_a_failed_export_left_in_a_clients_bucket_is_removed(company, storage, server, monkeypatch) -> None:
    number = talk(company, "c-1", "alice")
    use_client_bucket(company.chatbot, server, identity=CLIENT)
    clients = server.storage()
    empty(clients)
    export = company.export("alice")

    with monkeypatch.context() as broken:
        broken.setattr(completion, "complete_exports", failing(Killed))
        with pytest.raises(Killed):
            worker.drain(seconds=30)
    assert SECRET in everything_in(clients), "It is whole, and no one knows."
    Claim.objects.all().delete()
    ComplianceRequest.objects.filter(pk=export).update(
        status="failed", failed_at=NOON, error_code="worker_lost", claim=None
    )
    redaction = redact(company, number)
    work()
    work()

    assert company.status(redaction) == "completed"
    assert company.status(export) == "failed"
    assert everything_in(clients) == ""
