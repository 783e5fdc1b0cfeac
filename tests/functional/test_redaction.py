"""One message is removed: its text and file are nowhere afterwards, and all else is as it was."""

from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import Bucket, ChangeLogEntry, Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import verify
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from conversations.models import DailyExtract, Message, UploadedFile
from tests.clients import CLIENT, use_client_bucket, use_hosted_bucket
from tests.compliance.conftest import versioned
from tests.functional.company import DAY, Company, attempts, became, document, events, settle, work
from tests.functional.redacting import KEPT, NAME, PICTURE, SECRET, found, message_of, redact, said, talk, upload
from tests.functional.refusing import EXPORTS, EXTRACTS, FILES
from tests.functional.support import dump, everything_in, rows_of
from tests.ledger import keys_of, lines_of

__all__ = ["versioned"]

LINE = '"m1","2026-11-01T12:00:00.000000Z","user","redacted","","",""'


def test_nothing_of_the_message_is_left_and_all_else_is_as_it_was(company, neighbour, versioned, caplog) -> None:
    other_company = Company(neighbour)
    number, other = talk(company, "c-1", "alice"), company.talk("c-2", "bob", has_file=True)
    elsewhere = other_company.talk("c-1", "alice", has_file=True)
    export = company.exported("alice", include_files=True)
    of_bob = company.exported("bob", include_files=True)
    by_id = company.exported(["c-1"])
    company.make_day()
    assert found(versioned) == {SECRET, NAME, PICTURE}
    before, rows = message_of(number), rows_of(dump())
    neighbours = [number, other, elsewhere]
    kept = list(Message.objects.filter(conversation__in=neighbours).exclude(pk=before.pk).order_by("pk").values())
    files = list(UploadedFile.objects.filter(conversation__in=[other, elsewhere]).order_by("pk").values())
    untouched = {key: versioned.read(key) for key in versioned.keys("") if str(of_bob.key) in key}

    redaction = redact(company, number, reference="TICKET-7")
    settle()

    shown = company.request_object(redaction)
    assert (shown["status"], shown["result"], shown["selector"]) == ("completed", "done", "messages")
    counted = {name: count for name, count in shown["counts"].items() if count}
    assert counted == {"messages": 1, "files": 1, "exports": 2, "extracts": 1}
    assert found(versioned) == set()
    assert not [record for record in caplog.records if SECRET in record.getMessage() or NAME in record.getMessage()]
    after = message_of(number)
    assert (after.kind, after.text, after.sender, after.sent_at) == ("redacted", "", before.sender, before.sent_at)
    assert kept == list(
        Message.objects.filter(conversation__in=neighbours).exclude(pk=before.pk).order_by("pk").values()
    )
    changed = {table for table, now in rows_of(dump()).items() if rows[table] != now}
    assert {table for table in changed if table.startswith("conversations_")} == {
        "conversations_message",
        "conversations_uploadedfile",
        "conversations_dailyextract",
        "conversations_extractconversation",
    }
    assert files == list(UploadedFile.objects.order_by("pk").values())
    assert untouched == {key: versioned.read(key) for key in untouched}
    of_bob.refresh_from_db()
    assert of_bob.key
    # The exports are filed again, and told of.
    removed = {one["request_id"]: one["repeated_by"] for one in shown["redaction"]["removed_exports"]}
    assert removed.keys() == {str(export.request_id), str(by_id.request_id)}
    for old, new in removed.items():
        repeat = company.request_object(new)
        assert (repeat["status"], repeat["repeats"], repeat["kind"]) == ("completed", old, "export")
        assert company.request_object(old)["repeated_by"] == new
        csv = versioned.read(repeat["export"]["key"]).decode()
        assert KEPT in csv
        assert LINE in csv
    first = ComplianceRequest.objects.get(pk=removed[str(export.request_id)])
    assert (first.include_files, first.variable_id, first.uci_value) == (True, export.request.variable_id, None)
    assert not verify.audit([UUID(redaction)]).left
    assert events(redaction)[0] == "request.accepted"
    entry = ChangeLogEntry.objects.filter(request_id=redaction).earliest("pk")
    assert entry.data == {"kind": "redaction", "origin": "api", "reason": "payment_data"}
    # The ledger has the digest of the message.
    accepted, intended, redacted = (line for line in lines_of(versioned) if "messages" in line)
    assert [one["kind"] for one in (accepted, intended, redacted)] == ["accepted", "intended", "redacted"]
    assert len(redacted["messages"]) == 1
    assert accepted["messages"] == intended["messages"] == redacted["messages"]
    assert not [key for key in keys_of(versioned) if "m1" in versioned.read(key).decode()]
    # Transcript and day show it as redacted.
    entries = company.caller.get(f"conversations/{number}/messages").json()["results"]
    assert [(one["id"], one["kind"], one["text"], one["files"]) for one in entries] == [
        ("m1", "redacted", "", []),
        ("m2", "text", KEPT, []),
    ]
    extract = DailyExtract.objects.get(chatbot=company.chatbot, day=DAY)
    assert LINE in versioned.read(str(extract.key)).decode()


def test_what_is_redacted_or_sent_again_stays_redacted(company: Company, storage: ObjectStorage) -> None:
    number = talk(company, "c-1", "alice")
    company.exported("alice")
    both = redact(company, number), redact(company, number)
    settle()
    assert sorted(company.request_object(one)["result"] for one in both) == ["done", "nothing_found"]
    assert found(storage) == set()
    assert ComplianceRequest.objects.filter(kind="export").count() == 2, "It is filed again once."

    again = company.send(document("c-1", "alice", messages=[said("m1", SECRET), said("m3", "new")]))
    assert became(again) == ["updated"]
    assert (message_of(number).kind, message_of(number).text) == ("redacted", "")
    refused = upload(company, number)
    assert (refused.status_code, refused.json()["code"]) == (410, "message_redacted")
    assert upload(company, number, "m2").status_code == 201
    assert UploadedFile.objects.filter(message_id=message_of(number).pk).count() == 0
    settle()
    assert SECRET not in dump() + everything_in(storage)


def test_it_waits_for_an_approval_for_the_storage_and_for_its_days(company, storage, refusals) -> None:
    number = talk(company, "c-1", "alice")
    export = company.exported("alice")
    company.make_day()
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    redaction = redact(company, number)
    work()
    held = company.request_object(redaction)
    assert (held["status"], held["hold_reason"]) == ("on_hold", "awaiting_approval")
    assert message_of(number).kind == "file"

    refusals.busy.add(FILES)
    refusals.unwritable.add(EXTRACTS)
    decisions.approve(request_id=UUID(redaction), actor="staff:1")
    work()
    assert company.status(redaction) == "accepted"
    assert attempts(redaction) == [1]
    assert (message_of(number).kind, message_of(number).text) == ("redacted", "")
    gone = company.caller.get(f"requests/{export.request_id}/download")
    assert (gone.status_code, gone.json()["code"]) == (409, "export_expired")

    refusals.busy.clear()
    work()
    waiting = company.request_object(redaction)
    assert (waiting["status"], waiting["waiting_for"]) == ("accepted", "extracts")
    assert (waiting["progress"]["extracts_done"], waiting["progress"]["extracts_total"]) == (0, 1)

    refusals.end()
    settle()
    done = company.request_object(redaction)
    assert (done["status"], done["progress"]["extracts_done"], done["counts"]["messages"]) == ("completed", 1, 1)
    assert found(storage) == set()


@pytest.mark.long(reason="a day is made three times", beyond=1)
@pytest.mark.usefixtures("refused_at_once")
@pytest.mark.parametrize("failing", [EXPORTS, EXTRACTS])
def test_one_that_failed_can_be_retried(company, storage, refusals, failing) -> None:
    number = talk(company, "c-1", "alice")
    company.exported("alice")
    if failing == EXTRACTS:
        company.make_day()
    (refusals.locked if failing == EXPORTS else refusals.forbidden).add(failing)
    redaction = redact(company, number)
    for _ in range(2):
        work()
    failed = company.request_object(redaction)
    code = "storage_locked" if failing == EXPORTS else "storage_access_denied"
    assert (failed["status"], failed["error"]["code"], failed["error"]["retryable"]) == ("failed", code, True)

    refusals.end()
    decisions.retry(request_id=UUID(redaction), actor="command")
    settle()
    assert company.status(redaction) == "completed"
    assert found(storage) == set()


@pytest.mark.long(reason="a storage of the client's own")
def test_copies_in_a_clients_bucket_are_named_and_left(company, storage, server) -> None:
    number = talk(company, "c-1", "alice")
    use_client_bucket(company.chatbot, server, identity=CLIENT)
    delivered = company.exported("alice")
    day = company.make_day()
    use_hosted_bucket(company.chatbot)
    redaction = redact(company, number)
    settle()

    shown = company.request_object(redaction)
    assert shown["status"] == "completed"
    assert [one["request_id"] for one in shown["kept_exports"]] == [str(delivered.request_id)]
    assert [one["day"] for one in shown["delivered_extracts"]] == [day.day.isoformat()]
    assert shown["redaction"]["removed_exports"] == []
    assert SECRET in everything_in(server.storage())
    assert SECRET not in dump()


def test_an_export_that_has_nowhere_to_go_is_not_filed_again(company: Company, storage: ObjectStorage) -> None:
    """It would fail, and hold the chatter's deletion for a file that is not needed."""
    number = talk(company, "c-1", "alice")
    export = company.exported("alice")
    Bucket.objects.filter(chatbot=company.chatbot).delete()
    redaction = redact(company, number)
    work()

    shown = company.request_object(redaction)
    assert shown["redaction"]["removed_exports"] == [{"request_id": str(export.request_id), "repeated_by": None}]
    assert not ComplianceRequest.objects.filter(kind="export").exclude(pk=export.request_id).exists()


@pytest.mark.long(reason="many exports are made")
def test_many_exports_are_filed_again_at_once(company: Company, storage: ObjectStorage) -> None:
    """Intake waits meanwhile."""
    number = talk(company, "c-1", "alice")
    exports = [company.exported(subject) for subject in ("alice", "alice", "alice", ["c-1"], ["c-1"])]
    redaction = redact(company, number)
    with CaptureQueriesContext(connection) as queries:
        work()
        inserted = [query["sql"].split('"')[1] for query in queries if query["sql"].startswith('INSERT INTO "')]

    removed = company.request_object(redaction)["redaction"]["removed_exports"]
    assert [one["request_id"] for one in removed] == [str(export.request_id) for export in exports]
    repeats = [ComplianceRequest.objects.get(pk=one["repeated_by"]) for one in removed]
    assert [one.seq for one in repeats] == sorted(one.seq for one in repeats)
    assert [one.variable_id is None for one in repeats] == [False] * 3 + [True] * 2
    once = "compliance_repeatedexport", "compliance_compliancerequest"
    assert {table: inserted.count(table) for table in once} == dict.fromkeys(once, 1)
    settle()
    assert found(storage) == set()


def test_a_restored_backup_is_found_and_a_clean_export_that_expires_is_not(company, storage, refusals) -> None:
    number = talk(company, "c-1", "alice")
    redaction = redact(company, number)
    settle()
    later = company.exported("alice", age=settings.HOSTED_FILE_DAYS)
    refusals.locked.add(EXPORTS)
    worker.sweep()
    later.refresh_from_db()
    assert later.key
    assert not verify.audit([UUID(redaction)]).left

    Message.objects.filter(pk=message_of(number).pk).update(kind="text", text=SECRET)
    assert verify.audit([UUID(redaction)]).left[UUID(redaction)].rows == {"conversations_message": 1}


def test_a_reference_with_the_chatters_value_goes_with_the_conversation(company, storage) -> None:
    number = talk(company, "c-1", "alice")
    named = redact(company, number, reference="case-alice")
    other = redact(company, number, reference="TICKET-7")
    settle()
    company.delete("alice")
    settle()

    assert "alice" not in dump() + everything_in(storage)
    assert [company.request_object(one)["reference"] for one in (named, other)] == ["", "TICKET-7"]
