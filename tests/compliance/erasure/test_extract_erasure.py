"""A deletion and daily extracts: days are flagged with the rows, rebuilt and waited for; client files are named."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage, StorageError
from compliance import worker
from compliance.erasure import extracts, rows, verify
from compliance.models import ComplianceRequest
from compliance.work.transitions import requeue
from conversations.extracts import builder, leases
from conversations.intake import store
from conversations.models import DailyExtract, ExtractConversation, Identity
from tests.calls import TokenCaller
from tests.conversations.documents import message, parsed, update
from tests.extracting import (
    FIRST,
    conversation_on,
    day_after,
    extract_of,
    lines,
    make_all,
    noon,
    planned,
    texts,
    two_days,
    two_days_made,
    work_on_next,
)
from tests.factories import IdentityFactory, deletion_of, uci_of
from tests.functional.elsewhere import Elsewhere, Gate
from tests.patches import after, before, failing, once

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("refused_at_once")]

HOUR = timedelta(hours=1)


def test_a_deletion_waits_until_its_days_are_rebuilt(chatbot, neighbour, storage) -> None:
    for owner in (chatbot, neighbour):
        two_days_made(owner)
    request = deletion_of(chatbot, "alice")
    caller = TokenCaller(chatbot)
    work_on_next()

    request.refresh_from_db()
    assert (request.status, request.messages) == ("accepted", 2)
    waiting = caller.get(f"requests/{request.pk}").json()
    assert waiting["waiting_for"] == "extracts"
    assert (waiting["progress"]["extracts_done"], waiting["progress"]["extracts_total"]) == (0, 2)
    assert set(DailyExtract.objects.filter(chatbot=neighbour).values_list("state", flat=True)) == {"done"}
    assert verify.verify([request.pk])[request.pk].rows == {"conversations_dailyextract": 2}
    # Not before its days are rebuilt, though it may be claimed.
    ComplianceRequest.objects.update(not_before=None)
    work_on_next()
    request.refresh_from_db()
    assert request.status == "accepted"

    assert extracts.build_next(settled=False)
    request.refresh_from_db()
    assert request.not_before
    assert extracts.build_next(settled=False)
    request.refresh_from_db()
    assert request.not_before is None
    assert not worker.drain()

    result = caller.get(f"requests/{request.pk}").json()
    assert (result["status"], result["waiting_for"], result["counts"]["extracts"]) == ("completed", None, 2)
    assert result["progress"]["extracts_done"] == result["progress"]["extracts_total"] == 2
    assert texts(storage, chatbot) == {"words of bob"}
    assert texts(storage, neighbour) == {"words of alice", "words of bob"}
    assert verify.audit([request.pk]).left == {}


def test_a_deletion_does_not_wait_for_days_that_were_rebuilt_meanwhile(chatbot, storage, monkeypatch) -> None:
    two_days_made(chatbot)
    request = deletion_of(chatbot, "alice")
    before(monkeypatch, requeue, "requeue", lambda *_, **__: make_all())
    work_on_next()
    request.refresh_from_db()
    assert (request.status, request.not_before) == ("accepted", None)
    assert not worker.drain()
    request.refresh_from_db()
    assert request.status == "completed"


def test_a_day_is_rebuilt_once_for_all_its_changes(chatbot: Chatbot, storage: ObjectStorage) -> None:
    for number in range(8):
        conversation_on(chatbot, f"member-{number}", noon())
    planned(chatbot)
    make_all()
    for number in range(4):
        deletion_of(chatbot, f"member-{number}")
    finished = extract_of(chatbot).finished_at
    assert not worker.drain()
    assert set(ComplianceRequest.objects.values_list("status", "extracts")) == {("completed", 1)}
    after = extract_of(chatbot)
    assert (after.version, after.rows) == (2, 4)
    assert after.finished_at != finished


def test_a_day_that_begins_within_an_hour_is_rebuilt_with_the_day_before(chatbot, storage) -> None:
    """A message at the instant in which a day begins belongs to that day."""
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone="Asia/Kathmandu")
    begins = datetime(2026, 10, 31, 18, 15, tzinfo=UTC)
    conversation_on(chatbot, "alice", begins - timedelta(minutes=1), begins, text="words of alice")
    chatbot.refresh_from_db()
    days = [FIRST - timedelta(days=1), FIRST]
    planned(chatbot, *days)
    make_all()
    assert [extract_of(chatbot, day).rows for day in days] == [1, 1]
    request = deletion_of(chatbot, "alice")
    assert not worker.drain()

    request.refresh_from_db()
    assert (request.status, request.extracts) == ("completed", 2)
    assert [texts(storage, chatbot, day) for day in days] == [set(), set()]


def test_an_oversized_deletion_flags_its_days_chunk_by_chunk(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(rows, "CHUNK_MESSAGES", 2)
    steps = [noon() + number * 12 * HOUR for number in range(5)]
    conversation_on(chatbot, "alice", *steps)
    planned(chatbot, FIRST, day_after(FIRST, 3))
    make_all()
    request = deletion_of(chatbot, "alice")
    assert not worker.drain()
    request.refresh_from_db()
    assert (request.status, request.messages, request.extracts) == ("completed", 5, 3)
    assert {extract.rows for extract in DailyExtract.objects.all()} == {0}


def test_a_file_read_before_the_mark_and_published_after_it_is_rebuilt(chatbot, storage, monkeypatch) -> None:
    """The erasure commits after the worker has checked that its version is current."""
    two_days(chatbot)
    planned(chatbot)
    request = deletion_of(chatbot, "alice")

    after(monkeypatch, leases, "present_version", once(lambda _: work_on_next()))
    held = leases.take_next(settled=False)
    assert held
    assert not builder.build(held)
    # The published file contains her messages, so the deletion waits.
    assert "words of alice" in texts(storage, chatbot)
    request.refresh_from_db()
    assert request.status == "accepted"

    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain()
    request.refresh_from_db()
    assert request.status == "completed"
    assert texts(storage, chatbot) == {"words of bob"}


def test_a_day_created_while_rows_are_erased_is_rebuilt(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """The chunk looked for days before the row existed, and commits after the file was started."""
    two_days(chatbot)
    request = deletion_of(chatbot, "alice")
    gate = Gate()

    def erase() -> None:
        with pytest.MonkeyPatch.context() as patch:
            after(patch, extracts, "has_any", lambda _: gate.passed())
            work_on_next()

    erasing = Elsewhere(erase)
    gate.wait_for_caller()
    planned(chatbot)
    held = leases.take_next(settled=False)
    assert held
    threading.Timer(0.5, gate.open).start()
    builder.build(held)
    erasing.end()
    request.refresh_from_db()
    assert request.status == "completed"
    assert texts(storage, chatbot) == {"words of bob"}


def test_a_marked_conversation_is_left_out_before_it_is_erased(chatbot: Chatbot, storage: ObjectStorage) -> None:
    two_days_made(chatbot)
    DailyExtract.objects.update(state="stale")
    request = deletion_of(chatbot, "alice", status="processing", started_at=timezone.now())
    chatbot_conversations = connection.cursor()
    chatbot_conversations.execute(
        "UPDATE conversations_conversation SET deletion_request_id = %s WHERE id IN"
        " (SELECT conversation_id FROM conversations_identity WHERE value = 'alice')",
        [request.pk],
    )
    make_all()
    assert texts(storage, chatbot) == {"words of bob"}


def test_deletions_that_share_a_conversation_all_wait_for_its_days(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """In one claim: the conversation is marked for alice, and bob's deletion has nothing else to erase."""
    shared = conversation_on(chatbot, "alice", noon(), text="words of both")
    IdentityFactory.create(conversation=shared, variable=uci_of(chatbot), value="bob")
    conversation_on(chatbot, "carol", noon(), text="words of carol")
    planned(chatbot)
    make_all()
    both = [deletion_of(chatbot, "alice"), deletion_of(chatbot, "bob")]
    other = deletion_of(chatbot, "dave")
    work_on_next()
    assert set(ComplianceRequest.objects.filter(pk__in=[each.pk for each in both]).values_list("status")) == {
        ("accepted",)
    }
    other.refresh_from_db()
    assert other.status == "completed"
    assert not worker.drain()
    for request in (*both, other):
        request.refresh_from_db()
        assert (request.status, request.extracts) == ("completed", 0 if request == other else 1)
    assert texts(storage, chatbot) == {"words of carol"}


def test_days_of_conversations_named_during_verification_are_waited_for(chatbot, storage, monkeypatch) -> None:
    two_days_made(chatbot)
    bobs = Identity.objects.get(value="bob").conversation.external_id
    request = deletion_of(chatbot, "dave")

    def name(*_: object, **__: object) -> None:
        naming = update(bobs, custom_variables={"member_id": "dave"})
        [named] = Elsewhere(lambda: store(chatbot=chatbot, documents=[naming])).end()
        assert named.errors[0].code == "chatter_erased"

    before(monkeypatch, verify, "verify", once(name))
    work_on_next()
    request.refresh_from_db()
    assert (request.status, request.attempts) == ("accepted", 0)
    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain()
    request.refresh_from_db()
    assert (request.status, request.extracts) == ("completed", 1)
    assert texts(storage, chatbot) == {"words of alice"}


def test_a_clients_file_is_not_rebuilt_when_a_failed_day_is_retried(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """A second deletion of the chatter retries the failed day."""
    two_days_made(chatbot)
    failed, delivered = extract_of(chatbot), extract_of(chatbot, day_after(FIRST))
    DailyExtract.objects.filter(pk=delivered.pk).update(hosting="client", bucket="clients-bucket", expires_at=None)
    deletion_of(chatbot, "alice")
    work_on_next()
    DailyExtract.objects.filter(pk=failed.pk).update(state="failed", error_code="storage_access_denied")
    ComplianceRequest.objects.update(not_before=None)
    work_on_next()
    assert ComplianceRequest.objects.get().status == "failed"
    deletion_of(chatbot, "alice")
    work_on_next()

    for extract in (failed, delivered):
        extract.refresh_from_db()
    assert (failed.state, delivered.state) == ("stale", "done")


def test_without_extracts_no_day_is_flagged(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> None:
    two_days_made(neighbour)
    two_days(chatbot)
    deletion_of(chatbot, "alice")
    assert not worker.drain()
    assert not ExtractConversation.objects.exists()


def test_a_new_deletion_has_a_failed_day_rebuilt(chatbot, storage, monkeypatch) -> None:
    for member in ("alice", "bob"):
        conversation_on(chatbot, member, noon(), text=f"words of {member}")
    planned(chatbot)
    make_all()
    with monkeypatch.context() as patch:
        patch.setattr(
            ObjectStorage, "open_upload", failing(StorageError("storage_access_denied", "Grant it s3:PutObject."))
        )
        late = message("m9", text="words of carol", sent_at=noon().isoformat())
        store(chatbot=chatbot, documents=[parsed("late", custom_variables={"member_id": "carol"}, messages=[late])])
        make_all()
    assert (extract_of(chatbot).state, extract_of(chatbot).error_code) == ("failed", "storage_access_denied")

    request = deletion_of(chatbot, "alice")
    assert not worker.drain()

    request.refresh_from_db()
    assert (request.status, request.error_code, request.extracts) == ("completed", "", 1)
    assert {line["text"] for line in lines(storage, extract_of(chatbot, FIRST))} == {"words of bob", "words of carol"}


def failed_at_it(chatbot: Chatbot) -> ComplianceRequest:
    """A deletion that has erased the rows and failed at the day."""
    conversation_on(chatbot, "alice", noon())
    planned(chatbot)
    make_all()
    request = deletion_of(chatbot, "alice")
    work_on_next()
    DailyExtract.objects.update(state="failed", error_code="storage_access_denied")
    ComplianceRequest.objects.update(not_before=None)
    work_on_next()
    request.refresh_from_db()
    assert (request.status, request.error_code) == ("failed", "storage_access_denied")
    return request


def test_a_second_deletion_has_a_failed_day_rebuilt_and_waits_for_it(chatbot, storage) -> None:
    failed_at_it(chatbot)
    assert extract_of(chatbot).state == "failed"
    second = deletion_of(chatbot, "alice")
    work_on_next()
    second.refresh_from_db()
    assert (second.status, second.waiting_for, second.attempts) == ("accepted", "extracts", 0)

    assert not worker.drain()
    second.refresh_from_db()
    assert (second.status, second.extracts) == ("completed", 1)
    assert lines(storage, extract_of(chatbot)) == []
