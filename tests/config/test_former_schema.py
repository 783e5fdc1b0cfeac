"""A database with former tables is refused before anything in it is changed."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from common import former_schema

SAID = "made by version 0.1.0 or a development version.*Begin with an empty database"


@pytest.fixture
def former(db: None) -> None:
    """As the migrations of before left it: they began with this one in each app."""
    for app in ("accounts", "chatbots", "conversations", "compliance"):
        MigrationRecorder(connection).record_applied(app, "0001_initial")


def test_migrate_refuses_it(former: None) -> None:
    # Something is left to do, also once further migrations follow.
    later = MigrationRecorder(connection).migration_qs.filter(app="compliance").exclude(name__startswith="0001")
    later.delete()
    with pytest.raises(CommandError, match=f"(?s){SAID}"):
        call_command("migrate")  # as `make run` calls it, without system checks
    with pytest.raises(SystemCheckError, match=f"(?s)E014.*{SAID}"):
        call_command("migrate", skip_checks=False)


@pytest.mark.parametrize("command", ["qcluster", "health"])
def test_workers_and_commands_refuse_it(former: None, command: str) -> None:
    with pytest.raises(SystemCheckError, match=f"(?s)E014.*{SAID}"):
        call_command(command, skip_checks=False, stdout=StringIO())


@pytest.mark.parametrize("app", ["accounts", "chatbots"])
def test_so_is_one_whose_migrations_ended_early(db: None, app: str) -> None:
    MigrationRecorder(connection).record_applied(app, "0001_initial")
    with pytest.raises(former_schema.FormerSchema, match=SAID):
        former_schema.check()


def test_the_web_server_refuses_it(former: None) -> None:
    with pytest.raises(former_schema.FormerSchema, match=SAID):
        former_schema.check()
