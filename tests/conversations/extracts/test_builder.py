"""The extract of one day: its contents, and interruptions while it is built."""

import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from chatbots.models import Bucket, Chatbot
from common.storage import ObjectStorage, StorageError, Version, errors
from common.storage.removal import Removal
from conversations import placement, transcripts
from conversations.csv_cells import HEADER
from conversations.extracts import builder, leases
from conversations.intake import store
from conversations.locks import share_with_intake
from conversations.models import Conversation, DailyExtract
from tests.conversations.documents import message, parsed
from tests.conversations.reading import stored_file
from tests.extracting import (
    FIRST,
    add_messages,
    conversation_on,
    extract_of,
    lines,
    make_all,
    noon,
    planned,
    versioned_bucket,
)
from tests.factories import uci_of
from tests.patches import after, failing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("refused_at_once")]

MINUTE = timedelta(minutes=1)


def _late(chatbot: Chatbot, name: str = "late") -> None:
    sent = [message(f"m{number}", text=f"{name} {number}", sent_at=noon().isoformat()) for number in range(2)]
    store(chatbot=chatbot, documents=[parsed(name, messages=sent)])


def take(chatbot: Chatbot) -> DailyExtract:
    held = leases.take_one(extract_of(chatbot).pk)
    assert held
    return held


def test_it_holds_what_was_said_on_the_day(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> None:
    midnight = noon() - timedelta(hours=12)
    spanning = conversation_on(chatbot, "42", midnight - MINUTE, midnight, midnight + 24 * 60 * MINUTE)
    early = conversation_on(chatbot, "43", midnight - 2 * MINUTE)
    add_messages(early, noon() + MINUTE, noon(), text="=1+1")
    Conversation.objects.filter(pk=early.pk).update(has_file_upload=True)
    with_files = early.message_set.order_by("-id")[0]
    for name in ("a.jpg", "b.jpg"):
        stored_file(early, name, message_id=with_files.pk)
    conversation_on(neighbour, "42", noon())
    marked = conversation_on(chatbot, "44", noon())
    Conversation.objects.filter(pk=marked.pk).update(deletion_request_id="00000000-0000-0000-0000-000000000001")
    planned(chatbot)

    assert make_all() == 1

    extract = extract_of(chatbot)
    found = [
        (line["conversation_id"], line["uci_value"], line["sent_at"][11:16], line["text"], line["file_name"])
        for line in lines(storage, extract)
    ]
    assert found == [
        (early.external_id, "43", "12:00", "'=1+1", "a.jpg"),
        (early.external_id, "43", "12:00", "'=1+1", "b.jpg"),
        (early.external_id, "43", "12:01", "'=1+1", ""),
        (spanning.external_id, "42", "00:00", "hello", ""),
    ]
    assert {line["uci_key"] for line in lines(storage, extract)} == {uci_of(chatbot).name}
    data = storage.read(str(extract.key))
    assert extract.key == f"{chatbot.slug}/daily_conversations_extracts/{FIRST}_conversations_extract.csv"
    assert (extract.state, extract.rows, extract.bytes) == ("done", 4, len(data))
    assert extract.expires_at
    assert make_all() == 0


def test_an_empty_day_gives_the_header(chatbot: Chatbot, storage: ObjectStorage) -> None:
    planned(chatbot)
    make_all()
    assert storage.read(str(extract_of(chatbot).key)) == HEADER


def test_late_messages_cause_one_rebuild_of_the_day(chatbot, neighbour, storage) -> None:
    for owner in (chatbot, neighbour):
        planned(owner)
    make_all()
    _late(chatbot, "first")
    _late(chatbot, "second")
    stale = extract_of(chatbot)
    assert (stale.state, stale.version, stale.made_version) == ("stale", 3, 1)
    assert extract_of(neighbour).state == "done"

    assert make_all() == 1
    assert len(lines(storage, extract_of(chatbot))) == 4


def test_a_current_message_makes_no_query_for_days(chatbot: Chatbot, django_assert_num_queries: Any) -> None:
    from conversations.extracts import days

    with django_assert_num_queries(0):
        days.flag_days(chatbot_id=chatbot.pk, instants=[timezone.now()] * 3)
    with django_assert_num_queries(1):
        days.flag_days(chatbot_id=chatbot.pk, instants=[noon()] * 3)


def test_a_first_file_overtaken_by_a_late_message_is_not_published(chatbot, storage, monkeypatch) -> None:
    planned(chatbot)
    _between(monkeypatch, storage, lambda: _late(chatbot))

    assert not builder.build(take(chatbot))
    assert list(storage.keys()) == []
    extract = extract_of(chatbot)
    assert (extract.state, extract.attempts, extract.token) == ("pending", 0, None)

    monkeypatch.undo()
    assert builder.build(take(chatbot))
    assert len(lines(storage, extract_of(chatbot))) == 2


def test_a_rebuilt_file_is_published_though_it_is_stale_again(chatbot, storage, monkeypatch) -> None:
    planned(chatbot)
    make_all()
    _late(chatbot, "first")
    _between(monkeypatch, storage, lambda: _late(chatbot, "second"))

    assert not builder.build(take(chatbot))
    extract = extract_of(chatbot)
    assert (extract.state, extract.version, extract.made_version) == ("stale", 3, 2)
    assert {line["conversation_id"] for line in lines(storage, extract)} == {"first"}


def test_a_first_file_is_published_in_the_end_though_the_day_keeps_changing(chatbot, storage, monkeypatch) -> None:
    """Otherwise the file would never exist, and deletions would wait for it forever."""
    planned(chatbot)
    numbers = iter(range(10))
    _between(monkeypatch, storage, lambda: _late(chatbot, f"late-{next(numbers)}"))
    assert not builder.build(take(chatbot))
    assert leases.take_next(settled=False) is None, "It is left alone for a while, not read again at once."
    assert list(storage.keys()) == []

    DailyExtract.objects.update(created_at=timezone.now() - builder.FIRST_PATIENCE)
    assert not builder.build(take(chatbot))
    extract = extract_of(chatbot)
    assert (extract.state, extract.version, extract.made_version) == ("stale", 3, 2)
    assert len(lines(storage, extract)) == 2


def _between(monkeypatch: pytest.MonkeyPatch, storage: ObjectStorage, happens: Any) -> None:
    """Run a function after the rows were read and before the file is published."""
    after(monkeypatch, ObjectStorage, "_send_parts", lambda *_, **__: happens())


def test_a_worker_that_lost_its_day_publishes_nothing(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """It slept after sending everything; meanwhile another worker built the file."""
    conversation_on(chatbot, "42", noon())
    planned(chatbot)
    sleeper = take(chatbot)
    DailyExtract.objects.update(next_attempt_at=timezone.now() - MINUTE)
    leases.requeue_expired()
    assert make_all() == 1
    before = extract_of(chatbot)

    assert not builder.build(sleeper)
    after = extract_of(chatbot)
    assert (after.finished_at, after.key, after.state) == (before.finished_at, before.key, "done")
    assert len(lines(storage, after)) == 1


def test_the_upload_of_a_lost_worker_cannot_complete(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """It was killed after opening an upload and sending a part, before recording the id."""
    conversation_on(chatbot, "42", noon())
    planned(chatbot)
    lost = take(chatbot)
    location = builder._location(lost)
    key = f"{chatbot.slug}/daily_conversations_extracts/{FIRST}_conversations_extract.csv"
    leases.record(lost, location, key, None)
    upload_id = storage.open_upload(key, content_type=transcripts.CONTENT_TYPE)
    DailyExtract.objects.update(next_attempt_at=timezone.now() - MINUTE)
    leases.requeue_expired()
    assert (extract_of(chatbot).attempts, extract_of(chatbot).error_code) == (1, "worker_lost")
    assert make_all() == 1

    with pytest.raises(StorageError):
        storage.write_parts(key, upload_id, [b"what was erased since"])
    assert len(lines(storage, extract_of(chatbot))) == 1


def test_a_day_fails_after_five_lost_workers(chatbot: Chatbot, storage: ObjectStorage) -> None:
    planned(chatbot)
    for _ in range(5):
        take(chatbot)
        DailyExtract.objects.update(next_attempt_at=timezone.now() - MINUTE)
        leases.requeue_expired()
    assert extract_of(chatbot).state == "failed"
    assert leases.take_one(extract_of(chatbot).pk) is None


def test_two_workers_cannot_take_one_day(chatbot: Chatbot, storage: ObjectStorage) -> None:
    planned(chatbot)
    take(chatbot)
    assert leases.take_one(extract_of(chatbot).pk) is None
    assert leases.take_next(settled=False) is None


def test_one_worker_is_kept_free_for_requests(chatbot: Chatbot, neighbour: Chatbot) -> None:
    for owner in (chatbot, neighbour):
        planned(owner)
    assert leases.take_next(settled=False)
    assert leases.take_next(settled=False) is None


def test_a_day_that_has_just_changed_waits_while_there_is_other_work(chatbot, storage) -> None:
    planned(chatbot)
    assert leases.take_next(settled=True) is None
    DailyExtract.objects.update(created_at=timezone.now() - MINUTE)
    assert leases.take_next(settled=True)


def test_it_waits_for_an_intake_that_may_not_have_seen_the_day(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """An intake looked for days before this day had its row, and commits after the file was started."""
    has_looked, go_on = threading.Event(), threading.Event()

    def late_intake() -> None:
        from django.db import transaction

        try:
            with transaction.atomic():
                share_with_intake(chatbot.pk)
                has_looked.set()
                assert go_on.wait(20)
                conversation_on(chatbot, "42", noon())
        finally:
            connection.close()

    intake = threading.Thread(target=late_intake)
    intake.start()
    assert has_looked.wait(20)
    planned(chatbot)
    held = take(chatbot)
    threading.Timer(0.5, go_on.set).start()
    assert builder.build(held)
    intake.join()
    assert len(lines(storage, extract_of(chatbot))) == 1


@pytest.mark.parametrize(
    ("error", "state", "attempts"),
    [
        (StorageError("storage_unavailable", "Down.", retryable=True), "pending", 1),
        (StorageError("storage_access_denied", "Grant it."), "failed", 1),
        (StorageError("storage_resting", "At rest.", retryable=True), "pending", 0),
        (RuntimeError("said by alice"), "pending", 1),
    ],
)
def test_errors_are_noted_and_tried_again_later(chatbot, monkeypatch, error, state, attempts) -> None:
    monkeypatch.setattr(ObjectStorage, "open_upload", failing(error))
    planned(chatbot)
    assert make_all() == 1
    extract = extract_of(chatbot)
    assert (extract.state, extract.attempts) == (state, attempts)
    assert "alice" not in extract.error_detail
    assert extract.next_attempt_at > timezone.now()


@pytest.mark.parametrize("place", ["write_parts", "open_upload"])
def test_a_machine_of_citus_that_is_lost_costs_no_attempt(chatbot, storage, monkeypatch, place) -> None:
    """Its error comes from the snapshot's connection, or from Django's."""

    monkeypatch.setattr(placement, "is_distributed", lambda: True)
    monkeypatch.setattr(
        ObjectStorage, place, failing(psycopg.errors.ConnectionFailure("connection to the remote node failed"))
    )
    planned(chatbot)
    assert make_all() == 1
    extract = extract_of(chatbot)
    assert (extract.state, extract.attempts, extract.error_code) == ("pending", 0, "machine_silent")
    assert extract.next_attempt_at > timezone.now()


def test_a_secret_that_cannot_be_decrypted_is_reported(chatbot: Chatbot) -> None:
    planned(chatbot)
    Bucket.objects.update(
        hosting="client", bucket="theirs", region="eu-west-1", access_key_id="a", secret_encrypted="b"
    )
    make_all()
    extract = extract_of(chatbot)
    assert (extract.state, extract.error_code) == ("failed", "bucket_secret_unreadable")


def test_a_retry_after_the_storage_is_back_succeeds(chatbot, storage, monkeypatch) -> None:
    planned(chatbot)
    monkeypatch.setattr(ObjectStorage, "write_parts", failing())
    make_all()
    monkeypatch.undo()
    DailyExtract.objects.update(next_attempt_at=timezone.now() - MINUTE)
    assert make_all() == 1
    assert (extract_of(chatbot).state, extract_of(chatbot).error_code) == ("done", "")


def test_older_versions_are_removed_before_the_day_is_done(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    with versioned_bucket() as storage:
        conversation_on(chatbot, "42", noon())
        planned(chatbot)
        make_all()
        _late(chatbot)

        def refuse(_self: Removal, versions: Iterable[Version]) -> dict[str, StorageError]:
            return {version.key: errors.denied("s3:DeleteObjectVersion") for version in versions}

        monkeypatch.setattr(Removal, "remove_versions", refuse)
        make_all()
        assert (extract_of(chatbot).state, extract_of(chatbot).error_code) == ("failed", "storage_access_denied")
        assert len(list(storage.versions())) == 2

        monkeypatch.undo()
        DailyExtract.objects.update(state="stale", next_attempt_at=timezone.now())
        make_all()
        assert extract_of(chatbot).state == "done"
        assert len(list(storage.versions())) == 1


def test_a_version_written_later_by_another_program_is_not_removed(chatbot: Chatbot) -> None:
    with versioned_bucket() as storage:
        first = storage.write_parts("k", storage.open_upload("k", content_type="text/csv"), [b"1"])
        second = storage.write_parts("k", storage.open_upload("k", content_type="text/csv"), [b"2"])
        with pytest.raises(StorageError, match="storage_incomplete"):
            storage.purge_older("k", keep=first.version_id)
        assert len(list(storage.versions())) == 2
        assert storage.purge_older("k", keep=second.version_id) == 1
        assert storage.read("k") == b"2"
