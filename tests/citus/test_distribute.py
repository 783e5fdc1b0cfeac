"""`manage.py distribute` on a coordinator of Citus: what it makes of a database with data, whatever stops it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import DatabaseError, IntegrityError, connection, transaction

from chatbots.models import Chatbot, Variable
from common.db import execute, fetch
from compliance import checks
from compliance.work import health
from conversations import distribution
from conversations.citus import NotDistributable
from conversations.distribution import Step
from conversations.models import Conversation, Identity, Message
from conversations.placement import is_distributed
from tests import factories, under_roles
from tests.citus import nodes
from tests.citus.conftest import Distribute
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


def keys() -> list[tuple[Any, ...]]:
    return fetch(_KEYS, [sorted(TABLES)])


def contents() -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(fetch(f"SELECT * FROM {table}"), key=repr) for table in sorted(TABLES | REFERENCE_TABLES)}


@contextmanager
def no_progress(_: Step) -> Iterator[None]:
    yield


class Killed(BaseException):
    """Ends a run as a kill would, after its first step."""


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
    assert fetch(left, [sorted(TABLES)]) == []


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
        with nodes.connect(coordinator) as other:
            [(is_free,)] = other.execute("SELECT pg_try_advisory_lock(%s)", [distribution._LOCK]).fetchall()
        assert not is_free
        yield

    distribution.distribute(shards=8, progress=meanwhile)

    with nodes.connect(coordinator) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [distribution._LOCK])
        with pytest.raises(NotDistributable, match="Another distribute is under way"):
            distribution.distribute(shards=8, progress=no_progress)


def test_it_refuses_while_the_service_is_connected(coordinator: str) -> None:
    where = nodes.connect(coordinator)
    with where as other:
        other.execute("SET application_name = 'data-compliance-api'")
        with pytest.raises(NotDistributable, match="are connected to the database \\(1\\)"):
            distribution.distribute(shards=8, progress=no_progress)
    assert fetch(_KINDS) == []


def test_what_keeps_a_step_waiting_is_said_and_the_next_run_goes_on(
    coordinator: str, distribute: Distribute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distribution, "_PATIENCE", ("SET lock_timeout = '100ms'",))
    with nodes.connect(coordinator) as other, other.transaction():
        other.execute("SELECT FROM conversations_message")
        with pytest.raises(CommandError, match="another session holds a lock"):
            distribute("--yes")
    distribute("--yes")
    assert is_whole()


def test_a_role_that_owns_no_tables_is_refused(coordinator: str) -> None:
    under_roles.grant()
    with nodes.connected(coordinator, user="tests_web"), pytest.raises(NotDistributable, match="does not own"):
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


def silent() -> list[str]:
    return [detail for code, detail in health.check().problems if code == "node_silent"]
