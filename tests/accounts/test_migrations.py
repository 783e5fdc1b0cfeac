"""A database from before the first release is not migrated: its tables cannot be distinguished from today's."""

import importlib

import pytest
from django.core.management import CommandError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

refuse_older = importlib.import_module("accounts.migrations.0001_initial").refuse_older


@pytest.mark.django_db
def test_an_older_database_is_refused_with_instructions() -> None:
    with connection.schema_editor() as editor:
        refuse_older(None, editor)
        MigrationRecorder(connection).record_applied("chatbots", "0002_guards")
        with pytest.raises(CommandError, match="Begin with an empty one"):
            refuse_older(None, editor)
