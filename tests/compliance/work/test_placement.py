"""Chatbots that live together: claims, audits and replays take those of one place at a time."""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

import pytest

from chatbots.models import Chatbot
from compliance.erasure import verify
from compliance.erasure.findings import VerificationResult
from compliance.export import records
from compliance.models import ComplianceRequest
from compliance.work import claims, free_text, scheduling, sql
from compliance.work.claims import HeldClaim
from compliance.work.transitions import completion
from conversations import placement
from tests import factories
from tests.compliance.conftest import Drain
from tests.factories import conversation_of, deletion_of
from tests.places import Shards

Kind = ComplianceRequest.Kind


def _chatbots(*slugs: str) -> list[Chatbot]:
    return [factories.ready_chatbot(slug=slug) for slug in slugs]


def _file(chatbots: list[Chatbot], *, each: int) -> None:
    for chatbot in chatbots:
        for number in range(each):
            deletion_of(chatbot, f"{number}")


def _chatbots_of(held: HeldClaim) -> set[int]:
    found = ComplianceRequest.objects.filter(pk__in=held.request_ids)
    return set(found.values_list("chatbot_id", flat=True))


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

    assert sorted(map(len, (_chatbots_of(held) for held in taken if held))) == [1, 2]
    assert [held.leaves_others for held in taken if held] == [True, False]
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
        assert _chatbots_of(held) == {free.pk}
        held.abandon()


@pytest.mark.long(reason="four hundred requests are filed, and eighty claims made")
def test_a_chatbots_share_does_not_depend_on_how_many_live_with_it(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scheduling.CLAIM_SIZE, Kind.DELETION, 3)
    crowd, alone = _chatbots("one", "two", "three"), _chatbots("four")
    shards(crowd, alone)
    _file([*crowd, *alone], each=100)

    taken: Counter[int] = Counter()
    for _ in range(80):
        held = claims.take(Kind.DELETION)
        assert held
        taken.update(ComplianceRequest.objects.filter(pk__in=held.request_ids).values_list("chatbot_id", flat=True))

    # 240 in all, so 60 each. If each place had its turn, it would be 120, out of the 100 there are.
    assert 25 <= taken[alone[0].pk] <= 95


def test_an_audit_asks_about_one_place_at_a_time(
    shards: Shards, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = _chatbots("one", "two", "three")
    shards([one, three], [two])
    for chatbot in (one, two, three):
        conversation_of(chatbot, "42")
        deletion_of(chatbot, "42")
    drain()
    completed = list(ComplianceRequest.objects.order_by("seq").values_list("pk", flat=True))
    asked: list[set[int]] = []

    def noting(request_ids: Collection[UUID]) -> dict[UUID, VerificationResult]:
        asked.append(set(ComplianceRequest.objects.filter(pk__in=request_ids).values_list("chatbot_id", flat=True)))
        return verifying(request_ids)

    verifying = verify.verify
    monkeypatch.setattr(verify, "verify", noting)

    audit = verify.audit(completed)

    assert asked == [{one.pk, three.pk}, {two.pk}]
    assert audit == verify.Audit(verified=3, by_marks=0, left={})
