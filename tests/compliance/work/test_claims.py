"""The order of claims: shares, lanes, one chatter's requests, and waiting ones."""

from datetime import datetime, timedelta
from functools import partial
from itertools import count
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import ChangeLogEntry, Chatbot
from common.db import fetch
from common.storage import StorageError
from common.storage.removal import Removal, Removed
from compliance import worker
from compliance.models import Claim, ComplianceRequest
from compliance.work import claims, scheduling, sizes
from compliance.work.claims import HeldClaim
from compliance.work.sql import GIVEN, given
from conversations import locks
from conversations.models import UploadedFile
from tests import factories
from tests.compliance.conftest import Drain
from tests.factories import conversation_of, deletion_of, export_of, of_conversations
from tests.functional.elsewhere import Elsewhere
from tests.patches import after, before

Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane
Status = ComplianceRequest.Status


def taken(kind: Kind = Kind.DELETION, lane: Lane = Lane.NORMAL) -> HeldClaim:
    held = claims.take(kind, lane)
    assert held
    return held


@pytest.mark.one_postgresql(reason="one place for all chatbots")
def test_each_chatbot_gets_a_fair_share(chatbot, neighbour, monkeypatch) -> None:
    monkeypatch.setitem(scheduling.CLAIM_SIZE, Kind.DELETION, 10)
    for number in range(50):
        deletion_of(chatbot, f"backlog-{number}")
    single = deletion_of(neighbour, "single")

    held = taken()

    assert single.pk in held.request_ids
    # The unused share of one chatbot goes to the other.
    assert len(held.request_ids) == 10


@pytest.mark.parametrize(("lane", "full"), [(Lane.NORMAL, 4), (Lane.SPLIT, 3), (Lane.ISOLATED, 1)])
def test_a_full_claim_of_any_lane_leaves_others(chatbot, monkeypatch, lane: Lane, full: int) -> None:
    monkeypatch.setitem(scheduling.CLAIM_SIZE, Kind.DELETION, 4)
    monkeypatch.setattr(scheduling, "SPLIT_SIZE", 3)
    for number in range(full + 1):
        deletion_of(chatbot, f"{number}", lane=lane)

    held = taken(lane=lane)

    assert (len(held.request_ids), held.may_leave_work) == (full, True)
    assert taken(lane=lane).may_leave_work == (full == 1)


def test_requests_in_their_grace_take_no_share(chatbot, neighbour, monkeypatch) -> None:
    monkeypatch.setitem(scheduling.CLAIM_SIZE, Kind.DELETION, 10)
    for number in range(10):
        deletion_of(chatbot, f"now-{number}")
        deletion_of(neighbour, f"later-{number}", not_before=timezone.now() + timedelta(hours=1))

    held = taken()

    assert set(held.request_ids) == set(chatbot.requests.values_list("pk", flat=True))


def test_a_chatbot_that_had_to_wait_is_next_in_queue_order(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scheduling.CLAIM_SIZE, Kind.DELETION, 1)
    hour = timedelta(hours=1)
    ago = [deletion_of(chatbot, f"{hours}", queued_at=timezone.now() - hours * hour) for hours in (4, 3, 2)]
    ComplianceRequest.objects.filter(pk=ago[0].pk).update(not_before=timezone.now() - 2.5 * hour)

    assert [taken().request_ids for _ in ago] == [(ago[1].pk,), (ago[0].pk,), (ago[2].pk,)]


@pytest.mark.long(reason="two hundred requests are filed")
def test_many_old_backlogs_do_not_keep_a_new_request_waiting(chatbot, neighbour, monkeypatch) -> None:
    monkeypatch.setitem(scheduling.CLAIM_SIZE, Kind.DELETION, 2)
    backlogs = [chatbot, *(factories.ready_chatbot(slug=f"backlog-{number}") for number in range(4))]
    for backlog in backlogs:
        for number in range(40):
            deletion_of(backlog, f"{number}")
    new = deletion_of(neighbour, "new")

    # In queue order it would come after 200 others, two at a time. Each claim has a chance of a third.
    turns = next(turn for turn in count(1) if new.pk in taken().request_ids)

    assert turns < 60


def test_exports_of_one_chatter_are_claimed_together_and_deletions_one_by_one(chatbot: Chatbot) -> None:
    exports = [export_of(chatbot, "42") for _ in range(3)]
    deletions = [deletion_of(chatbot, "43") for _ in range(3)]

    assert set(taken(Kind.EXPORT).request_ids) == {export.pk for export in exports}
    assert taken().request_ids == (deletions[0].pk,)


@pytest.mark.django_db(transaction=True)
def test_an_export_is_not_taken_while_another_worker_takes_an_earlier_one_of_its_chatter(chatbot: Chatbot) -> None:
    first, duplicate, other = export_of(chatbot, "42"), export_of(chatbot, "42"), export_of(chatbot, "43")

    with transaction.atomic():
        ComplianceRequest.objects.select_for_update().get(pk=first.pk)
        assert Elsewhere(partial(taken, Kind.EXPORT)).end().request_ids == (other.pk,)

    assert set(taken(Kind.EXPORT).request_ids) == {first.pk, duplicate.pk}


def test_a_duplicate_does_not_complete_while_the_first_can_still_fail(chatbot, drain, storage, monkeypatch) -> None:
    conversation = conversation_of(chatbot, "42", messages=3)
    file = factories.UploadedFileFactory.create(conversation=conversation, stored=True)
    first, duplicate = deletion_of(chatbot, "42"), deletion_of(chatbot, "42")
    refusals = [StorageError("storage_denied", "No.", retryable=False)]
    remove = Removal.purge_many

    def refuse_once(self: Removal, keys: list[str]) -> Removed:
        return Removed(failed=dict.fromkeys(keys, refusals.pop())) if refusals else remove(self, keys)

    monkeypatch.setattr(Removal, "purge_many", refuse_once)

    drain()

    first.refresh_from_db()
    duplicate.refresh_from_db()
    assert (first.status, first.messages) == (Status.FAILED, 3)
    assert (duplicate.status, duplicate.files) == (Status.COMPLETED, 1)
    assert not UploadedFile.objects.filter(pk=file.pk).exists()


def test_a_deletion_over_the_guard_is_held_before_it_waits_for_the_large_lane(chatbot, drain, monkeypatch) -> None:
    monkeypatch.setattr(sizes, "LARGE_CONVERSATIONS", 1)
    Chatbot.objects.filter(pk=chatbot.pk).update(max_conversations_per_deletion=2)
    for _ in range(3):
        conversation_of(chatbot, "42", messages=1)
    request = deletion_of(chatbot, "42")

    drain()

    request.refresh_from_db()
    assert (request.status, request.lane) == (Status.ON_HOLD, Lane.NORMAL)


@pytest.mark.django_db(transaction=True)
def test_exports_wait_for_the_mark_of_their_own_chatbot_alone(chatbot: Chatbot, neighbour: Chatbot) -> None:
    export_of(chatbot, "42")
    export_of(neighbour, "42")
    held = taken(Kind.EXPORT)
    done: list[set[int]] = []

    def work(_now: datetime, shared: set[int]) -> set[int]:
        done.append(shared)
        return shared

    with transaction.atomic():
        locks.exclude_intake(neighbour.pk, number=0)
        sharing = Elsewhere(lambda: held.share_with_intake([chatbot.pk, neighbour.pk], work))
        assert sharing.waits
        assert done == [{chatbot.pk}]

    sharing.end()
    assert done == [{chatbot.pk}, {neighbour.pk}]


def test_deletions_of_one_claim_are_held_each_for_its_own_reason(chatbot: Chatbot, drain: Drain) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(max_conversations_per_deletion=1)
    for value in ("42", "43", "43"):
        conversation_of(chatbot, value)
    export_of(chatbot, "42", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    behind, over = deletion_of(chatbot, "42"), deletion_of(chatbot, "43")

    drain()

    log = ChangeLogEntry.objects.filter(event__in=["request.held", "request.released"])
    assert dict(log.values_list("request_id", "data__reason")) == {
        behind.pk: "export_pending",
        over.pk: "too_many_conversations",
    }
    assert log.count() == ComplianceRequest.objects.filter(status=Status.ON_HOLD).count() == 2


def test_an_export_between_two_deletions_keeps_its_place(chatbot: Chatbot) -> None:
    first, export, second = deletion_of(chatbot, "42"), export_of(chatbot, "42"), deletion_of(chatbot, "42")

    assert taken().request_ids == (first.pk,)
    assert claims.take(Kind.EXPORT) is None
    assert ComplianceRequest.objects.filter(pk__in=[export.pk, second.pk], claim=None).count() == 2


def test_one_worker_of_a_cluster_is_left_for_the_others(chatbot: Chatbot, settings: Settings) -> None:
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "workers": 3}
    for number in range(4):
        deletion_of(chatbot, f"oversized-{number}", lane=Lane.LARGE)
    factories.ClaimFactory.create(owner="another host:1:2", is_large=True)

    at_work = [taken(lane=Lane.LARGE), taken(lane=Lane.LARGE)]
    assert claims.take(Kind.DELETION, Lane.LARGE) is None

    at_work[0].release()
    assert claims.take(Kind.DELETION, Lane.LARGE)


def test_a_cluster_of_one_worker_takes_what_is_large_too(chatbot: Chatbot, settings: Settings) -> None:
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "workers": 1}
    deletion_of(chatbot, "oversized", lane=Lane.LARGE)

    assert claims.take(Kind.DELETION, Lane.LARGE)


def test_a_released_claim_can_be_released_again(chatbot: Chatbot) -> None:
    deletion_of(chatbot, "42")
    held = taken()

    held.release()
    held.release()

    assert not Claim.objects.exists()


def test_a_large_claim_of_a_dead_worker_is_not_counted(chatbot: Chatbot) -> None:
    deletion_of(chatbot, "oversized-1", lane=Lane.LARGE)
    deletion_of(chatbot, "oversized-2", lane=Lane.LARGE)
    taken(lane=Lane.LARGE)
    Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert claims.take(Kind.DELETION, Lane.LARGE)


@pytest.mark.django_db(transaction=True)  # an export is read on its own connection
@pytest.mark.parametrize("kind", [Kind.DELETION, Kind.EXPORT])
def test_large_requests_leave_the_claim_before_any_work(chatbot, storage, monkeypatch, kind) -> None:
    monkeypatch.setattr(sizes, "LARGE_MESSAGES", 10)
    done: list[UUID] = []

    def note(held: HeldClaim, **_: float) -> None:
        completed = ComplianceRequest.objects.filter(pk__in=held.request_ids, status=Status.COMPLETED)
        done.extend(completed.exclude(pk__in=done).values_list("pk", flat=True))

    after(monkeypatch, worker, "work", note)
    conversation_of(chatbot, "oversized", messages=11)
    conversation_of(chatbot, "small", messages=10)
    oversized = factories.RequestFactory.create(chatbot=chatbot, uci_value="oversized", kind=kind)
    small = factories.RequestFactory.create(chatbot=chatbot, uci_value="small", kind=kind)

    worker.drain(seconds=60)

    oversized.refresh_from_db()
    assert done == [small.pk, oversized.pk]
    assert (oversized.lane, oversized.messages, oversized.attempts) == (Lane.LARGE, 11, 0)
    log = ChangeLogEntry.objects.filter(request_id=oversized.pk).order_by("pk").values_list("event", flat=True)
    assert list(log) == ["request.requeued", "request.started", "request.completed"]


def test_a_worker_notifies_others_before_it_starts_a_large_request(chatbot, storage, monkeypatch) -> None:
    deletion_of(chatbot, "oversized", lane=Lane.LARGE)
    deletion_of(chatbot, "small")
    seen: list[str] = []
    before(monkeypatch, worker, "work", lambda held, **__: seen.append(held.lane))

    worker.drain(seconds=60, on_backlog=lambda: seen.append("help"))

    assert seen == ["normal", "help", "large"]


COLUMNS = "r.id, r.seq, r.chatbot_id, r.variable_id, r.uci_digest, r.cutoff_at, r.cutoff_number"


def test_given_requests_are_as_in_the_table(chatbot: Chatbot) -> None:
    began = {
        "cutoff_at": timezone.now(),
        "cutoff_number": 2**40,
        "status": "processing",
        "started_at": timezone.now(),
    }
    filed = [
        deletion_of(chatbot, 'O\'Brien "7" \\ 😀'),
        deletion_of(chatbot, "42", **began),
        of_conversations(chatbot, "a", "b{,}"),
    ]

    values = given([one.pk for one in filed])
    stored = fetch(f"SELECT {COLUMNS} FROM compliance_compliancerequest r ORDER BY r.seq")

    assert fetch(f"SELECT {COLUMNS} FROM {GIVEN} ORDER BY r.seq", values) == stored
    named = fetch(f"SELECT r.conversation_digests FROM {GIVEN} ORDER BY r.seq", values)
    assert [digests for (digests,) in named] == [None, None, filed[2].conversation_digests]
    assert len(stored) == len(filed)
    assert fetch(f"SELECT r.id FROM {GIVEN}", given([])) == []
    assert "Brien" not in values["requests"]
