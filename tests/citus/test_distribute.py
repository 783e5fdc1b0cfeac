"""`manage.py distribute` on a coordinator of Citus: what it makes of a database with data, whatever stops it."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction

from chatbots.models import Chatbot, Variable
from common.db import execute, fetch
from compliance import checks
from compliance.ledger import service
from compliance.work import health
from conversations.models import Conversation, Identity, Message
from conversations.placement import distribution, is_distributed, machines
from conversations.placement.coordinator import SESSION, NotDistributable
from conversations.placement.distribution import Step
from scripts import citus_nodes
from scripts.processes import web_command
from tests import factories
from tests.citus.conftest import Distribute
from tests.closed import Reason, State, close
from tests.commands import run
from tests.functional.support import ROOT, manage, wait_until, worker_environment
from tests.patches import Killed
from tests.statements import REFERENCE_TABLES, TABLES

pytestmark = pytest.mark.citus

PLANTED = "planted-in-the-text"
_KINDS = """
SELECT logicalrelid::text, partmethod::text, repmodel::text, colocationid FROM pg_dist_partition ORDER BY 1
"""
_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE contype = 'f' AND conrelid = ANY(%s::regclass[]) ORDER BY 1, 2
"""


@pytest.fixture
def people(coordinator: str) -> list[Chatbot]:
    """Conversations of chatbots that will live on different machines."""
    chatbots = [factories.ready_chatbot(slug=f"bot-{number}") for number in range(4)]
    for chatbot in chatbots:
        for value in ("41", "42"):
            factories.conversation_of(chatbot, value, text=f"{PLANTED} {chatbot.slug} {value}")
    return chatbots


_FROM_LOCAL_TABLES = """
SELECT conrelid::regclass FROM pg_constraint
 WHERE contype = 'f' AND confrelid = ANY(%s::regclass[]) AND conrelid <> ALL(%s::regclass[])
"""


def keys() -> list[tuple[Any, ...]]:
    return fetch(_KEYS, [sorted(TABLES)])


def contents() -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(fetch(f"SELECT * FROM {table}"), key=repr) for table in sorted(TABLES | REFERENCE_TABLES)}


@contextmanager
def no_progress(_: Step) -> Iterator[None]:
    yield


def take_one_step() -> None:
    @contextmanager
    def kill(_: Step) -> Iterator[None]:
        yield
        raise Killed

    with pytest.raises(Killed):
        distribution.distribute(shards=8, progress=kill)
    connection.close()


def is_whole() -> bool:
    kinds = {table: (method, model) for table, method, model, _ in fetch(_KINDS)}
    colocated = {place for table, _, _, place in fetch(_KINDS) if table in TABLES}
    return kinds == dict.fromkeys(TABLES, ("h", "s")) | dict.fromkeys(REFERENCE_TABLES, ("n", "t")) and (
        len(colocated) == 1
    )


def test_it_moves_all_rows_to_the_machines_and_keeps_all_rules(people: Any, distribute: Distribute) -> None:
    before, keys_before = contents(), keys()

    said = distribute("--yes", "--shards", "8")

    assert said.endswith("All is distributed. Run ANALYZE, then start web servers and workers.\n")
    assert is_whole()
    assert is_distributed()
    assert (contents(), keys()) == (before, keys_before)
    assert fetch("SELECT DISTINCT shard_count FROM citus_tables WHERE citus_table_type = 'distributed'") == [(8,)]
    assert checks.conversations_are_distributed() == []
    distribution.check()


def test_no_row_is_left_on_the_disk_of_the_coordinator(people: Any, distribute: Distribute) -> None:
    distribute("--yes")

    # What Citus hides, but does not remove.
    left = "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND pg_relation_size(oid) > 0"
    assert fetch(left, [sorted(TABLES | REFERENCE_TABLES)]) == []


def test_who_adds_local_rows_of_one_chatbot_does_not_wait_for_others(people: Any, distribute: Distribute) -> None:
    distribute("--yes")
    assert not fetch(_FROM_LOCAL_TABLES, [sorted(REFERENCE_TABLES), sorted(TABLES | REFERENCE_TABLES)])
    entry = """
        INSERT INTO chatbots_changelogentry (chatbot_id, event, actor, data)
        VALUES (%s, 'request.filed', 'command', '{}');
        SET CONSTRAINTS ALL IMMEDIATE"""
    with citus_nodes.connect(connection.settings_dict["NAME"]) as other, other.transaction(), transaction.atomic():
        for execute_one in (execute, other.execute):
            execute_one("SET LOCAL statement_timeout = '10s'")
            execute_one(entry.replace("%s", str(people[0].pk)))


def test_after_a_kill_at_any_step_it_goes_on(people: Any, coordinator: str) -> None:
    before, keys_before = contents(), keys()
    steps = distribution.plan(shards=8)

    for place, _ in enumerate(steps, start=1):
        take_one_step()
        assert distribution.plan(shards=8) == steps[place:]
        errors = [error.id for error in checks.conversations_are_distributed()]
        assert errors == (["compliance.E010"] if steps[place:] else [])

    assert is_whole()
    assert (contents(), keys()) == (before, keys_before)


def test_a_killed_process_ends_with_its_statement_and_the_next_run_goes_on(coordinator: str) -> None:
    command = manage("distribute", "--yes", "--shards", "8")
    environment = worker_environment(role=connection.settings_dict["USER"])
    with citus_nodes.connect(coordinator) as watcher:
        with citus_nodes.connect(coordinator) as other, other.transaction():
            other.execute("SELECT FROM conversations_message")
            with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
                wait_until(lambda: bool(watcher.execute(_WAITS).fetchall()))
                process.kill()
            # PostgreSQL notices that its client is gone when the statement is over.
            with pytest.raises(NotDistributable, match="is under way"):
                distribution.distribute(shards=8, progress=no_progress)
        connection.close()
        wait_until(lambda: not watcher.execute(_RUNS).fetchall())

    distribution.distribute(shards=8, progress=no_progress)

    assert is_whole()


_RUNS = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'data-compliance-api'
"""
_WAITS = f"{_RUNS} AND wait_event_type = 'Lock'"


def test_a_table_that_a_later_version_brings_is_distributed_by_the_next_run(coordinator: str) -> None:
    steps = distribution.plan(shards=8)
    later = "conversations_refusedidentity"
    with citus_nodes.connect(coordinator) as other:
        for statement in (*SESSION, *(step.statement for step in steps if later not in step.statement)):
            other.execute(statement)

    left = distribution.plan(shards=8)
    assert left == [step for step in steps if later in step.statement]
    distribution.distribute(shards=8, progress=no_progress)

    assert is_whole()
    assert distribution.plan() == []


def test_a_restored_database_is_distributed_and_then_opened(people, distribute, storage) -> None:
    close(State.RESTORED, Reason.OTHER_SERVER)

    distribute("--yes", "--shards", "8")
    assert not service.is_open()
    run("replay_erasures")

    assert service.is_open()
    assert is_whole()


def test_after_migrate_a_new_key_to_a_reference_table_leaves_its_table_local(distribute: Distribute) -> None:
    distribute("--yes")
    connection.close()

    call_command("migrate", verbosity=0)
    execute("CREATE TABLE added (id bigint PRIMARY KEY, chatbot_id bigint REFERENCES chatbots_chatbot (id))")

    assert is_whole()
    # The next run drops its key.
    assert [step.statement for step in distribution.plan()] == [
        "ALTER TABLE added DROP CONSTRAINT added_chatbot_id_fkey"
    ]


@pytest.mark.long(reason="starts five programs")
def test_nothing_starts_on_tables_that_are_distributed_in_part(people: Any) -> None:
    take_one_step()
    environment = worker_environment(role=connection.settings_dict["USER"])
    for command in (
        manage("qcluster"),
        web_command("--bind", "127.0.0.1:0"),
        manage("verify_erasure", "--all"),
        manage("check", "--database", "default"),
        manage("migrate"),
    ):
        ended = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode != 0, command
        assert "Run manage.py distribute" in ended.stderr, command


def test_once_more_there_is_nothing_left(people: Any, distribute: Distribute) -> None:
    distribute("--yes")
    assert distribute() == "Nothing is left: all is distributed.\n"
    assert distribute("--dry-run") == "Nothing is left: all is distributed.\n"


def test_a_dry_run_changes_nothing(people: Any, distribute: Distribute) -> None:
    before = (contents(), keys(), fetch(_KINDS))

    assert "Nothing was changed" in distribute("--dry-run")

    assert (contents(), keys(), fetch(_KINDS)) == before


def test_two_do_not_run_at_once(coordinator: str) -> None:
    @contextmanager
    def meanwhile(_: Step) -> Iterator[None]:
        with citus_nodes.connect(coordinator) as other:
            [(is_free,)] = other.execute("SELECT pg_try_advisory_lock(%s)", [distribution.LOCK]).fetchall()
        assert not is_free
        yield

    distribution.distribute(shards=8, progress=meanwhile)

    with citus_nodes.connect(coordinator) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [distribution.LOCK])
        with pytest.raises(NotDistributable, match="Another distribute is under way"):
            distribution.distribute(shards=8, progress=no_progress)


def test_it_refuses_while_the_service_is_connected(coordinator: str) -> None:
    where = citus_nodes.connect(coordinator)
    with where as other:
        other.execute("SET application_name = 'data-compliance-api'")
        with pytest.raises(NotDistributable, match="are connected to the database \\(1\\)"):
            distribution.distribute(shards=8, progress=no_progress)
    assert fetch(_KINDS) == []


def test_what_keeps_a_step_waiting_is_said_and_the_next_run_goes_on(coordinator, distribute, monkeypatch) -> None:
    monkeypatch.setattr(distribution, "_PATIENCE", ("SET lock_timeout = '100ms'",))
    with citus_nodes.connect(coordinator) as other, other.transaction():
        other.execute("SELECT FROM conversations_message")
        with pytest.raises(CommandError, match="another session holds a lock"):
            distribute("--yes")
    distribute("--yes")
    assert is_whole()


def test_a_role_that_owns_no_tables_is_refused(coordinator: str) -> None:
    with citus_nodes.connected(coordinator, user="tests_web"), pytest.raises(NotDistributable, match="does not own"):
        distribution.distribute(shards=8, progress=no_progress)


def test_keys_and_triggers_still_refuse(people: list[Chatbot], distribute: Distribute) -> None:
    distribute("--yes")
    ours, other = people[:2]
    message = Message.objects.filter(chatbot=ours)[0]

    refused = [
        # Of another chatbot, or of none.
        lambda: factories.MessageFactory.create(conversation_id=message.conversation_id, chatbot=other),
        lambda: factories.ConversationFactory.create(chatbot_id=987_654),
        lambda: Identity.objects.filter(chatbot=ours).update(variable_id=factories.uci_of(other).pk),
        lambda: Conversation.objects.filter(chatbot=ours).delete(),
        # Still known from before.
        lambda: factories.ConversationFactory.create(
            chatbot=ours, external_id=Conversation.objects.filter(chatbot=ours)[0].external_id
        ),
    ]
    for attempt in refused:
        with pytest.raises(IntegrityError), transaction.atomic():
            attempt()

    triggered = [
        lambda: Chatbot.objects.filter(pk=ours.pk).update(public_id=other.public_id),
        lambda: Variable.objects.filter(chatbot=ours).update(public_id=other.public_id),
        lambda: Variable.objects.filter(chatbot=ours, is_uci=True)._raw_delete(connection.alias),
    ]
    for attempt in triggered:
        with pytest.raises(DatabaseError), transaction.atomic():
            attempt()


def test_new_rows_get_numbers_after_those_that_moved(people: list[Chatbot], distribute: Distribute) -> None:
    [(highest,)] = fetch("SELECT max(id) FROM conversations_message")
    distribute("--yes")
    conversation = factories.conversation_of(people[0], "43", messages=1)
    assert Message.objects.get(chatbot=people[0], conversation=conversation).pk > highest


def test_health_names_a_machine_that_does_not_answer(people: Any, distribute: Distribute) -> None:
    distribute("--yes")
    assert silent() == []
    with socket.socket() as deaf:
        # It takes connections, and says nothing.
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        port = deaf.getsockname()[1]
        execute("UPDATE pg_dist_node SET nodename = '127.0.0.1', nodeport = %s WHERE groupid = 2", [port])
        (said,) = silent()
        assert f"127.0.0.1:{port}" in said
    # Nobody listens there any more.
    assert silent() == [said]


def test_asking_machines_leaves_the_settings_of_a_transaction(people: Any, distribute: Distribute) -> None:
    distribute("--yes")
    with transaction.atomic():
        execute("SET LOCAL statement_timeout = '7s'")
        assert machines.silent_nodes() == []
        assert fetch("SHOW statement_timeout") == [("7s",)]


def silent() -> list[str]:
    return [detail for code, detail in health.check().problems if code == "node_silent"]
