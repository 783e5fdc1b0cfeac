"""Workers lock the same rows in the same order, so that they never deadlock."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from chatbots.models import Chatbot
from compliance import worker
from compliance.erasure import exports, marking, objects, rows
from compliance.models import ComplianceRequest, Export, ExportConversation
from compliance.requests import decisions
from compliance.requests.selectors import ByUci
from compliance.requests.submit import submit
from compliance.work import claims
from compliance.work.claims import HeldClaim
from compliance.work.transitions import completion
from tests import factories
from tests.factories import conversation_of, deletion_of, export_of, of_conversations
from tests.functional.company import Company, attempts, settle
from tests.functional.elsewhere import Elsewhere, Gate
from tests.functional.refusing import EXPORTS, Refusals
from tests.patches import after


def locks_in_order(first: Model, second: Model, work: Callable[[], object]) -> bool:
    """Return whether the work, while it waits for the first of two rows, leaves the second unlocked."""

    def at_once() -> None:
        with transaction.atomic():
            work()

    with transaction.atomic():
        type(first)._default_manager.select_for_update().get(pk=first.pk)
        working = Elsewhere(at_once)
        assert working.waits
        others = type(second)._default_manager.select_for_update(skip_locked=True)
        is_free = others.filter(pk=second.pk).exists()
    working.end()
    return is_free


@pytest.fixture
def two(chatbot: Chatbot) -> tuple[Export, Export]:
    """Two exports under way, of which the first was filed last and written last: their ids alone have this order."""
    last, first = [export_of(chatbot, value) for value in ("42", "43")]
    pair = [factories.ExportFactory.create(request=each, key=f"{each.uci_value}.csv") for each in (first, last)]
    Export.objects.filter(pk=pair[0].pk).update(key="43.csv")
    return pair[0], pair[1]


def test_counts_are_added_in_the_order_of_filing(chatbot: Chatbot) -> None:
    second, first = deletion_of(chatbot, "42"), deletion_of(chatbot, "43")
    # Filed in the opposite order of the ids.
    ComplianceRequest.objects.filter(pk=first.pk).update(seq=0)
    counts = {each.pk: Counter(messages=1) for each in (second, first)}

    assert locks_in_order(first, second, lambda: completion.add_counts(counts))


def test_exports_forget_their_keys_in_the_order_of_their_ids(two: tuple[Export, Export]) -> None:
    gone = [(each.pk, str(each.key)) for each in reversed(two)]

    assert locks_in_order(*two, lambda: objects.forget_exports(gone, chatbot_ids=[two[0].chatbot_id]))


def test_exports_with_erased_data_get_their_expiry_in_the_order_of_their_ids(
    chatbot, two: tuple[Export, Export]
) -> None:
    deletion = deletion_of(chatbot, "42")
    for number, export in enumerate(reversed(two)):
        ExportConversation.objects.create(chatbot=chatbot, export=export, conversation_id=number)

    assert locks_in_order(*two, lambda: exports.expire({0: deletion.pk, 1: deletion.pk}))


def test_an_erasure_waits_for_exports_before_it_locks_requests_whose_references_it_clears(chatbot: Chatbot) -> None:
    """A worker that removes an export has locked it when it counts it for its request."""
    conversation = conversation_of(chatbot, "ada-77", external_id="c-1")
    export = factories.ExportFactory.create(request=export_of(chatbot, "ada-77"), key="export.csv")
    ExportConversation.objects.create(chatbot=chatbot, export=export, conversation_id=conversation.pk)
    removing = of_conversations(chatbot, "c-1", reference="T-ada-77")
    erasing = deletion_of(chatbot, "ada-77")

    assert locks_in_order(export, removing, lambda: rows.erase(rows.lock_named([erasing.pk])[0]))
    removing.refresh_from_db()
    assert removing.reference == ""


def test_a_retried_deletion_and_a_later_one_of_the_chatter_complete_at_once(chatbot: Chatbot) -> None:
    """Each changes its own request, and the failed ones before it."""

    def complete(held: HeldClaim, *ids: UUID) -> None:
        with held.transaction():
            met = completion.begin(held, ids)
            completion.record_remainders(dict.fromkeys(ids, completion.Remainder(1, 0, 0)))
            completion.complete_deletions(held, ids, met)

    failed, retried = [
        deletion_of(chatbot, "42", status="failed", failed_at=timezone.now(), error_code="internal_error")
        for _ in range(2)
    ]
    last = deletion_of(chatbot, "42")
    ComplianceRequest.objects.update(cutoff_at=timezone.now(), cutoff_number=0)
    held = claims.take(ComplianceRequest.Kind.DELETION)
    assert held is not None

    with transaction.atomic():
        ComplianceRequest.objects.select_for_update().get(pk=failed.pk)
        later = Elsewhere(lambda: complete(held, last.pk))
        assert later.waits  # for the first, and knows the second as failed
        others = Elsewhere(lambda: take_again(retried))
        held_again = others.end()
        earlier = Elsewhere(lambda: complete(held_again, retried.pk))
        assert earlier.waits
    for each in (later, earlier):
        each.end()

    values = ComplianceRequest.objects.values_list("uci_value", flat=True)
    assert list(values) == [None] * 3


def take_again(failed: ComplianceRequest) -> HeldClaim:
    retried = decisions.retry(request_id=failed.pk, actor="test")
    held = claims.take(ComplianceRequest.Kind.DELETION, ComplianceRequest.Lane(retried.lane))
    assert held is not None
    return held


@pytest.fixture
def finished_export(chatbot: Chatbot) -> Export:
    now = timezone.now()
    filed = export_of(chatbot, "42")
    done = {"status": "completed", "result": "done", "uci_value": None, "completed_at": now, "cutoff_at": now}
    ComplianceRequest.objects.filter(pk=filed.pk).update(started_at=now, **done)
    file = {"key": "k.csv", "rows": 1, "bytes": 1, "sha256": "a" * 64, "expires_at": now + timedelta(days=9)}
    return factories.ExportFactory.create(request=filed, finished_at=now, **file)


@pytest.fixture
def both_at_work(chatbot: Chatbot) -> tuple[HeldClaim, HeldClaim]:
    """Claims of two deletions of one chatter: the earlier was approved while the later was being completed.

    The earlier has a reference, which does not contain the chatter.
    """
    now = timezone.now()
    earlier = deletion_of(
        chatbot,
        "42",
        reference="T-1",
        status="on_hold",
        hold_reason="awaiting_approval",
        held_at=now,
        erase_exports=True,
    )
    later = deletion_of(chatbot, "42")
    later_claim = claims.take(ComplianceRequest.Kind.DELETION)
    marked = {"status": "processing", "started_at": now, "cutoff_at": now, "cutoff_number": 10**9}
    ComplianceRequest.objects.filter(pk=later.pk).update(**marked)
    ComplianceRequest.objects.filter(pk=earlier.pk).update(status="accepted", hold_reason=None)
    earlier_claim = claims.take(ComplianceRequest.Kind.DELETION)
    assert earlier_claim is not None
    assert later_claim is not None
    return earlier_claim, later_claim


def begin_completing(held: HeldClaim, gate: Gate, then: Callable[[], object] = lambda: None) -> None:
    with held.transaction():
        completion.begin(held, list(held.request_ids))
        gate.passed()
        then()


def test_completing_and_removing_an_export_of_the_chatter_do_not_block_each_other(
    chatbot: Chatbot, finished_export: Export, both_at_work: tuple[HeldClaim, HeldClaim]
) -> None:
    earlier, later = both_at_work
    completing, removing = Gate(), Gate()

    def remove() -> None:
        with earlier.transaction():
            objects.forget_exports([(finished_export.pk, "k.csv")], chatbot_ids=[chatbot.pk])
            removing.passed()
            completion.add_counts({earlier.request_ids[0]: Counter(exports=1)})

    one = Elsewhere(
        lambda: begin_completing(later, completing, lambda: exports.record_remaining(list(later.request_ids)))
    )
    completing.wait_for_caller()
    other = Elsewhere(remove)
    removing.wait_for_caller()
    completing.open()
    assert one.waits
    removing.open()
    other.end()
    one.end()


def test_a_mark_does_not_wait_for_a_completion_of_the_same_chatter(both_at_work: tuple[HeldClaim, HeldClaim]) -> None:
    earlier, later = both_at_work
    gate = Gate()
    completing = Elsewhere(lambda: begin_completing(later, gate))
    gate.wait_for_caller()
    Elsewhere(lambda: marking.mark(earlier, marking.admit(earlier, {}), erases=True)).end()
    gate.open()
    completing.end()


def test_an_equal_export_is_found_while_a_deletion_of_its_chatter_completes(chatbot, both_at_work) -> None:
    _, later = both_at_work
    gate = Gate()

    def file() -> UUID:
        about = ByUci("member_id", "42")
        origin, kind = ComplianceRequest.Origin.API, ComplianceRequest.Kind.EXPORT
        return submit(chatbot=chatbot, origin=origin, actor="api:x", kind=kind, selector=about, reference="T-9").pk

    first = file()
    completing = Elsewhere(lambda: begin_completing(later, gate))
    gate.wait_for_caller()
    assert file() == first
    gate.open()
    completing.end()


def given_up(company: Company, refusals: Refusals, subject: str, *conversations: int) -> Export:
    """A failed export of these conversations, as if it had been sent."""
    refusals.forbidden.add(EXPORTS)
    request = company.export(subject, include_shared=True)
    worker.drain(seconds=30)
    refusals.end()
    assert company.status(request) == "failed"
    export = Export.objects.get(request_id=UUID(request))
    for conversation in conversations:
        ExportConversation.objects.create(chatbot=company.chatbot, export=export, conversation_id=conversation)
    return export


def lose(export: Export) -> None:
    """Move an export to a bucket that is no longer the chatbot's."""
    Export.objects.filter(pk=export.pk).update(hosting="client", bucket="former", endpoint="http://127.0.0.1:1")


def expiring_meanwhile(monkeypatch: pytest.MonkeyPatch, conversation: int, deletion: str) -> list[Elsewhere]:
    """Let another worker erase the conversation just when one has cleared inaccessible files."""
    others: list[Elsewhere] = []

    def expire() -> None:
        with transaction.atomic():
            exports.expire({conversation: UUID(deletion)})

    def let_another_work(_: Iterable[int]) -> None:
        if not others:
            others.append(Elsewhere(expire))
            assert others[0].waits

    after(monkeypatch, objects, "forget_unreachable", let_another_work)
    return others


@pytest.mark.usefixtures("refused_at_once")
def test_a_deletion_that_gives_one_up_and_removes_another(company, storage, refusals, monkeypatch) -> None:
    both, bobs = company.talk("c-both", "alice", "bob"), company.talk("c-bob", "bob")
    company.exported(["c-both", "c-bob"])
    lose(given_up(company, refusals, "bob", both, bobs))
    deletion = company.delete("alice", erase_exports=True)
    others = expiring_meanwhile(monkeypatch, bobs, deletion)
    worker.drain(seconds=30)
    others[0].end()

    assert (company.status(deletion), attempts(deletion)) == ("completed", [0])


@pytest.mark.usefixtures("refused_at_once")
def test_exports_that_begin_anew_of_which_one_is_given_up(company, storage, refusals, monkeypatch) -> None:
    both = company.talk("c-both", "alice", "bob")
    anew = [given_up(company, refusals, value, both) for value in ("alice", "bob")]
    lose(anew[1])
    requests = [str(export.request_id) for export in anew]
    for each in requests:
        company.retry(each)
    ComplianceRequest.objects.update(lane="normal")
    others = expiring_meanwhile(monkeypatch, both, requests[0])
    worker.drain(seconds=30)
    others[0].end()
    settle()

    assert [company.status(each) for each in requests] == ["completed"] * 2
    assert attempts(*requests) == [0, 0]
