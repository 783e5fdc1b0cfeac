"""The sweep: an error of one chatbot stops neither the other chatbots nor the other steps."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from itertools import count, product

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from chatbots.models import Chatbot, Variable
from chatbots.operations.chatbots import designate_uci
from common.db import execute
from common.isolation import Isolation, PartsFailed
from common.storage import ObjectStorage
from compliance import tasks, worker
from compliance.cluster.broker import TaskFailed
from compliance.models import ComplianceRequest, Export, Occurrence, RetentionRun
from conversations.intake import store
from conversations.models import Conversation, DailyExtract, UploadedFile, VariableValue
from tests import factories
from tests.commands import run
from tests.compliance.reconciling import export_with
from tests.compliance.retention.runs import zone_where_it_is
from tests.conversations.documents import parsed
from tests.factories import NOON, conversation_of, deletion_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.one_postgresql(reason="triggers of the test on tables of conversations"),
]

AGO = timezone.now() - timedelta(days=400)


_REFUSING = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep({seconds}); RAISE EXCEPTION 'no: Ada Lovelace'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW WHEN (OLD.chatbot_id = {chatbot}) EXECUTE FUNCTION refuse();
"""


@contextmanager
def refusing(chatbot: Chatbot, table: str, *, seconds: float = 0) -> Iterator[None]:
    """The database refuses to change or delete the chatbot's rows of a table, each after so many seconds."""
    execute(_REFUSING.format(seconds=seconds, table=table, chatbot=chatbot.pk))
    try:
        yield
    finally:
        execute("DROP FUNCTION IF EXISTS refuse() CASCADE")


class Step(ABC):
    """Something that is due in a chatbot, and what breaks it there."""

    table = ""

    @abstractmethod
    def make_due(self, chatbot: Chatbot) -> None: ...

    @abstractmethod
    def is_done(self, chatbot: Chatbot) -> bool: ...

    def broken(self, chatbot: Chatbot) -> AbstractContextManager[None]:
        return refusing(chatbot, self.table)


class _ByZone(Step):
    @contextmanager
    def broken(self, chatbot: Chatbot) -> Iterator[None]:
        Chatbot.objects.filter(pk=chatbot.pk).update(timezone="Ada/Lovelace")
        yield


class Extracts(_ByZone):
    def make_due(self, chatbot: Chatbot) -> None:
        Chatbot.objects.filter(pk=chatbot.pk).update(extracts_enabled=True)

    def is_done(self, chatbot: Chatbot) -> bool:
        return DailyExtract.objects.filter(chatbot=chatbot).exists()


class Retention(_ByZone):
    def make_due(self, chatbot: Chatbot) -> None:
        Chatbot.objects.filter(pk=chatbot.pk).update(
            retention_days=90, retention_set_at=AGO, timezone=zone_where_it_is(hour=12)
        )

    def is_done(self, chatbot: Chatbot) -> bool:
        return RetentionRun.objects.filter(chatbot=chatbot).exists()


class FailedRun(_ByZone):
    def make_due(self, chatbot: Chatbot) -> None:
        no_chatter = dict.fromkeys(("uci_value", "uci_digest", "variable"))
        failed = {"status": "failed", "failed_at": AGO, "error_code": "internal_error"}
        begun = {"cutoff_at": AGO, "cutoff_number": 1}
        factories.RequestFactory.create(chatbot=chatbot, kind="retention", **no_chatter, **failed, **begun)
        Chatbot.objects.filter(pk=chatbot.pk).update(timezone=zone_where_it_is(hour=12))

    def is_done(self, chatbot: Chatbot) -> bool:
        return ComplianceRequest.objects.get(chatbot=chatbot, kind="retention").status == "accepted"


class LateData(Step):
    table = "conversations_message"

    def make_due(self, chatbot: Chatbot) -> None:
        request = deletion_of(chatbot, "42")
        worker.drain(seconds=60)
        conversation_of(chatbot, "42", deletion_request_id=request.pk)

    def is_done(self, chatbot: Chatbot) -> bool:
        return not Conversation.objects.filter(chatbot=chatbot, deleted_at=None).exists()


class UciValues(Step):
    table = "conversations_variablevalue"

    def make_due(self, chatbot: Chatbot) -> None:
        factories.VariableFactory.create(chatbot=chatbot, name="email", is_uci=False)
        store(chatbot=chatbot, documents=[parsed("c-1", custom_variables={"email": "ada@example.org"})])
        designate_uci(chatbot=chatbot, name="email", actor="command")

    def is_done(self, chatbot: Chatbot) -> bool:
        is_known = Variable.objects.filter(chatbot=chatbot, name="email", values_gone_at=None).exists()
        is_left = VariableValue.objects.filter(chatbot=chatbot).exists()
        assert is_left == is_known
        return not is_left


class Exports(Step):
    table = "compliance_export"

    def make_due(self, chatbot: Chatbot) -> None:
        export_with(chatbot, f"{chatbot.slug}/chatter_data_exports/1/a.csv", expires_at=NOON - timedelta(days=400))

    def is_done(self, chatbot: Chatbot) -> bool:
        return not Export.objects.filter(chatbot=chatbot, key__isnull=False).exists()


class Uploads(Step):
    table = "conversations_uploadedfile"

    def make_due(self, chatbot: Chatbot) -> None:
        key = f"uploads/{chatbot.pk}/old"
        conversation = conversation_of(chatbot, "42")
        factories.UploadedFileFactory.create(conversation=conversation, object_key=key, created_at=AGO)

    def is_done(self, chatbot: Chatbot) -> bool:
        return not UploadedFile.objects.filter(chatbot=chatbot).exists()


class Values(Step):
    table = "conversations_variablevalue"

    def make_due(self, chatbot: Chatbot) -> None:
        store(chatbot=chatbot, documents=[parsed("c-1", user_channel_variables={"plan": "gold"})])
        VariableValue.objects.update(expires_at=AGO)

    def is_done(self, chatbot: Chatbot) -> bool:
        return not VariableValue.objects.filter(chatbot=chatbot).exists()


# In one sweep what does not meet in the same rows.
STEPS = [(Extracts, Retention, FailedRun, Exports, Uploads), (LateData,), (UciValues,), (Values,)]


@pytest.mark.parametrize("kinds", STEPS)
def test_one_chatbots_error_stops_no_other_chatbot(chatbot, neighbour, storage, caplog, kinds) -> None:
    steps = [kind() for kind in kinds]
    # In the order in which it looks at them, and in the other.
    first, last = chatbot, factories.ready_chatbot(slug="last")
    for step, one in product(steps, (first, neighbour, last)):
        step.make_due(one)
    with ExitStack() as broken:
        for step in steps:
            broken.enter_context(step.broken(neighbour))
        with pytest.raises(Exception) as caught:
            worker.sweep()
    for step in steps:
        assert [step.is_done(one) for one in (first, neighbour, last)] == [True, False, True], step
    assert isinstance(caught.value, PartsFailed)
    assert caplog.text.count(f"chatbot:{neighbour.pk}") >= len(steps)
    assert "Lovelace" not in f"{caught.value}{caplog.text}"


def test_an_error_of_one_step_skips_no_other_step(chatbot, neighbour, storage) -> None:
    steps = [kind() for kind in (Extracts, UciValues, Exports, Uploads)]
    for step in steps:
        step.make_due(chatbot)
    broken = ("compliance_claim", "compliance_retentionrun")  # of the first step, and of one between these
    Chatbot.objects.filter(pk=neighbour.pk).update(retention_days=90)
    for table in broken:
        execute(f"ALTER TABLE {table} RENAME TO {table}_gone")
    try:
        with pytest.raises(PartsFailed):
            worker.sweep()
    finally:
        for table in broken:
            execute(f"ALTER TABLE {table}_gone RENAME TO {table}")
    assert [step.is_done(chatbot) for step in steps] == [True] * len(steps)


def test_the_task_and_the_command_fail_after_all_else(chatbot, neighbour, storage) -> None:
    step = Extracts()
    step.make_due(neighbour)
    for act in (tasks.sweep, lambda: run("process_requests")):
        request = deletion_of(chatbot, "42")
        with step.broken(neighbour), pytest.raises((TaskFailed, PartsFailed), match=r"ZoneInfoNotFoundError$"):
            act()
        request.refresh_from_db()
        assert request.status == "completed"
    assert not Occurrence.objects.filter(name=Occurrence.Name.SWEEP, last_at__isnull=False).exists()


@pytest.mark.parametrize(("seconds", "begun"), [(0, 3), (60, 1)])
def test_chatbots_that_fail_for_long_end_a_step(monkeypatch: pytest.MonkeyPatch, seconds: int, begun: int) -> None:
    clock = count(step=seconds)
    monkeypatch.setattr("common.isolation.time.monotonic", lambda: next(clock))
    done = list[int]()

    def work() -> None:
        with Isolation() as isolated:
            for number in range(3):
                with isolated.chatbot(number):
                    done.append(number)
                    raise ValueError

    with pytest.raises(PartsFailed, match=r"^builtins\.ValueError$"):
        work()
    assert len(done) == begun


def test_a_slow_error_of_one_chatbots_late_rows_does_not_keep_anothers_late_file(
    chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.isolation._PATIENCE_SECONDS", 0.05)
    ours, theirs = deletion_of(chatbot, "42"), deletion_of(neighbour, "42")
    worker.drain(seconds=60)
    # The neighbour's late words are erased; its file's object is still there.
    late = conversation_of(neighbour, "43", deletion_request_id=theirs.pk)
    storage.put("uploads/1/late", b"picture", "image/jpeg")
    factories.UploadedFileFactory.create(conversation=late, object_key="uploads/1/late", stored=True)
    with monkeypatch.context() as patch:
        patch.setattr("compliance.erasure.late_data._erase_files", set)
        worker.sweep()
    assert Conversation.objects.get(pk=late.pk).deleted_at
    assert UploadedFile.objects.get().state == "removing"
    conversation_of(chatbot, "43", deletion_request_id=ours.pk)
    with refusing(chatbot, "conversations_message", seconds=0.1):
        sweeps = 0
        while UploadedFile.objects.exists():
            with pytest.raises(PartsFailed):
                worker.sweep()
            sweeps += 1
            assert sweeps <= 5


def test_a_slow_error_at_a_client_does_not_keep_rows_from_being_forgotten(
    chatbot, neighbour, storage, clients, monkeypatch
):
    monkeypatch.setattr("common.isolation._PATIENCE_SECONDS", 0.05)
    store(chatbot=neighbour, documents=[parsed("c-1", user_channel_variables={"plan": "gold"})])
    VariableValue.objects.update(expires_at=timezone.now() - timedelta(days=400))
    factories.ExportFactory.create(
        request=factories.RequestFactory.create(
            chatbot=chatbot, kind="export", status="failed", failed_at=timezone.now(), error_code="x"
        ),
        key="x/y.csv",
        hosting="client",
        bucket=clients.bucket_name,
        endpoint=clients.endpoint_url,
    )
    with refusing(chatbot, "compliance_export", seconds=0.1):
        with pytest.raises(PartsFailed):
            worker.sweep()
        if VariableValue.objects.exists():
            with pytest.raises(PartsFailed):
                worker.sweep()
    assert not VariableValue.objects.exists()


_ENDING = """
CREATE FUNCTION end_me() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); RETURN NEW; END $$;
CREATE TRIGGER end_me BEFORE INSERT ON conversations_dailyextract FOR EACH ROW EXECUTE FUNCTION end_me();
"""


def test_a_lost_database_ends_the_sweep_at_once(chatbot: Chatbot, storage: ObjectStorage) -> None:
    Extracts().make_due(chatbot)
    execute(_ENDING)
    try:
        with pytest.raises(OperationalError):
            worker.sweep()
    finally:
        connection.close()
        execute("DROP FUNCTION end_me() CASCADE")
