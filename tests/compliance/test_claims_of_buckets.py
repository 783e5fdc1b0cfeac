"""Exports to clients' buckets in claims: one storage at a time, and a worker is left for the others."""

from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from chatbots.models import Bucket, Chatbot
from compliance import claims, line, worker
from compliance.claims import HeldClaim
from compliance.models import Claim, ComplianceRequest
from tests import factories
from tests.factories import deletion_of, export_of

Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane

pytestmark = pytest.mark.django_db


def of_client(slug: str) -> Chatbot:
    """A chatbot with a bucket of the client's that nobody calls here."""
    chatbot = factories.ready_chatbot(slug=slug)
    Bucket.objects.filter(chatbot=chatbot).update(
        hosting="client", bucket=slug, region="us-east-1", access_key_id="key", secret_encrypted="unused"
    )
    return chatbot


def chatbots_of(held: HeldClaim) -> set[str]:
    return set(ComplianceRequest.objects.filter(claim=held.id).values_list("chatbot__slug", flat=True))


def take_all(lane: Lane = Lane.NORMAL) -> list[tuple[set[str], bool]]:
    """Take claims until nothing can be taken; each is over before the next."""
    taken = []
    while held := claims.take(Kind.EXPORT, lane):
        taken.append((chatbots_of(held), Claim.objects.get(pk=held.id).is_large))
        ComplianceRequest.objects.filter(claim=held.id).update(
            claim=None, not_before=timezone.now() + timedelta(hours=1)
        )
        Claim.objects.all().delete()
    return taken


@pytest.mark.parametrize("lane", [Lane.NORMAL, Lane.ALONE])
def test_a_claim_holds_exports_to_one_storage(chatbot: Chatbot, neighbour: Chatbot, lane: Lane) -> None:
    for each in (chatbot, neighbour, of_client("first"), of_client("second")):
        for number in range(2):
            export_of(each, f"{number}", lane=lane)

    taken = take_all(lane)

    clients = [(chatbots, is_large) for chatbots, is_large in taken if chatbots & {"first", "second"}]
    others = [(chatbots, is_large) for chatbots, is_large in taken if chatbots - {"first", "second"}]
    assert all(len(chatbots) == 1 and is_large for chatbots, is_large in clients)
    assert not any(is_large for _, is_large in others)
    if lane is Lane.NORMAL:
        assert sorted(map(sorted, (chatbots for chatbots, _ in taken))) == [
            ["acme", "neighbour"],
            ["first"],
            ["second"],
        ]


def test_while_one_worker_is_at_a_clients_bucket_the_other_serves_the_hosted(chatbot: Chatbot) -> None:
    export_of(chatbot, "42")
    for slug in ("first", "second"):
        export_of(of_client(slug), "42")

    taken = []
    while held := claims.take(Kind.EXPORT):
        taken.append(chatbots_of(held))

    # Of a cluster's two workers; the third claim waits.
    assert len(taken) == 2
    assert {"acme"} in taken


def test_it_does_not_count_deletions_of_a_client_with_its_own_bucket(chatbot: Chatbot) -> None:
    """They erase hosted data, and take their place among all others."""
    requests = [deletion_of(each, "42") for each in (chatbot, of_client("first"))]
    held = claims.take(Kind.DELETION)
    assert held
    assert set(held.request_ids) == {request.pk for request in requests}
    assert not held.is_large


def test_one_client_and_many_hosted_backlogs_both_get_turns(
    chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(line.CLAIM_SIZE, Kind.EXPORT, 2)
    client = of_client("first")
    for each in (chatbot, client):
        for number in range(40):
            export_of(each, f"{number}")
    turns: Counter[str] = Counter()
    for _ in range(20):
        held = claims.take(Kind.EXPORT)
        assert held
        turns.update(chatbots_of(held))
        held.let_go()
    # Missed by chance once in a million runs.
    assert turns["acme"]
    assert turns["first"]


def test_a_client_whose_requests_must_wait_keeps_no_other_client_waiting(chatbot: Chatbot) -> None:
    later = timezone.now() + timedelta(hours=1)
    for number in range(60):
        export_of(of_client(f"waits-{number}"), "42", not_before=later)
    export_of(of_client("first"), "42")
    held = claims.take(Kind.EXPORT)
    assert held
    assert chatbots_of(held) == {"first"}


@pytest.mark.parametrize("drawn_is_client", [False, True])
def test_where_what_is_drawn_must_wait_the_other_storage_has_its_turn(
    chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch, drawn_is_client: bool
) -> None:
    monkeypatch.setattr("random.randrange", lambda lots: lots - 1 if drawn_is_client else 0)
    client = of_client("first")
    waits, goes = (client, chatbot) if drawn_is_client else (chatbot, client)
    export_of(waits, "42", not_before=timezone.now() + timedelta(hours=1))
    export_of(goes, "42")

    held = claims.take(Kind.EXPORT)

    assert held
    assert chatbots_of(held) == {goes.slug}


def test_a_worker_calls_for_help_before_it_calls_a_clients_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    export_of(of_client("first"), "42")
    calls: list[str] = []

    class Enough(Exception):
        pass

    def work(held: HeldClaim, *, deadline: float) -> None:
        calls.append("work")
        raise Enough

    monkeypatch.setattr(worker, "_work", work)
    with pytest.raises(Enough):
        worker.drain(seconds=60, call_for_help=lambda: calls.append("help"))
    assert calls == ["help", "work"]
