"""Lines of the ledger, merged by request, and how long they are kept."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatbots.models import Chatbot, Variable
from common.storage import ObjectStorage
from compliance.ledger import service
from compliance.models import LedgerLine, LedgerObject
from compliance.replay import loading
from compliance.replay.loading import LoadedObject
from tests import databases
from tests.compliance.replay.conftest import became_of, gone, replay, work
from tests.functional.company import Company
from tests.restoring import restored

NOW = timezone.now()
REQUESTS = [str(UUID(int=number)) for number in (1, 2)]
CHATBOT = str(UUID(int=9))
DIGESTS = [f"{number:064x}" for number in range(4)]
RANKS = {"accepted": 0, "intended": 1, "withdrawn": 2, "exact": 3}

lines = st.builds(
    lambda request, kind, conversations: {
        "request": request,
        "kind": kind,
        "chatbot": CHATBOT,
        "conversations": conversations if kind != "withdrawn" else [],
    },
    st.sampled_from(REQUESTS),
    st.sampled_from(list(RANKS)),
    st.lists(st.sampled_from(DIGESTS), unique=True, max_size=3),
)
ledgers = st.lists(st.lists(lines, min_size=1, max_size=4), min_size=1, max_size=4)


def loaded(place: int, of_object: Sequence[dict[str, Any]]) -> LoadedObject:
    """The object of a place in the order of writing."""
    lines = [line | {"n": place} for line in of_object]
    return LoadedObject(f"key-{place}", NOW + timedelta(seconds=place), UUID(int=place), lines)


def merged() -> dict[str, tuple[Any, ...]]:
    return {
        str(one.request_id): (one.kind, one.key, one.line, {bytes(each).hex() for each in one.conversation_digests})
        for one in LedgerLine.objects.all()
    }


@pytest.mark.parametrize(
    ("kind", "digests", "lasts"),
    [
        ("exact", DIGESTS[:1], True),
        ("exact", DIGESTS[:2], False),
        ("withdrawn", [], True),
        ("accepted", DIGESTS[:2], True),
    ],
)
def test_a_decision_lasts_unless_a_later_line_says_more(chatbot, kind, digests, *, lasts) -> None:
    line = {"request": REQUESTS[0], "kind": "exact", "chatbot": CHATBOT, "conversations": DIGESTS[:1]}
    loading.merge(loaded(1, [line]), service.current())
    LedgerLine.objects.update(outcome="decided")

    loading.merge(loaded(2, [line | {"kind": kind, "conversations": digests}]), service.current())

    assert LedgerLine.objects.get().outcome == ("decided" if lasts else "")


@pytest.mark.long(reason="many orders are tried")
@given(ledgers, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_order_the_same_is_left(chatbot, ledger, random) -> None:
    ours = service.current()
    objects = [loaded(place, one) for place, one in enumerate(ledger)]
    LedgerLine.objects.all().delete()
    for one in objects:
        loading.merge(one, ours)
    in_order = merged()

    LedgerLine.objects.all().delete()
    for one in random.sample(objects, len(objects)):
        loading.merge(one, ours)

    assert merged() == in_order
    every = [(place, line) for place, one in enumerate(ledger) for line in one]
    for request_id, (kind, key, _, digests) in in_order.items():
        about = [(place, line) for place, line in every if line["request"] == request_id]
        best = max(RANKS[line["kind"]] for _, line in about)
        of_best = [(place, line) for place, line in about if RANKS[line["kind"]] == best]
        assert (RANKS[kind], key) == (best, f"key-{of_best[-1][0]}")
        alike = {"accepted", "intended"} if best <= RANKS["intended"] else {kind}
        assert digests == {digest for _, line in about if line["kind"] in alike for digest in line["conversations"]}


def test_a_line_that_is_loaded_again_is_planned_again(chatbot: Chatbot) -> None:
    line = {"request": REQUESTS[0], "kind": "accepted", "chatbot": str(chatbot.public_id), "conversations": None}
    loading.merge(loaded(1, [line]), service.current())
    LedgerLine.objects.update(plan="leave", outcome="unchanged", incarnation=uuid4())

    loading.merge(loaded(2, [line]), service.current())

    one = LedgerLine.objects.get()
    assert (one.plan, one.outcome, one.chatbot, one.incarnation) == ("", "", chatbot, service.current().incarnation)


def test_lines_are_kept_as_long_as_the_ledger_and_rows_longer(chatbot, storage, settings) -> None:
    kept, late = settings.ERASURE_LEDGER_DAYS, timedelta(minutes=1)
    ages = {"new": timedelta(), "old": kept + late, "oldest": kept + timedelta(days=31)}
    for number, (name, age) in enumerate(ages.items()):
        LedgerObject.objects.create(key=name, at=timezone.now() - age)
        LedgerLine.objects.create(
            request_id=UUID(int=number),
            kind="accepted",
            line={},
            key=name,
            at=timezone.now() - age,
            incarnation=uuid4(),
        )

    call_command("purge_expired")

    assert list(LedgerLine.objects.values_list("key", flat=True)) == ["new"]
    assert set(LedgerObject.objects.values_list("key", flat=True)) == {"new", "old"}
    # Whatever its age, the newest one says what the next key must not be before.
    LedgerObject.objects.exclude(key="old").delete()
    LedgerObject.objects.update(at=timezone.now() - ages["oldest"])
    call_command("purge_expired")
    assert LedgerObject.objects.count() == 1


def test_a_variable_that_is_not_here_keeps_its_chatbot_closed(company: Company, storage: ObjectStorage) -> None:
    with restored():
        Variable.objects.filter(chatbot=company.chatbot, is_uci=True).update(
            name="former", is_uci=False, was_uci=True
        )
        Variable.objects.create(chatbot=company.chatbot, name="member_id", category="custom", is_uci=True)
        company.talk("c-1", "alice")
        deletion = company.delete("alice")
        work()

    assert became_of(replay(code=3)) == {deletion: "undecided"}
    assert company.caller.get("requests").status_code == 503


def test_a_chatbot_whose_conversations_are_here_is_not_opened_either(company, storage) -> None:
    """They are erased, but their chatter cannot be remembered."""
    number = company.talk("c-1", "alice")
    with restored():
        deletion = company.delete("alice")
        work()
    with databases.triggers_off():  # as if this were another variable
        Variable.objects.filter(chatbot=company.chatbot, is_uci=True).update(public_id=uuid4())

    for _ in range(2):
        assert became_of(replay(code=3)) == {deletion: "undecided"}
        assert gone(number) == [True]
        assert company.caller.get("requests").status_code == 503
