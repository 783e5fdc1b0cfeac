"""A machine of Citus that does not answer: what lives there waits without loss, and nothing else does."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connection
from django.utils import timezone
from django_q.models import OrmQ

from chatbots.models import ChangeLogEntry, Chatbot
from common.db import by_index
from common.storage import ObjectStorage
from compliance import tasks, worker
from compliance.callbacks.queue import Callbacks
from compliance.erasure import late_data
from compliance.models import ComplianceRequest
from compliance.work import claims, dispatcher, health, lookups
from conversations import placement
from conversations.extracts import leases
from conversations.models import Conversation, DailyExtract, IdentityLookup, VariableValue
from conversations.placement import machines
from tests import factories
from tests.clients import use_bucket_at
from tests.compliance.conftest import Drain
from tests.extracting import make_all, planned
from tests.factories import conversation_of, deletion_of, export_of
from tests.looking_up import with_resolver
from tests.patches import failing
from tests.places import Shards, Silence

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

pytestmark = pytest.mark.django_db(transaction=True)

# What Citus says when a machine is lost: the class of the code is that of lost connections.
_LOSE = """
CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'connection to the remote node failed' USING ERRCODE = '08006'; END $$;
CREATE TRIGGER lose BEFORE UPDATE ON conversations_conversation
    FOR EACH ROW WHEN (NEW.chatbot_id = {}) EXECUTE FUNCTION lose()
"""


@pytest.fixture
def two(shards: Shards) -> tuple[Chatbot, Chatbot]:
    """Chatbots on machines of their own, of the numbers 0 and 1."""
    here, there = factories.ready_chatbot(slug="here"), factories.ready_chatbot(slug="there")
    shards([here], [there])
    return here, there


class Lost:
    """Machines that are lost in the middle of the work."""

    def lose_that_of(self, chatbot: Chatbot) -> None:
        """Have each change of the chatbot's conversations fail as it does when its machine is lost meanwhile."""
        with connection.cursor() as cursor:
            cursor.execute(_LOSE.format(chatbot.pk))

    def bring_back(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION IF EXISTS lose CASCADE")


@pytest.fixture
def lost() -> Iterator[Lost]:
    machines_lost = Lost()
    yield machines_lost
    machines_lost.bring_back()


def look_up_of(chatbot: Chatbot) -> None:
    now = timezone.now()
    IdentityLookup.objects.create(
        chatbot=chatbot, conversation=conversation_of(chatbot), state="pending", queued_at=now, next_attempt_at=now,
        give_up_at=now + timedelta(days=1), expires_at=now + timedelta(days=2),
    )  # fmt: skip


def states() -> list[tuple[str, int, str]]:
    return list(ComplianceRequest.objects.order_by("seq").values_list("status", "attempts", "error_code"))


def extract_states() -> list[tuple[str, int, str]]:
    return list(DailyExtract.objects.order_by("pk").values_list("state", "attempts", "error_code"))


def waiting_tasks() -> list[str]:
    """The names of the tasks that wait, in order."""
    return list(OrmQ.objects.order_by("pk").values_list("payload", flat=True))


def drain_late_data(drain: Drain, deletions: list[ComplianceRequest]) -> None:
    """Complete these deletions, and mark a conversation for each afterwards."""
    drain()
    for deletion in deletions:
        conversation_of(deletion.chatbot, "42", deletion_request_id=deletion.pk)


def late_chatbots() -> list[int]:
    """The chatbot of each conversation that is marked and not erased."""
    late = Conversation.objects.filter(deletion_request_id__isnull=False, deleted_at=None)
    return list(late.values_list("chatbot", flat=True))


def no_more_waits() -> None:
    ComplianceRequest.objects.update(not_before=None)


@pytest.mark.one_postgresql(reason="there machines are asked")
def test_on_one_postgresql_nothing_is_asked(django_assert_num_queries: Callable[[int], Any]) -> None:
    assert not placement.is_distributed()  # asked once in a process
    with django_assert_num_queries(0):
        machines.ask()
        assert machines.reachable([3, 1, 2]) == [3, 1, 2]
        rows = Conversation.objects.all()
        assert machines.answering(rows) is rows
        assert "citus" not in by_index()


def test_settings_of_a_transaction_reach_the_machines(two: tuple[Chatbot, Chatbot]) -> None:
    assert by_index().endswith("SET LOCAL citus.propagate_set_commands TO 'local'; SET LOCAL jit TO 'off'")


def test_chatbots_of_a_silent_machine_are_left_out_until_it_answers(two, silence) -> None:
    here, there = two
    silence(1)
    machines.ask_if_due()
    assert machines.reachable([there.pk, here.pk]) == [here.pk]
    assert machines.on_answering() == f"chatbot_id = ANY('{{{here.pk}}}'::bigint[])"

    silence()
    machines.ask_if_due()
    assert machines.reachable([there.pk, here.pk]) == [there.pk, here.pk]


def test_machines_are_not_asked_again_at_once(two: tuple[Chatbot, Chatbot], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Counter[str]()
    monkeypatch.setattr("conversations.placement.machines.silent_nodes", lambda: asked.update(["all"]) or [])
    for _ in range(3):
        machines.ask_if_due()
    assert asked.total() == 1


def test_requests_of_a_silent_machine_wait_and_others_do_not(two, silence, drain) -> None:
    for chatbot in two:
        conversation_of(chatbot, "42")
        deletion_of(chatbot, "42")
        conversation_of(chatbot, "43")
        export_of(chatbot, "43")
    silence(1)
    drain()

    waiting = (Status.ACCEPTED, 0, "")
    done = (Status.COMPLETED, 0, "")
    assert states() == [done, done, waiting, waiting]
    assert ChangeLogEntry.objects.filter(event="request.requeued").count() == 0

    silence()
    drain()
    assert states() == [done] * 4


@pytest.mark.parametrize(
    ("code", "text", "is_machine"),
    [
        ("08006", "connection to the remote node failed", True),
        ("XX000", "failure on connection marked as essential: machine:1", True),
        ("XX000", "could not commit transaction for shard 102008 on at least one active node", True),
        ("XX000", "cache lookup failed for relation 1", False),
        ("57014", "canceling statement due to statement timeout", False),
    ],
)
def test_a_lost_machine_is_known_by_its_error(two, code, text, is_machine) -> None:
    with pytest.raises(DatabaseError) as caught, connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION '{text}' USING ERRCODE = '{code}'; END $$")
    assert machines.has_failed(caught.value) is is_machine


def test_the_first_loss_of_its_machine_costs_no_attempt_and_each_further_one(two, lost, drain) -> None:
    """Its own statement may be what ends the machine."""
    _, there = two
    conversation_of(there, "42")
    deletion_of(there, "42")
    lost.lose_that_of(there)
    for attempts in range(claims.MAX_ATTEMPTS):
        drain()
        assert states() == [(Status.ACCEPTED, attempts, "machine_silent")]
        entry = ChangeLogEntry.objects.filter(event="request.requeued").latest("pk")
        assert entry.data == {"code": "machine_silent", "attempts": attempts}
        no_more_waits()
    drain()
    assert states() == [(Status.FAILED, claims.MAX_ATTEMPTS, "machine_silent")]


def test_requests_that_were_at_work_together_stay_together_the_first_time(two, lost, drain) -> None:
    _, there = two
    for value in ("42", "43"):
        conversation_of(there, value)
        deletion_of(there, value)
    lost.lose_that_of(there)
    lanes = ComplianceRequest.objects.values_list("lane", flat=True)
    drain()
    assert states() == [(Status.ACCEPTED, 0, "machine_silent")] * 2
    assert set(lanes.all()) == {"normal"}

    no_more_waits()
    claims_of_both = claims.take(Kind.DELETION)
    assert claims_of_both
    worker.work(claims_of_both, time.monotonic() + 5)
    assert states() == [(Status.ACCEPTED, 0, "machine_silent")] * 2
    assert set(lanes.all()) == {"isolated"}

    lost.bring_back()
    drain()
    assert states() == [(Status.COMPLETED, 0, "")] * 2


@pytest.mark.parametrize(("place", "left"), [(1, (0, "machine_silent")), (0, (1, "internal_error"))])
def test_an_error_of_another_kind_is_taken_for_that_of_the_machine_only_where_it_is_silent(
    two: tuple[Chatbot, Chatbot], silence: Silence, storage: ObjectStorage, place: int, left: tuple[int, str]
) -> None:
    """A commit that a machine did not take part in has no code of its own."""
    deletion_of(two[place], "42")
    held = claims.take(Kind.DELETION)
    assert held
    silence(1)

    worker._isolate(held, ValueError("made up"))

    assert states() == [(Status.ACCEPTED, *left)]


def test_days_of_a_silent_machine_wait(two, silence, storage) -> None:
    for chatbot in two:
        planned(chatbot)
    silence(1)
    machines.ask()
    assert make_all() == 1
    assert extract_states() == [("done", 0, ""), ("pending", 0, "")]

    silence()
    assert make_all() == 1
    assert extract_states() == [("done", 0, "")] * 2

    # Of clients only the taking: the bucket does not exist.
    DailyExtract.objects.all().delete()
    for chatbot in two:
        planned(chatbot)
        use_bucket_at(chatbot, "")
    silence(1)
    machines.ask()
    held = leases.take_for_bucket()
    assert held
    assert held.chatbot_id == two[0].pk
    assert leases.take_for_bucket() is None


def test_a_turn_looks_for_silent_machines_before_it_counts_who_calls(two, silence) -> None:
    """Look-ups that are leased lie on the machines, also where callbacks alone are due."""
    silence(1)
    dispatcher.run([Callbacks()], seconds=1)
    assert machines.reachable([chatbot.pk for chatbot in two]) == [two[0].pk]


def test_a_day_loses_no_attempt_with_the_first_machine_and_one_with_each_further(two, storage, monkeypatch) -> None:
    """Its own statement may be what ends the machine."""

    planned(two[1])
    with monkeypatch.context() as lost:
        lost.setattr(ObjectStorage, "open_upload", failing(psycopg.errors.ConnectionFailure))
        for attempts in (0, 1, 2):
            assert make_all() == 1
            assert extract_states() == [("pending", attempts, "machine_silent")]
            DailyExtract.objects.update(next_attempt_at=timezone.now())
    assert make_all() == 1
    assert extract_states() == [("done", 0, "")]


def test_a_cluster_asks_for_no_look_ups_of_a_silent_machine(two: tuple[Chatbot, Chatbot], silence: Silence) -> None:
    """It would fail, and with it all that the cluster does after it, such as asking for the sweep."""
    with_resolver(two[1], "http://127.0.0.1:9/")
    look_up_of(two[1])
    silence(1)
    tasks.enqueue_due_work()
    assert waiting_tasks() == ["sweep"]

    silence()
    tasks.enqueue_due_work()
    assert waiting_tasks() == ["sweep", "deliver_callbacks"]


def test_the_sweep_is_asked_for_before_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "is_any_due", failing(OperationalError))
    with pytest.raises(OperationalError):
        tasks.enqueue_due_work()
    assert waiting_tasks() == ["sweep"]


def test_health_tells_of_the_look_ups_of_all_machines_that_answer_now(two, silence, monkeypatch) -> None:
    for chatbot in two:
        with_resolver(chatbot, "http://127.0.0.1:9/")
        look_up_of(chatbot)
    IdentityLookup.objects.update(queued_at=timezone.now() - timedelta(hours=2))
    silence(1)
    assert [one.slug for one in health.check().resolvers] == ["here"]

    monkeypatch.setattr(machines, "silent_nodes", list)
    assert [one.slug for one in health.check().resolvers] == ["here", "there"]


def test_the_sweep_goes_on_without_a_silent_machine(two, silence, drain) -> None:
    drain_late_data(drain, [deletion_of(chatbot, "42") for chatbot in two])
    for chatbot in two:
        factories.VariableValueFactory.create(
            conversation=conversation_of(chatbot, "43"), expires_at=timezone.now() - timedelta(days=1)
        )
    silence(1)
    worker.sweep()

    values = VariableValue.objects.values_list("chatbot", flat=True)
    assert list(values) == late_chatbots() == [two[1].pk]

    silence()
    worker.sweep()
    assert not values.all().exists()
    assert not late_chatbots()


@pytest.mark.parametrize("limits", [(60, 1), (0, 200)], ids=["at once", "in turn"])
def test_late_data_that_cannot_be_erased_now_keeps_nothing_waiting(two, lost, drain, monkeypatch, limits) -> None:
    seconds, most_calls = limits
    drain_late_data(drain, [*(deletion_of(two[0], str(number)) for number in range(3)), deletion_of(two[1], "42")])
    lost.lose_that_of(two[0])
    monkeypatch.setattr(late_data, "_REQUESTS_AT_ONCE", 1)
    monkeypatch.setattr(late_data, "_SECONDS", seconds)
    calls = 0
    while late_chatbots() != [two[0].pk] * 3:
        late_data.erase()
        calls += 1
        assert calls <= most_calls
