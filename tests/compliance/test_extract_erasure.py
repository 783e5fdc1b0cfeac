"""A deletion and the days' extracts: flagged with the rows, made again, waited for; clients' files named."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from chatbots.buckets import ObjectStorage, Place, StorageError
from chatbots.models import Bucket, Chatbot
from compliance import claims, operations, worker
from compliance.erasure import engine, extracts, remnants, rows, verify
from compliance.models import ComplianceRequest
from compliance.sizes import measure
from conversations.extracts import making, work
from conversations.intake import store
from conversations.models import Conversation, DailyExtract, ExtractConversation
from tests.calls import TokenCaller
from tests.conversations.documents import update
from tests.extracting import (
    FIRST,
    conversation_on,
    day_after,
    extract_of,
    lines,
    make_all,
    noon,
    planned,
)
from tests.factories import IdentityFactory, deletion_of, export_of, uci_of
from tests.functional.elsewhere import Elsewhere

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def _filled(chatbot: Chatbot) -> None:
    """Two days: alice on both, bob on the first."""
    conversation_on(chatbot, "alice", noon(), noon(day_after(FIRST)), text="words of alice")
    conversation_on(chatbot, "bob", noon() + HOUR, text="words of bob")


def _made(chatbot: Chatbot) -> None:
    _filled(chatbot)
    planned(chatbot, FIRST, day_after(FIRST))
    make_all()


def _run(kind: ComplianceRequest.Kind = ComplianceRequest.Kind.DELETION) -> None:
    """Work on the next claim alone, and make no extract."""
    held = claims.take(kind)
    assert held
    engine.run(held, measure(held), deadline=float("inf"))
    held.let_go()


def _said(storage: ObjectStorage, chatbot: Chatbot, day: Any = FIRST) -> set[str]:
    return {line["text"] for line in lines(storage, extract_of(chatbot, day))}


def _refuse(*_args: Any, **_options: Any) -> None:
    raise StorageError("storage_access_denied", "Grant it s3:PutObject.")


def test_it_waits_until_its_days_are_made_again(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> None:
    for owner in (chatbot, neighbour):
        _made(owner)
    request = deletion_of(chatbot, "alice")
    caller = TokenCaller(chatbot)
    _run()

    request.refresh_from_db()
    assert (request.status, request.messages) == ("accepted", 2)
    waiting = caller.get(f"requests/{request.pk}").json()
    assert waiting["waiting_for"] == "extracts"
    assert (waiting["progress"]["extracts_done"], waiting["progress"]["extracts_total"]) == (0, 2)
    assert set(DailyExtract.objects.filter(chatbot=neighbour).values_list("state", flat=True)) == {"done"}
    assert verify.look_again([request.pk])[request.pk].rows == {"conversations_dailyextract": 2}
    # Not before its days are made, though it may be taken.
    ComplianceRequest.objects.update(not_before=None)
    _run()
    request.refresh_from_db()
    assert request.status == "accepted"

    assert extracts.make_next(settled=False)
    request.refresh_from_db()
    assert request.not_before
    assert extracts.make_next(settled=False)
    request.refresh_from_db()
    assert request.not_before is None
    assert not worker.drain()

    told = caller.get(f"requests/{request.pk}").json()
    assert (told["status"], told["waiting_for"], told["counts"]["extracts"]) == ("completed", None, 2)
    assert told["progress"]["extracts_done"] == told["progress"]["extracts_total"] == 2
    assert _said(storage, chatbot) == {"words of bob"}
    assert _said(storage, neighbour) == {"words of alice", "words of bob"}
    assert verify.audit([request.pk]).left == {}


def test_a_day_is_made_once_for_all_that_changed(chatbot: Chatbot, storage: ObjectStorage) -> None:
    for number in range(20):
        conversation_on(chatbot, f"member-{number}", noon())
    planned(chatbot)
    make_all()
    for number in range(10):
        deletion_of(chatbot, f"member-{number}")
    finished = extract_of(chatbot).finished_at
    assert not worker.drain()
    assert set(ComplianceRequest.objects.values_list("status", "extracts")) == {("completed", 1)}
    after = extract_of(chatbot)
    assert (after.version, after.rows) == (2, 10)
    assert after.finished_at != finished


def test_days_without_the_chatter_are_left_alone(chatbot: Chatbot, storage: ObjectStorage) -> None:
    _made(chatbot)
    deletion_of(chatbot, "bob")
    assert not worker.drain()
    assert extract_of(chatbot).version == 2
    assert extract_of(chatbot, day_after(FIRST)).version == 1


def test_a_day_that_begins_within_an_hour_is_made_again_with_the_day_before(
    chatbot: Chatbot, storage: ObjectStorage
) -> None:
    """What is said at the instant in which a day begins is said on that day."""
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
    assert [_said(storage, chatbot, day) for day in days] == [set(), set()]


def test_a_whale_flags_its_days_chunk_by_chunk(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "CHUNK_MESSAGES", 2)
    steps = [noon() + number * 12 * HOUR for number in range(7)]
    conversation_on(chatbot, "alice", *steps)
    planned(chatbot, FIRST, day_after(FIRST, 4))
    make_all()
    request = deletion_of(chatbot, "alice")
    assert not worker.drain()
    request.refresh_from_db()
    assert (request.status, request.messages, request.extracts) == ("completed", 7, 4)
    assert {extract.rows for extract in DailyExtract.objects.all()} == {0}


def test_a_snapshot_before_the_mark_that_is_published_after_it(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has asked whether its version is still the present one; then the erasure commits."""
    _filled(chatbot)
    planned(chatbot)
    request = deletion_of(chatbot, "alice")
    original = work.Held.keep
    asked: list[int] = []

    def keep(self: work.Held) -> int:
        version = original(self)
        if not asked:
            asked.append(version)
            _run()
        return version

    monkeypatch.setattr(work.Held, "keep", keep)
    held = work.take_next(settled=False)
    assert held
    assert not making.make(held)
    # What was published holds her words, so the deletion waits.
    assert "words of alice" in _said(storage, chatbot)
    request.refresh_from_db()
    assert request.status == "accepted"

    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain()
    request.refresh_from_db()
    assert request.status == "completed"
    assert _said(storage, chatbot) == {"words of bob"}


def test_a_day_that_gets_its_row_while_rows_are_erased(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """The chunk looked for days before the row was there, and commits after the file was begun."""
    _filled(chatbot)
    request = deletion_of(chatbot, "alice")
    has_looked, go_on = threading.Event(), threading.Event()
    original = extracts.has_any

    def has_any(chatbots: Any) -> bool:
        found = original(chatbots)
        has_looked.set()
        assert go_on.wait(20)
        return found

    def erase() -> None:
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(extracts, "has_any", has_any)
                _run()
        finally:
            connection.close()

    eraser = threading.Thread(target=erase)
    eraser.start()
    assert has_looked.wait(20)
    planned(chatbot)
    held = work.take_next(settled=False)
    assert held
    threading.Timer(0.5, go_on.set).start()
    making.make(held)
    eraser.join()
    request.refresh_from_db()
    assert request.status == "completed"
    assert _said(storage, chatbot) == {"words of bob"}


def test_a_marked_conversation_is_left_out_before_it_is_erased(chatbot: Chatbot, storage: ObjectStorage) -> None:
    _made(chatbot)
    DailyExtract.objects.update(state="stale")
    request = deletion_of(chatbot, "alice", status="processing", started_at=timezone.now())
    chatbot_conversations = connection.cursor()
    chatbot_conversations.execute(
        "UPDATE conversations_conversation SET deletion_request_id = %s WHERE id IN"
        " (SELECT conversation_id FROM conversations_identity WHERE value = 'alice')",
        [request.pk],
    )
    make_all()
    assert _said(storage, chatbot) == {"words of bob"}


def test_it_fails_with_the_code_of_a_day_that_failed_and_a_retry_tries_both(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _made(chatbot)
    request = deletion_of(chatbot, "alice")

    monkeypatch.setattr(ObjectStorage, "abort_all", _refuse)
    assert not worker.drain()
    request.refresh_from_db()
    assert (request.status, request.error_code) == ("failed", "storage_access_denied")
    assert "s3:PutObject" in request.error_detail
    assert request.uci_value == "alice"

    monkeypatch.undo()
    operations.retry(request_id=request.pk, actor="command")
    assert not worker.drain()
    request.refresh_from_db()
    assert request.status == "completed"
    assert _said(storage, chatbot) == {"words of bob"}


def test_all_who_shared_a_conversation_wait_for_its_days(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """One claim: the conversation bears alice's mark, and bob's deletion has nothing else to do."""
    shared = conversation_on(chatbot, "alice", noon(), text="words of both")
    IdentityFactory.create(conversation=shared, variable=uci_of(chatbot), value="bob")
    conversation_on(chatbot, "carol", noon(), text="words of carol")
    planned(chatbot)
    make_all()
    both = [deletion_of(chatbot, "alice"), deletion_of(chatbot, "bob")]
    other = deletion_of(chatbot, "dave")
    _run()
    assert set(ComplianceRequest.objects.filter(pk__in=[each.pk for each in both]).values_list("status")) == {
        ("accepted",)
    }
    other.refresh_from_db()
    assert other.status == "completed"
    assert not worker.drain()
    for request in (*both, other):
        request.refresh_from_db()
        assert (request.status, request.extracts) == ("completed", 0 if request == other else 1)
    assert _said(storage, chatbot) == {"words of carol"}


def test_days_of_what_is_named_between_the_two_looks_are_waited_for(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _made(chatbot)
    bobs = Conversation.objects.get(identity__value="bob").external_id
    request = deletion_of(chatbot, "dave")
    original = verify.look_again

    def look_again(request_ids: Any, **options: bool) -> Any:
        monkeypatch.undo()
        naming = update(bobs, custom_variables={"member_id": "dave"})
        [named] = Elsewhere(lambda: store(chatbot=chatbot, documents=[naming])).end()
        assert named.errors[0].code == "chatter_erased"
        return original(request_ids, **options)

    monkeypatch.setattr(verify, "look_again", look_again)
    _run()
    request.refresh_from_db()
    assert (request.status, request.attempts) == ("accepted", 0)
    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain()
    request.refresh_from_db()
    assert (request.status, request.extracts) == ("completed", 1)
    assert _said(storage, chatbot) == {"words of alice"}


@pytest.mark.parametrize("chunk", [2, rows.CHUNK_MESSAGES])
def test_a_new_deletion_waits_for_the_days_of_one_that_failed(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    _made(chatbot)
    given_up = deletion_of(chatbot, "alice")
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStorage, "abort_all", _refuse)
        assert not worker.drain()
        given_up.refresh_from_db()
        assert given_up.status == "failed"

        patch.setattr(rows, "CHUNK_MESSAGES", chunk)
        conversation_on(chatbot, "alice", *(noon() + number * HOUR for number in range(3)), text="more of alice")
        request = deletion_of(chatbot, "alice")
        assert not worker.drain()
    request.refresh_from_db()
    assert (request.status, request.error_code) == ("failed", "storage_access_denied")
    assert "words of alice" in _said(storage, chatbot)

    operations.retry(request_id=request.pk, actor="command")
    assert not worker.drain()
    request.refresh_from_db()
    assert (request.status, request.extracts) == ("completed", 2)
    assert _said(storage, chatbot) == {"words of bob"}


def test_a_file_that_the_client_has_is_not_made_again_with_one_that_failed(
    chatbot: Chatbot, storage: ObjectStorage
) -> None:
    """A second deletion of the chatter has the failed day tried anew."""
    _made(chatbot)
    failed, delivered = extract_of(chatbot), extract_of(chatbot, day_after(FIRST))
    DailyExtract.objects.filter(pk=delivered.pk).update(hosting="client", bucket="clients-bucket", expires_at=None)
    deletion_of(chatbot, "alice")
    _run()
    DailyExtract.objects.filter(pk=failed.pk).update(state="failed", error_code="storage_access_denied")
    ComplianceRequest.objects.update(not_before=None)
    _run()
    assert ComplianceRequest.objects.get().status == "failed"
    deletion_of(chatbot, "alice")
    _run()

    for extract in (failed, delivered):
        extract.refresh_from_db()
    assert (failed.state, delivered.state) == ("stale", "done")


def test_late_data_of_the_erased_has_days_made_again(chatbot: Chatbot, storage: ObjectStorage) -> None:
    anonymous = conversation_on(chatbot, "carol", noon(), text="late words of alice")
    _made(chatbot)
    request = deletion_of(chatbot, "alice")
    assert not worker.drain()
    type(anonymous).objects.filter(pk=anonymous.pk).update(deletion_request_id=request.pk)
    remnants.erase_late_data()
    assert verify.audit([request.pk]).left[request.pk].rows == {"conversations_dailyextract": 1}
    assert not worker.drain()
    assert _said(storage, chatbot) == {"words of bob"}
    assert verify.audit([request.pk]).left == {}


def test_a_file_in_the_clients_bucket_stays_and_is_named(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(Bucket.Hosting.CLIENT, "clients-bucket", "chat/", storage)
    monkeypatch.setattr(making, "place_of", lambda _bucket: place)
    _made(chatbot)
    first, second = extract_of(chatbot), extract_of(chatbot, day_after(FIRST))
    assert first.key == f"chat/daily_conversations_extracts/{FIRST}_conversations_extract.csv"
    assert (first.hosting, first.bucket, first.expires_at) == ("client", "clients-bucket", None)
    request = deletion_of(chatbot, "alice")
    assert not worker.drain()

    told = TokenCaller(chatbot).get(f"requests/{request.pk}").json()
    assert (told["status"], told["counts"]["extracts"], told["progress"]["extracts_total"]) == ("completed", 0, 0)
    assert told["delivered_extracts"] == [
        {
            "day": extract.day.isoformat(),
            "finished_at": extract.finished_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "sha256": extract.sha256,
        }
        for extract in (first, second)
        if extract.finished_at
    ]
    assert "words of alice" in _said(storage, chatbot)
    assert set(DailyExtract.objects.values_list("state", flat=True)) == {"done"}


def test_a_day_that_the_client_gets_after_the_deletion_is_not_named(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(Bucket.Hosting.CLIENT, "clients-bucket", "chat/", storage)
    monkeypatch.setattr(making, "place_of", lambda _bucket: place)
    _filled(chatbot)
    planned(chatbot, FIRST, day_after(FIRST))
    assert extracts.make_next(settled=False)
    late = DailyExtract.objects.get(state="pending")
    # As of a worker that was killed before it had delivered the file.
    DailyExtract.objects.filter(pk=late.pk).update(key="chat/late.csv", hosting="client", bucket="clients-bucket")
    days = {FIRST, day_after(FIRST)} - {late.day}

    for _ in ("before", "after"):
        request = deletion_of(chatbot, "alice")
        _run()
        told = TokenCaller(chatbot).get(f"requests/{request.pk}").json()
        assert told["status"] == "completed"
        assert [each["day"] for each in told["delivered_extracts"]] == [day.isoformat() for day in days]
        make_all()
    late.refresh_from_db()
    assert (late.state, late.made_version) == ("done", 2)


def test_hosted_files_expire(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> None:
    for owner in (chatbot, neighbour):
        _made(owner)
    first = extract_of(chatbot)
    DailyExtract.objects.filter(pk=first.pk).update(expires_at=timezone.now() - HOUR)
    worker.sweep()
    expired = extract_of(chatbot)
    assert (expired.state, expired.key, expired.rows) == ("expired", None, 2)
    assert not storage.exists(str(first.key))
    assert len(list(storage.keys())) == 3
    # Nothing is left to be made again.
    request = deletion_of(chatbot, "bob")
    assert not worker.drain()
    request.refresh_from_db()
    assert (request.status, request.extracts) == ("completed", 0)


def test_an_expired_file_that_waits_to_be_made_again_just_goes(chatbot: Chatbot, storage: ObjectStorage) -> None:
    _made(chatbot)
    deletion_of(chatbot, "bob")
    _run()
    DailyExtract.objects.update(expires_at=timezone.now() - HOUR)
    assert make_all() == 0
    worker.sweep()
    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain()
    assert ComplianceRequest.objects.get().status == "completed"
    assert list(storage.keys("acme/daily")) == []


def test_an_expired_file_is_not_named_beside_an_export_that_is(chatbot: Chatbot, storage: ObjectStorage) -> None:
    _made(chatbot)
    export_of(chatbot, "bob")
    assert not worker.drain()
    request = deletion_of(chatbot, "bob")
    _run()
    DailyExtract.objects.update(expires_at=timezone.now() - HOUR)
    worker.sweep()
    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain()

    told = TokenCaller(chatbot).get(f"requests/{request.pk}").json()
    assert (told["status"], len(told["kept_exports"]), told["delivered_extracts"]) == ("completed", 1, [])


def test_without_extracts_nothing_is_noted(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> None:
    _made(neighbour)
    _filled(chatbot)
    deletion_of(chatbot, "alice")
    assert not worker.drain()
    assert not ExtractConversation.objects.exists()
