"""A database with former tables is refused before anything in it is changed."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from common import former_schema

SAID = "made by version 0.1.0 or a development version.*Begin with an empty database"

APPS = ("accounts", "chatbots", "conversations", "compliance")
# What the former sets of migrations recorded: the first of each app, and of the later sets some of the last.
FIRST = [(app, "0001_initial") for app in APPS]
SECOND = [(app, name) for app in APPS for name in ("0001_tables", "0002_sql")] + [
    ("chatbots", "0008_export_formats"),
    ("conversations", "0011_redacted_comment_is_checked"),
    ("compliance", "0010_export_formats"),
]

THIRD = [(app, name) for app in APPS for name in ("0001_models", "0002_postgresql")] + [
    ("compliance", "0005_message_digests")
]


def record(migrations: list[tuple[str, str]]) -> None:
    """Have these recorded, and none of the present ones."""
    recorder = MigrationRecorder(connection)
    recorder.migration_qs.filter(app__in=APPS).delete()
    for app, name in migrations:
        recorder.record_applied(app, name)


def state() -> tuple[object, ...]:
    return tuple(MigrationRecorder(connection).applied_migrations()), connection.introspection.table_names()


@pytest.fixture(params=[FIRST, SECOND, THIRD], ids=["first", "second", "third"])
def former(request: pytest.FixtureRequest, db: None) -> None:
    record(request.param)


def test_migrate_refuses_it_and_changes_nothing(former: None) -> None:
    before = state()
    with pytest.raises(CommandError, match=f"(?s){SAID}"):
        call_command("migrate")  # as `make run` calls it, without system checks
    with pytest.raises(SystemCheckError, match=f"(?s)E014.*{SAID}"):
        call_command("migrate", skip_checks=False)
    assert state() == before


@pytest.mark.parametrize("command", ["qcluster", "health"])
def test_workers_and_commands_refuse_it(former: None, command: str) -> None:
    with pytest.raises(SystemCheckError, match=f"(?s)E014.*{SAID}"):
        call_command(command, skip_checks=False, stdout=StringIO())


@pytest.mark.parametrize("name", ["0001_initial", "0001_tables", "0001_models"])
@pytest.mark.parametrize("app", ["accounts", "chatbots"])
def test_so_is_one_whose_migrations_ended_early(db: None, app: str, name: str) -> None:
    record([(app, name)])
    with pytest.raises(former_schema.FormerSchema, match=SAID):
        former_schema.check()


def test_the_web_server_refuses_it(former: None) -> None:
    with pytest.raises(former_schema.FormerSchema, match=SAID):
        former_schema.check()


@pytest.mark.parametrize("app", APPS)
def test_one_whose_present_migrations_ended_early_is_not_refused(db: None, app: str) -> None:
    MigrationRecorder(connection).migration_qs.filter(app=app).delete()
    former_schema.check()
