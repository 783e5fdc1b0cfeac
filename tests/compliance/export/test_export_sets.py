"""Many exports in one claim: each as if alone, and none affected by another."""

import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from chatbots.models import ChangeLogEntry, Chatbot
from common import leases
from common.leases import LeaseRenewer
from common.storage import ObjectStorage, StorageError
from compliance.errors import ClaimLost
from compliance.export import engine
from compliance.export.delivery import Delivery
from compliance.models import ComplianceRequest, Export
from compliance.work import upload_pool
from compliance.work.upload_pool import UploadPool
from conversations import locks
from conversations.csv_cells import HEADER
from tests import factories
from tests.compliance.exporting import (
    COMPLETED,
    Peak,
    carry_out,
    committed,
    export_of_request,
    open_uploads,
    outcome,
    patch_count,
    patch_pieces,
    taken,
)
from tests.conversations.reading import written
from tests.functional.elsewhere import Elsewhere, uncommitted
from tests.functional.support import wait_until
from tests.patches import after, before, failing

pytestmark = committed

HOSTILE_VALUES = [
    'say "42"',
    "two\nlines,\r\n",
    "\U0001f600",
    "../../other",
    "..",
    "'; DROP TABLE x; --",
    "=1+1",
    "%s {}",
    "\u00e9" * 512,
]


def keys_of(*requests: ComplianceRequest) -> list[str]:
    return sorted(str(export_of_request(request).key) for request in requests)


@pytest.mark.one_postgresql(reason="one claim for two chatbots")
def test_each_gets_the_file_it_would_get_alone(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> None:
    whose = [(chatbot, value) for value in HOSTILE_VALUES] + [(neighbour, value) for value in HOSTILE_VALUES[:2]]
    for each, value in whose:
        factories.conversation_of(each, value, text=f'"{each.slug}"\n"1","{value}"', messages=3)
    factories.conversation_of(chatbot, "another", text="another chatter's")
    factories.conversation_of(chatbot, "=1+1", "another", text="shared")
    whose.insert(3, (chatbot, "nobody"))
    requests = [factories.export_of(each, value) for each, value in whose]

    carry_out(taken(*requests))

    assert [outcome(request) for request in requests] == [COMPLETED] * len(requests)
    exports = [export_of_request(request) for request in requests]
    for (each, value), request, export in zip(whose, requests, exports, strict=True):
        assert storage.read(str(export.key)) == written(each, value)
        assert str(export.key).startswith(f"{each.slug}/chatter_data_exports/")
        held = 0 if value == "nobody" else 3
        assert (export.rows, request.messages, request.conversations) == (held, held, min(held, 1))
        assert request.shared_conversations == (value == "=1+1" and each == chatbot)
    assert sorted(storage.keys()) == keys_of(*requests)
    assert open_uploads(storage) == []


def test_failed_overtaken_and_empty_exports_do_not_affect_the_others(chatbot, storage, monkeypatch) -> None:
    broken, met, empty, *fine = [factories.export_of(chatbot, value) for value in ("1", "2", "3", "4", "5")]
    for value in ("1", "2", "4", "5"):
        factories.conversation_of(chatbot, value, text=f"said by {value}")

    def meanwhile() -> None:
        export = export_of_request(broken)
        storage.abort(str(export.key), str(export.upload_id))
        Export.objects.filter(request=met).update(expires_at=Now())

    patch_count(monkeypatch, meanwhile)
    carry_out(taken(broken, met, empty, *fine))

    assert outcome(broken) == ("accepted", "storage_incomplete", 1)
    assert outcome(met) == ("accepted", "", 0)
    assert [outcome(request) for request in (empty, *fine)] == [COMPLETED] * 3
    assert storage.read(str(export_of_request(empty).key)) == HEADER
    for request, value in zip(fine, ("4", "5"), strict=True):
        data = storage.read(str(export_of_request(request).key))
        assert data.count(b"said by") == data.count(f"said by {value}".encode()) == 2
    assert sorted(storage.keys()) == keys_of(empty, *fine)
    assert open_uploads(storage) == []

    carry_out(taken(broken, met))
    assert [outcome(request) for request in (broken, met)] == [("completed", "", 1), COMPLETED]
    assert (broken.messages, met.messages) == (2, 2)
    log = ChangeLogEntry.objects.filter(request_id=met.pk).order_by("pk").values_list("event", "data__code")
    assert list(log) == [
        ("request.started", None),
        ("request.requeued", "export_overtaken"),
        ("request.started", None),
        ("request.completed", None),
    ]


@pytest.mark.one_postgresql(reason="one claim for two chatbots")
def test_each_file_is_published_under_the_lock_of_its_own_chatbot(chatbot, neighbour, storage, monkeypatch) -> None:
    """A concurrent mark sees an export either unfinished or with all its conversations."""
    free, busy = [factories.export_of(each, "42") for each in (chatbot, neighbour)]
    mark = uncommitted(partial(locks.exclude_intake, neighbour.pk, number=0))
    with ExitStack() as marked:
        patch_pieces(monkeypatch, lambda: marked.enter_context(mark))
        exporting = Elsewhere(lambda: carry_out(taken(free, busy)))
        wait_until(lambda: outcome(free)[0] == "completed")
        assert exporting.waits
        assert outcome(busy)[0] == "processing"
        assert export_of_request(busy).finished_at is None
    exporting.end()
    assert [outcome(each) for each in (free, busy)] == [COMPLETED] * 2


def test_equal_values_in_one_second_get_two_files(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """Two exports of one chatter, and one of a former variable with the same value."""
    former = factories.VariableFactory.create(chatbot=chatbot, name="former", is_uci=False, was_uci=True)
    factories.conversation_of(chatbot, "42", messages=3)
    requests = [
        factories.export_of(chatbot, "42"),
        factories.export_of(chatbot, "42"),
        factories.export_of(chatbot, "42", variable=former),
        factories.export_of(chatbot, "43"),
    ]
    carry_out(taken(*requests))
    first, second, third, other = (str(export_of_request(request).key) for request in requests)
    assert second == first.replace("_export.csv", "_export_2.csv")
    assert third == first.replace("_export.csv", "_export_3.csv")
    assert other == first.replace("/42/", "/43/")
    assert storage.read(first) == storage.read(second) == written(chatbot, "42")
    assert storage.read(third) == storage.read(other) == HEADER
    assert sorted(storage.keys()) == keys_of(*requests)


def test_all_begin_and_end_in_a_few_transactions(chatbot, storage, django_assert_max_num_queries) -> None:
    requests = [factories.export_of(chatbot, f"member-{number}") for number in range(20)]
    held = taken(*requests)
    with django_assert_max_num_queries(45):
        carry_out(held)
    assert {outcome(request) for request in requests} == {COMPLETED}
    events = ChangeLogEntry.objects.filter(request_id__in=[request.pk for request in requests])
    assert events.filter(event="request.started").count() == events.filter(event="request.completed").count() == 20


@pytest.mark.long(reason="large files")
def test_a_large_file_that_fails_keeps_no_later_one_from_its_bytes(chatbot, storage, monkeypatch) -> None:
    large, small = factories.export_of(chatbot, "1"), factories.export_of(chatbot, "2")
    factories.conversation_of(chatbot, "1", messages=300, text="x" * 100_000)
    factories.conversation_of(chatbot, "2", messages=3, text="small")

    def abort() -> None:
        export = export_of_request(large)
        storage.abort(str(export.key), str(export.upload_id))

    patch_count(monkeypatch, abort)
    carry_out(taken(large, small))
    assert outcome(large) == ("accepted", "storage_incomplete", 1)
    assert outcome(small) == COMPLETED
    assert storage.read(str(export_of_request(small).key)) == written(chatbot, "2")
    assert sorted(storage.keys()) == keys_of(small)


def test_an_export_whose_old_files_cannot_be_removed_fails_alone(chatbot, storage, monkeypatch) -> None:
    fresh, again = factories.export_of(chatbot, "41"), factories.export_of(chatbot, "42")
    factories.ExportFactory.create(request=again, chatbot=chatbot, key="acme/locked.csv")

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStorage, "purge", failing(StorageError("storage_locked", "It is locked.")))
        carry_out(taken(fresh, again))
    assert [outcome(request) for request in (fresh, again)] == [COMPLETED, ("failed", "storage_locked", 1)]
    # Its key is kept until the lock is lifted.
    assert export_of_request(again).key == "acme/locked.csv"


# --- Time ----------------------------------------------------------------------------------------------


def test_after_the_deadline_only_the_first_export_is_started(chatbot: Chatbot, storage: ObjectStorage) -> None:
    requests = [factories.export_of(chatbot, f"member-{number}") for number in range(20)]
    held = taken(*requests)
    carry_out(held, seconds=-1)
    held.release()
    assert [outcome(request) for request in requests] == [COMPLETED, *[("accepted", "", 0)] * 19]
    # Nothing was started under the others' keys, so nothing has to be purged later.
    assert set(Export.objects.exclude(request=requests[0]).values_list("key", "upload_id")) == {(None, None)}
    assert sorted(storage.keys()) == keys_of(requests[0])
    assert open_uploads(storage) == []


@pytest.mark.long(reason="a large file")
def test_after_a_large_file_took_the_time_the_rest_is_requeued(chatbot, storage, monkeypatch) -> None:
    of_excel = [factories.export_of(chatbot, value, csv_dialect="excel_comma") for value in ("1", "2", "3")]
    # Read after those of the other dialect, if there is time.
    small, large, *rest = [*of_excel, factories.export_of(chatbot, "4")]
    factories.conversation_of(chatbot, "2", messages=100, text="x" * 100_000)
    held = taken(small, large, *rest)
    deadline = time.monotonic() + 3

    after(monkeypatch, Delivery, "_stream", lambda *_, **__: time.sleep(max(0.0, deadline - time.monotonic()) + 0.01))
    engine.run(held, deadline=deadline)
    held.release()
    assert [outcome(request) for request in (small, large, *rest)] == [COMPLETED] * 2 + [("accepted", "", 0)] * 2
    assert sorted(storage.keys()) == keys_of(small, large)
    assert open_uploads(storage) == []


def test_the_claim_is_kept_while_the_storage_is_slow(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(leases, "SECONDS_BETWEEN_RENEWALS", 0.05)
    requests = [factories.export_of(chatbot, f"member-{number}") for number in range(3)]
    held = taken(*requests)
    kept = [0]

    def count(self: Any) -> None:
        kept[0] += 1

    before(monkeypatch, ObjectStorage, "write_parts", lambda *_, **__: time.sleep(0.5))
    before(monkeypatch, type(held), "renew", count)
    carry_out(held)
    assert kept[0] >= 5
    assert {outcome(request) for request in requests} == {COMPLETED}


# --- Memory --------------------------------------------------------------------------------------------


_FILL = """
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT %s, %s, 'm' || g, 'user', 'text', repeat('some words', 10000), now() FROM generate_series(1, %s) g
"""


@pytest.mark.long(reason="more than 100 MiB are written, slowly")
def test_memory_is_bounded_when_all_files_are_big_and_the_storage_slow(chatbot, storage, monkeypatch) -> None:
    """Twelve files of 7 MiB and one of 24 MiB: unbounded, and with the copies HTTP makes, some 200 MiB."""
    sizes = [70] * 6 + [240] + [70] * 6
    requests = []
    for number, messages in enumerate(sizes):
        conversation = factories.conversation_of(chatbot, f"big-{number}", messages=0)
        with connection.cursor() as cursor:
            cursor.execute(_FILL, [chatbot.pk, conversation.pk, messages])
        requests.append(factories.export_of(chatbot, f"big-{number}"))
    carry_out(taken(factories.export_of(chatbot, "nobody")))  # the client and its libraries are loaded
    before(monkeypatch, ObjectStorage, "write_parts", lambda *_, **__: time.sleep(0.1))
    with Peak() as peak:
        carry_out(taken(*requests))
    assert {outcome(request) for request in requests} == {COMPLETED}
    assert [export_of_request(request).rows for request in requests] == sizes
    assert peak.growth < 100 * 2**20


def test_an_upload_pool_limits_its_memory() -> None:
    held, most = 0, 0
    lock = threading.Lock()

    def work(size: int) -> int:
        nonlocal held, most
        with lock:
            held += size
            most = max(most, held)
        time.sleep(0.01)
        with lock:
            held -= size
        return size

    with UploadPool[int, int](LeaseRenewer(lambda: None), waiting=9, most_bytes=10) as busy:
        for number, size in enumerate([4, 4, 4, 4, 25, 1, 1, 1, 1, 9]):
            busy.submit(number, partial(work, size), size=size)
    assert busy.done == dict(enumerate([4, 4, 4, 4, 25, 1, 1, 1, 1, 9]))
    assert most == 25  # that file was sent alone


def test_an_upload_pool_drops_unstarted_uploads_when_its_worker_fails() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.1)

    def hand_and_fail() -> None:
        with busy:
            for number in range(2 * upload_pool.THREADS):
                busy.submit(number, partial(work, number))
            raise ClaimLost

    busy = UploadPool[int, None](LeaseRenewer(lambda: None), waiting=upload_pool.THREADS)
    with pytest.raises(ClaimLost):
        hand_and_fail()
    assert set(begun) == busy.begun == busy.done.keys()
    assert len(begun) == upload_pool.THREADS
