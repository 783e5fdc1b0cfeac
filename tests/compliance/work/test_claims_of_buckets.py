"""Claims of requests that share a bucket, or a place: one bucket at a time, and one place at a time."""

from collections import Counter
from collections.abc import Callable, Collection
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from chatbots.models import Chatbot, SilentStorage
from common import proc
from compliance import worker
from compliance.erasure import verify
from compliance.export import records
from compliance.models import Claim, ComplianceRequest
from compliance.work import claims, free_text, scheduling, sql
from compliance.work.claims import HeldClaim
from compliance.work.transitions import completion
from conversations import placement
from tests import factories, under_roles
from tests.clients import use_bucket_at
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.elsewhere import Elsewhere
from tests.patches import after, before
from tests.places import Shards

Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane


def of_client(slug: str) -> Chatbot:
    """A chatbot with a client's bucket that these tests never call."""
    chatbot = factories.ready_chatbot(slug=slug)
    use_bucket_at(chatbot, "")
    return chatbot


def chatbots_of(held: HeldClaim) -> set[str]:
    return set(ComplianceRequest.objects.filter(claim=held.id).values_list("chatbot__slug", flat=True))


def take_all(take: Callable[[], HeldClaim | None]) -> list[tuple[set[str], int | None]]:
    """Take claims one after the other until none is left; return their chatbots and buckets."""
    taken = []
    while held := take():
        taken.append((chatbots_of(held), Claim.objects.get(pk=held.id).bucket_of_id))
        ComplianceRequest.objects.filter(claim=held.id).update(
            claim=None, not_before=timezone.now() + timedelta(hours=1)
        )
        Claim.objects.all().delete()
    return taken


@pytest.mark.parametrize("lane", [Lane.NORMAL, Lane.ISOLATED, Lane.LARGE])
def test_a_claim_uses_the_hosted_bucket_or_one_clients(chatbot: Chatbot, neighbour: Chatbot, lane: Lane) -> None:
    clients = [of_client("first"), of_client("second")]
    for each in (chatbot, neighbour, *clients):
        for number in range(2):
            export_of(each, f"{number}", lane=lane)

    hosted = take_all(lambda: claims.take(Kind.EXPORT, lane))
    at_clients = take_all(claims.take_for_bucket)

    assert set[str]().union(*(slugs for slugs, _ in hosted)) == {"acme", "neighbour"}
    assert all(bucket_of is None for _, bucket_of in hosted)
    each_once = 1 if lane is Lane.NORMAL else 2
    wanted = [({each.slug}, each.pk) for each in clients for _ in range(each_once)]
    assert sorted(at_clients, key=lambda one: str(one[1])) == sorted(wanted, key=lambda one: str(one[1]))


def test_a_bucket_has_one_claim_at_a_time() -> None:
    clients = [of_client("first"), of_client("second")]
    for each in clients:
        for lane in Lane:
            export_of(each, f"{lane}", lane=lane)

    taken = [claims.take_for_bucket(), claims.take_for_bucket()]

    assert claims.take_for_bucket() is None
    assert {held.bucket_of for held in taken if held} == {each.pk for each in clients}
    for held in taken:
        assert held
        held.release()
    assert claims.take_for_bucket(busy=[clients[0].pk]) is not None
    assert claims.take_for_bucket(busy=[clients[0].pk]) is None


def test_it_does_not_count_deletions_of_a_client_with_its_own_bucket(chatbot: Chatbot) -> None:
    """They erase hosted data, and are queued among all others."""
    requests = [deletion_of(each, "42") for each in (chatbot, of_client("first"))]
    held = claims.take(Kind.DELETION)
    assert held
    assert set(held.request_ids) == {request.pk for request in requests}
    assert not held.is_large


def test_a_client_whose_requests_must_wait_keeps_no_other_client_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_CHATBOTS_PER_QUERY", 2)
    later = timezone.now() + timedelta(hours=1)
    for number in range(5):
        export_of(of_client(f"waits-{number}"), "42", not_before=later)
    export_of(of_client("first"), "42")
    held = claims.take_for_bucket()
    assert held
    assert chatbots_of(held) == {"first"}


def test_without_threads_a_drain_calls_the_clients_buckets_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for slug in ("first", "second"):
        export_of(of_client(slug), "42")
    worked = []

    def work(held: HeldClaim, *, deadline: float) -> None:
        worked.append(chatbots_of(held))
        with under_roles.role("owner"):
            ComplianceRequest.objects.filter(claim=held.id).delete()
        held.release()

    monkeypatch.setattr(worker, "work", work)
    assert not worker.drain(seconds=60)
    assert sorted(map(sorted, worked)) == [["first"], ["second"]]


def test_one_request_tries_a_silent_bucket_and_the_others_stay_queued() -> None:
    client = of_client("first")
    for number in range(5):
        export_of(client, f"{number}")
    known = SilentStorage.objects.create(chatbot=client, rests_until=timezone.now() + timedelta(minutes=1))
    assert claims.take_for_bucket() is None

    SilentStorage.objects.update(rests_until=timezone.now())
    tries = claims.take_for_bucket()
    assert tries
    assert len(tries.request_ids) == 1

    tries.release()
    known.delete()
    all_go = claims.take_for_bucket()
    assert all_go
    assert len(all_go.request_ids) == 5


@pytest.mark.parametrize(
    ("lane", "after"), [("normal", "isolated"), ("isolated", "isolated"), ("large", "large"), ("client", "client")]
)
def test_requests_of_a_lost_worker_keep_their_lane(lane: str, after: str) -> None:
    client = of_client("first")
    request = deletion_of(client, "42", lane="client") if lane == "client" else export_of(client, "42", lane=lane)
    assert claims.take_for_bucket()
    assert claims.requeue_from_cluster(proc.cluster(), blamed=proc.owner())
    request.refresh_from_db()
    assert (request.lane, request.attempts, request.claim_id) == (after, 1, None)


@pytest.mark.django_db(transaction=True)
def test_only_one_of_two_workers_gets_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    client = of_client("first")
    for number in range(2):
        export_of(client, f"{number}", lane="isolated")
    drawn = Barrier(2)
    after(monkeypatch, scheduling, "pick_bucket", lambda *_, **__: drawn.wait(30))

    taken = [one.end() for one in [Elsewhere(claims.take_for_bucket) for _ in range(2)]]
    assert sorted(held is None for held in taken) == [False, True]
    assert Claim.objects.count() == 1
    assert ComplianceRequest.objects.filter(claim__isnull=False).count() == 1


def _chatbots(*slugs: str) -> list[Chatbot]:
    return [factories.ready_chatbot(slug=slug) for slug in slugs]


def _file(chatbots: list[Chatbot], *, each: int) -> None:
    for chatbot in chatbots:
        for number in range(each):
            deletion_of(chatbot, f"{number}")


@pytest.mark.one_postgresql(reason="the other case")
def test_on_one_postgresql_all_live_together() -> None:
    assert not placement.is_distributed()
    assert placement.by_place({"a": 1, "b": 2, "c": 1}) == [["a", "b", "c"]]
    assert placement.by_place({}) == []


def test_things_are_grouped_by_shard_in_their_order(shards: Shards) -> None:
    one, two, three = _chatbots("one", "two", "three")
    shards([one, three], [two])

    grouped = placement.by_place({"a": two.pk, "b": one.pk, "c": two.pk, "d": three.pk})

    assert grouped == [["a", "c"], ["b", "d"]]


def test_nothing_is_asked_about_no_chatbot(chatbot: Chatbot, django_assert_num_queries: Callable[[int], Any]) -> None:
    """Citus cannot say where such a statement belongs, and refuses all but simple ones."""
    deletion_of(chatbot, "42")
    held = claims.take(Kind.DELETION)
    assert held

    with django_assert_num_queries(0):
        assert completion.failed_by_ids(held, []) == []
        assert not free_text.of_conversations({})
        assert records.record_conversations([]) == set()


def test_a_statement_about_no_request_names_a_chatbot_that_is_none(db: None) -> None:
    assert [one([])["chatbots"] for one in (sql.subjects, sql.given)] == ["{0}", "{0}"]


def test_a_claim_takes_chatbots_of_one_place_and_notes_that_others_wait(shards: Shards) -> None:
    together, apart = _chatbots("one", "two"), _chatbots("three")
    shards(together, apart)
    _file([*together, *apart], each=2)

    taken = [claims.take(Kind.DELETION), claims.take(Kind.DELETION)]

    assert sorted(map(len, (chatbots_of(held) for held in taken if held))) == [1, 2]
    assert [held.may_leave_work for held in taken if held] == [True, False]
    assert claims.take(Kind.DELETION) is None


def test_a_place_with_nothing_to_take_keeps_no_other_waiting(shards: Shards) -> None:
    blocked, free = _chatbots("blocked", "free")
    shards([blocked], [free])
    deletion_of(blocked, "1")
    deletion_of(blocked, "1")
    assert claims.take(Kind.DELETION)  # which the second one waits for
    _file([free], each=1)

    for _ in range(12):
        held = claims.take(Kind.DELETION)
        assert held
        assert chatbots_of(held) == {free.slug}
        held.abandon()


@pytest.mark.long(reason="four hundred requests are filed, and eighty claims made")
def test_a_chatbots_share_does_not_depend_on_how_many_live_with_it(shards, monkeypatch) -> None:
    monkeypatch.setitem(scheduling.CLAIM_SIZE, Kind.DELETION, 3)
    crowd, alone = _chatbots("one", "two", "three"), _chatbots("four")
    shards(crowd, alone)
    _file([*crowd, *alone], each=100)

    taken: Counter[int] = Counter()
    for _ in range(80):
        held = claims.take(Kind.DELETION)
        assert held
        taken.update(ComplianceRequest.objects.filter(pk__in=held.request_ids).values_list("chatbot_id", flat=True))

    # 240 in all, so 60 each, give or take 12. If each place had its turn, it would be all of the 100 there are.
    assert 10 <= taken[alone[0].pk] < 100


def test_an_audit_asks_about_one_place_at_a_time(shards, drain, monkeypatch) -> None:
    one, two, three = _chatbots("one", "two", "three")
    shards([one, three], [two])
    for chatbot in (one, two, three):
        conversation_of(chatbot, "42")
        deletion_of(chatbot, "42")
    drain()
    completed = list(ComplianceRequest.objects.order_by("seq").values_list("pk", flat=True))
    asked: list[set[int]] = []

    def noting(request_ids: Collection[UUID]) -> None:
        asked.append(set(ComplianceRequest.objects.filter(pk__in=request_ids).values_list("chatbot_id", flat=True)))

    before(monkeypatch, verify, "verify", noting)

    audit = verify.audit(completed)

    assert asked == [{one.pk, three.pk}, {two.pk}]
    assert audit == verify.Audit(verified=3, by_marks=0, left={})
