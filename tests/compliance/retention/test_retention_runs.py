"""A retention run, from filing to completion, with the workers' own functions in this process."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage, StorageError
from compliance import worker
from compliance.erasure import rows, verify
from compliance.models import ComplianceRequest, Export
from compliance.requests.selectors import ByConversations, ByUci
from compliance.requests.submit import submit
from compliance.retention import due, engine
from compliance.work import claims, health
from conversations.intake import store
from conversations.models import Conversation, Identity, Message, NameWord, Tombstone
from tests import factories
from tests.compliance.conftest import Drain
from tests.compliance.retention.runs import ago, conversation_aged, deleted, file_run, run_of
from tests.conversations.documents import parsed
from tests.factories import IdentityFactory, as_bytes
from tests.ledger import lines_of
from tests.patches import before

Status = ComplianceRequest.Status
Kind = ComplianceRequest.Kind


def test_it_erases_what_is_due_and_nothing_younger(chatbot, neighbour, drain, storage) -> None:
    old = conversation_aged(chatbot, 91, user_name="Ada", csat_comment="quick", score="7.5", channel="whatsapp")
    never_answered = conversation_aged(chatbot, 91, "43", messages=0, last_message_at=None)
    imported = conversation_aged(chatbot, 91, "44", last_message_at=ago(500))
    IdentityFactory.create(conversation=imported, value="42")
    young = [
        conversation_aged(chatbot, 89, user_name="Bob"),
        conversation_aged(chatbot, 400, last_message_at=ago(1)),
        conversation_aged(chatbot, 1, last_message_at=ago(400)),
        conversation_aged(neighbour, 91),
    ]
    messages = list(Message.objects.filter(conversation__in=young).order_by("pk").values())
    people = list(Identity.objects.filter(conversation__in=young).order_by("pk").values())
    request = file_run(chatbot)

    drain()

    assert deleted(old, never_answered, imported, *young) == [True] * 3 + [False] * 4
    assert list(Message.objects.order_by("pk").values()) == messages
    assert list(Identity.objects.order_by("pk").values()) == people, (
        "The chatters of shared conversations stay in the others."
    )
    old.refresh_from_db()
    assert (old.deletion_request_id, old.user_name, old.csat_comment) == (request.pk, None, None)
    assert list(NameWord.objects.values_list("conversation", "word")) == [(young[0].pk, "bob")]
    assert (str(old.score), old.channel, old.external_id_digest is not None) == ("7.5", "whatsapp", True)
    request.refresh_from_db()
    assert (request.status, request.result, request.slice) == (Status.COMPLETED, "done", None)
    counted = (request.conversations_total, request.conversations, request.messages, request.identities)
    assert counted == (3, 3, 4, 4)
    assert request.shared_conversations == 1
    assert not Tombstone.objects.exists(), "No chatter is recorded as erased."
    assert verify.audit([request.pk]) == verify.Audit(verified=1, by_marks=0, left={})
    events = ChangeLogEntry.objects.filter(request_id=request.pk).order_by("pk").values_list("event", flat=True)
    assert list(events) == ["request.accepted", "request.started", "request.completed"]
    before, erased, after = lines_of(storage)
    assert before == after == erased | {"conversations": []}, "The second was written before anything was erased."
    run = run_of(request)
    assert erased == {
        "kind": "retention",
        "request": str(request.pk),
        "chatbot": str(chatbot.public_id),
        "older_than": run.older_than.isoformat(),
        "conversations": [as_bytes(one.external_id_digest).hex() for one in (old, never_answered, imported)],
        "day": run.day.isoformat(),
        "retention_days": run.retention_days,
        "announced": None,
        "previous_days": None,
        "received_at": request.received_at.isoformat(),
        "requested_at": None,
        "due_at": request.due_at.isoformat(timespec="microseconds"),
        "deadline": "gdpr",
        **dict.fromkeys(("extended_at", "extension_reason", "answered_at")),
        "filed_by": request.filed_by,
        **dict.fromkeys(("approved_by", "extended_by"), ""),
    }


def test_later_documents_are_refused_for_what_it_erased_only(chatbot: Chatbot, drain: Drain) -> None:
    conversation_aged(chatbot, 91, external_id="c-old")
    file_run(chatbot)
    drain()

    [late, new] = store(chatbot=chatbot, documents=[parsed(id="c-old"), parsed(id="c-new")])

    assert [error.code for error in late.errors] == ["conversation_deleted"]
    assert new.outcome == "created", "The chatter is not erased."


@pytest.mark.long(reason="each state by each selector", beyond=1)
@pytest.mark.parametrize(
    ("fields", "is_kept"),
    [
        ({}, True),
        ({"status": Status.FAILED, "error_code": "storage_unavailable", "failed_at": ago(1)}, True),
        ({"received_at": ago(31)}, False),
    ],
    ids=["waiting", "failed", "waiting for too long"],
)
@pytest.mark.parametrize("by_conversation", [False, True])
def test_what_an_open_export_names_is_left_out_and_counted(chatbot, drain, fields, *, is_kept, by_conversation):
    named = conversation_aged(chatbot, 91, "42", external_id="c-1")
    other = conversation_aged(chatbot, 91, "43")
    about = ByConversations(("c-1",)) if by_conversation else ByUci("member_id", "42")
    export = submit(chatbot=chatbot, kind=Kind.EXPORT, selector=about, origin="api", actor="command")
    # It is not taken before the run.
    ComplianceRequest.objects.filter(pk=export.pk).update(**({"not_before": ago(-1)} | fields))
    request = file_run(chatbot)

    drain()

    assert deleted(named, other) == [not is_kept, True]
    assert run_of(request).left_out == int(is_kept)
    request.refresh_from_db()
    assert (request.status, request.conversations) == (Status.COMPLETED, 1 if is_kept else 2)


@pytest.mark.django_db(transaction=True)
def test_a_finished_export_keeps_its_time(chatbot: Chatbot, drain: Drain, storage: ObjectStorage) -> None:
    conversation_aged(chatbot, 91)
    export = factories.export_of(chatbot, "42")
    drain()
    before = Export.objects.get(request=export)
    request = file_run(chatbot)

    drain()

    request.refresh_from_db()
    after = Export.objects.get(request=export)
    assert (request.status, request.conversations, request.exports) == (Status.COMPLETED, 1, 0)
    assert (after.key, after.expires_at) == (before.key, before.expires_at)
    assert storage.read(str(after.key))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("by_chunks", [False, True])
def test_a_later_deletion_ends_anothers_export_of_what_it_erased(chatbot, drain, monkeypatch, *, by_chunks) -> None:
    """Bob's file holds what Alice wrote. The run leaves it its time, and her deletion its grace alone."""
    factories.conversation_of(chatbot, "alice", "bob", started_at=ago(91), last_message_at=ago(91))
    export = factories.export_of(chatbot, "bob", include_shared=True)
    drain()
    file_run(chatbot)
    drain()
    kept_until = Export.objects.get(request=export).expires_at
    if by_chunks:
        monkeypatch.setattr(rows, "fits_one_chunk", lambda _sizes: False)

    deletion = factories.deletion_of(chatbot, "alice")
    drain()

    deletion.refresh_from_db()
    assert deletion.status == Status.COMPLETED
    after = Export.objects.get(request=export)
    assert after.finished_at is not None
    assert (kept_until, after.expires_at) == (
        after.finished_at + settings.HOSTED_FILE_DAYS,
        after.finished_at + settings.EXPORT_GRACE_DAYS,
    )


def test_it_works_in_slices_and_goes_on_after_a_kill(chatbot, drain, monkeypatch) -> None:
    monkeypatch.setattr(due, "SLICE", 3)
    conversations = [conversation_aged(chatbot, 91 if n % 2 else 10, str(n), external_id=f"c-{n}") for n in range(20)]
    request = file_run(chatbot)
    calls: list[int] = []

    def kill_some(*_: object, **__: object) -> None:
        calls.append(len(calls))
        if len(calls) in {1, 4, 5, 9}:
            raise KeyboardInterrupt

    before(monkeypatch, rows, "erase_marked_chunk", kill_some)
    for _ in range(5):
        try:
            worker.drain(seconds=60)
        except KeyboardInterrupt:
            request.refresh_from_db()
            if request.slice:
                open_ones = Conversation.objects.filter(deletion_request_id=request.pk, deleted_at=None)
                assert set(open_ones.values_list("pk", flat=True)) <= set(request.slice)
            with connection.cursor() as cursor:
                cursor.execute("UPDATE compliance_claim SET expires_at = now() - interval '1 second'")

    assert len(calls) > 9
    request.refresh_from_db()
    assert (request.status, request.conversations, request.conversations_total) == (Status.COMPLETED, 10, 10)
    assert request.messages == 20
    assert ChangeLogEntry.objects.filter(request_id=request.pk, event="request.completed").count() == 1
    assert deleted(*conversations) == [n % 2 == 1 for n in range(20)]
    left = set(Identity.objects.values_list("conversation", flat=True))
    assert not Conversation.objects.filter(pk__in=left, deleted_at__isnull=False).exists()


def with_a_file(storage: ObjectStorage, conversation: Conversation) -> None:
    file = factories.UploadedFileFactory.create(conversation=conversation, stored=True)
    storage.put(file.object_key, b"picture", "image/png")


def test_each_slice_has_its_own_attempts(chatbot, drain, storage, monkeypatch) -> None:
    """A run may take all night: a few short faults, hours apart, do not fail it."""
    monkeypatch.setattr(due, "SLICE", 1)
    for number in range(3):
        with_a_file(storage, conversation_aged(chatbot, 91, str(number)))
    request = file_run(chatbot)
    purge, calls = ObjectStorage.purge_many, Counter[str]()

    def fails_twice(self: ObjectStorage, keys: Sequence[str]) -> Any:
        calls.update(keys)
        if min(calls[key] for key in keys) <= 2:
            raise StorageError("storage_unavailable", "The storage does not answer.", retryable=True)
        return purge(self, keys)

    monkeypatch.setattr(ObjectStorage, "purge_many", fails_twice)
    for _ in range(7):
        drain()
        ComplianceRequest.objects.update(not_before=None)

    request.refresh_from_db()
    assert (request.status, request.conversations, request.error_code) == (Status.COMPLETED, 3, "")


@pytest.mark.usefixtures("storage")
def test_between_turns_it_has_not_waited_since_it_was_filed(chatbot, monkeypatch) -> None:
    """A run takes hours. Monitoring would else report that no worker takes requests."""
    monkeypatch.setattr(due, "SLICE", 1)
    for number in range(3):
        conversation_aged(chatbot, 91, str(number))
    request = file_run(chatbot)
    ComplianceRequest.objects.filter(pk=request.pk).update(queued_at=ago(0.2))
    held = claims.take(Kind.RETENTION, ComplianceRequest.Lane.LARGE)
    assert held is not None

    engine.run(held, deadline=0.0)

    request.refresh_from_db()
    assert (request.status, request.waiting_for) == (Status.ACCEPTED, "turn")
    oldest = health.oldest_waiting()
    assert oldest is not None
    assert (oldest.request_id, oldest.age < timedelta(minutes=5)) == (request.pk, True)


@pytest.mark.usefixtures("storage")
def test_a_run_that_only_examines_takes_turns_too(chatbot, monkeypatch) -> None:
    monkeypatch.setattr(due, "SLICE", 1)
    conversations = [conversation_aged(chatbot, days, str(number)) for number, days in enumerate([1, 1, 91])]
    request = file_run(chatbot)
    held = claims.take(Kind.RETENTION, ComplianceRequest.Lane.LARGE)
    assert held is not None

    engine.run(held, deadline=0.0)

    request.refresh_from_db()
    assert (request.status, request.waiting_for) == (Status.ACCEPTED, "turn")
    assert run_of(request).examined_number == conversations[0].pk


def test_only_one_worker_of_a_cluster_runs_one(chatbot: Chatbot) -> None:
    conversation_aged(chatbot, 91)
    file_run(chatbot)

    held = claims.take(Kind.RETENTION, ComplianceRequest.Lane.LARGE)

    assert held is not None
    assert held.is_large
    assert held.may_leave_work
