"""`distribute` on one PostgreSQL: what it refuses, and what it would do to the tables that are here.

Citus' own catalogue is imitated where a plan needs it. tests/citus/ has the conversion itself, on a coordinator.
"""

import io
import re
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from chatbots.models import Chatbot
from common.db import execute, fetch
from compliance import checks
from compliance.models import Heartbeat
from conversations.placement import distribution, machines
from conversations.placement.coordinator import NotDistributable
from tests import statements
from tests.commands import run
from tests.factories import conversation_of

pytestmark = pytest.mark.one_postgresql(reason="what is not distributed yet")

_CITUS = """
SET LOCAL allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
VALUES (1, 'citus', 10, 'pg_catalog'::regnamespace, FALSE, '13.2-1');
CREATE TABLE pg_dist_node AS
SELECT 0 AS groupid, TRUE AS isactive, 'primary' AS noderole, FALSE AS shouldhaveshards
UNION ALL SELECT 1, TRUE, 'primary', TRUE;
CREATE TABLE pg_dist_partition (logicalrelid regclass, partmethod "char", partkey text, repmodel "char");
CREATE FUNCTION citus_is_coordinator() RETURNS boolean LANGUAGE sql AS 'SELECT TRUE';
CREATE FUNCTION column_to_column_name(regclass, text) RETURNS text LANGUAGE sql AS 'SELECT $2';
"""
_KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE contype = 'f' AND (conrelid = ANY(%(tables)s::regclass[]) OR confrelid = ANY(%(tables)s::regclass[]))
 ORDER BY 1, 2
"""
TABLES = sorted(statements.TABLES)


@pytest.fixture
def catalogue() -> None:
    """What Citus' catalogue says where nothing is distributed yet."""
    execute(_CITUS)


def distribute(*options: str) -> str:
    return run("distribute", *options).out


def refusal() -> str:
    with pytest.raises(NotDistributable) as refused:
        distribution.plan()
    return str(refused.value)


def test_the_tables_are_those_by_which_statements_are_judged() -> None:
    assert {model._meta.db_table for model in distribution.DISTRIBUTED} == statements.TABLES
    assert {model._meta.db_table for model in distribution.REFERENCE} == statements.REFERENCE_TABLES


def test_the_keys_that_it_adds_again_are_those_that_the_migrations_made() -> None:
    made = fetch(_KEYS, {"tables": TABLES})

    for table, name, _ in made:
        execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for key in distribution.foreign_keys():
        execute(f"ALTER TABLE {key.table} ADD CONSTRAINT {key.name} {key.definition}")

    assert made
    assert fetch(_KEYS, {"tables": TABLES}) == made


def test_after_each_step_the_others_are_left(catalogue: None, chatbot: Chatbot) -> None:
    conversation_of(chatbot, "41")
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    steps = distribution.plan(shards=8)

    for place, step in enumerate(steps, start=1):
        _pretend(step.statement)
        if place % 3 == 1:  # a plan looks at every table
            assert distribution.plan(shards=8) == steps[place:]

    assert len(steps) > 30
    distribution.check()
    assert "Nothing is left" in distribute()


def _pretend(statement: str) -> None:
    """Run a step; in place of Citus' functions, do what they change."""
    function, _, arguments = statement.removeprefix("SELECT ").partition("(")
    table = arguments.strip("')").split("'")[0]
    match function:
        case "create_reference_table":
            execute("INSERT INTO pg_dist_partition VALUES (%s::regclass, 'n', NULL, 't')", [table])
        case "create_distributed_table":
            execute("INSERT INTO pg_dist_partition VALUES (%s::regclass, 'h', 'chatbot_id', 's')", [table])
        case "truncate_local_data_after_distributing_table":
            execute(f"TRUNCATE {table} CASCADE")
        case _:
            execute(statement)


def test_a_dry_run_says_each_step_in_words_and_as_sql_and_how_much_moves(catalogue: None, chatbot: Chatbot) -> None:
    conversation_of(chatbot, "41")
    before = fetch(_KEYS, {"tables": TABLES})

    said = distribute("--dry-run", "--shards", "16")

    assert "Drop the foreign key identity_conversation_of_chatbot of conversations_identity" in said
    assert (
        "Drop the foreign key chatbots_apikey_chatbot_id_8c1380b0_fk_chatbots_chatbot_id of chatbots_apikey for good"
        in said
    )
    assert "SELECT create_reference_table('chatbots_chatbot');" in said
    assert "SELECT create_distributed_table('conversations_conversation', 'chatbot_id', shard_count => 16);" in said
    # Tables keep pages of tests before.
    assert re.search(
        r"Data that is copied to other machines, without indexes: \d+\.\d MiB\. Nothing was changed\.", said
    )
    assert fetch(_KEYS, {"tables": TABLES}) == before
    assert not fetch("SELECT FROM pg_dist_partition")


def test_one_postgresql_has_nothing_to_distribute() -> None:
    assert "no extension citus" in refusal()
    with pytest.raises(CommandError, match="no extension citus"):
        distribute()
    assert checks.conversations_are_distributed() == []
    assert machines.silent_nodes() == []


_LAST_MIGRATION = "SELECT max(id) FROM django_migrations WHERE app = 'conversations'"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE pg_extension SET extversion = '12.1-2' WHERE extname = 'citus'", "13 or later is needed"),
        (
            "CREATE OR REPLACE FUNCTION citus_is_coordinator() RETURNS boolean LANGUAGE sql AS 'SELECT FALSE'",
            "no coord",
        ),
        ("DELETE FROM pg_dist_node WHERE groupid = 0", "citus_set_coordinator_host"),
        ("DELETE FROM pg_dist_node WHERE groupid = 1", "citus_add_node"),
        (
            f"DELETE FROM django_migrations WHERE id = ({_LAST_MIGRATION})",
            "migrate",
        ),
        (
            "INSERT INTO pg_dist_partition VALUES ('conversations_message'::regclass, 'h', 'conversation_id', 's')",
            "conversations_message is distributed by conversation_id, and not .* by chatbot_id.* restore the backup",
        ),
        (
            "ALTER TABLE compliance_claim ADD COLUMN of bigint REFERENCES conversations_message (id)",
            "does not know the foreign keys compliance_claim_of_fkey",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(catalogue: None, change: str, said: str) -> None:
    execute(change)
    with pytest.raises(NotDistributable, match=said):
        distribution.plan()


@pytest.mark.parametrize("shards", [0, -1, 1_001])
def test_an_impossible_number_of_shards_is_refused(catalogue: None, shards: int) -> None:
    with pytest.raises(NotDistributable, match="from 1 to 1,000"):
        distribution.plan(shards=shards)


def test_it_refuses_while_a_cluster_is_alive(catalogue: None, monkeypatch: Any) -> None:
    Heartbeat.objects.create(**_beat())
    with pytest.raises(CommandError, match="cluster of workers runs"):
        distribute("--yes")


def _beat() -> dict[str, Any]:
    [(now,)] = fetch("SELECT statement_timestamp()")
    return {
        "id": "0198c2d5-0000-7000-8000-000000000001",
        "name": "one",
        "version": "1",
        "workers": 1,
        "started_at": now,
        "seen_at": now,
        "pid_scope": "",
    }


def test_it_asks_before_it_begins(catalogue: None, monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("distribute\n"))
    with pytest.raises(CommandError, match="or --yes"):
        distribute()

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    with pytest.raises(CommandError, match="Nothing was changed"):
        distribute()


def test_the_check_refuses_tables_that_are_not_distributed(catalogue: None) -> None:
    (error,) = checks.conversations_are_distributed()
    assert error.id == "compliance.E010"
    assert "manage.py distribute" in f"{error.hint}"
    with pytest.raises(distribution.NotDistributed, match="Run manage"):
        distribution.check()


def test_the_check_lets_migrations_come_first(catalogue: None) -> None:
    for step in distribution.plan():
        _pretend(step.statement)
    # As before a version that brings a table.
    execute("DROP TABLE conversations_identitylookup")
    [(_, last)] = MigrationLoader(connection).graph.leaf_nodes("conversations")
    MigrationRecorder(connection).record_unapplied("conversations", last)

    assert checks.conversations_are_distributed(databases=["default"]) == []
    # A process that would work on it is refused all the same.
    assert [error.id for error in checks.conversations_are_distributed()] == ["compliance.E010"]
