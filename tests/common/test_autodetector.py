"""Migrations leave out the choices and help texts of fields, and nothing else."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.management import get_commands, load_command_class
from django.db import models
from django.db.migrations.graph import MigrationGraph
from django.db.migrations.operations.models import CreateModel
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ModelState, ProjectState

from common.autodetector import Autodetector

LABELLED: Any = {"max_length": 8, "choices": [("a", "A")], "help_text": "A letter."}


def state_with(**fields: Any) -> ProjectState:
    state = ProjectState()
    state.add_model(ModelState("shop", "Item", [("id", models.BigAutoField(primary_key=True)), *fields.items()]))
    return state


def operations(before: ProjectState, after: ProjectState) -> list[Any]:
    asked = MigrationQuestioner({"ask_initial": True})
    changes = Autodetector(before, after, asked).changes(graph=MigrationGraph())
    return [operation for migrations in changes.values() for one in migrations for operation in one.operations]


def test_both_commands_use_it() -> None:
    for name in ("makemigrations", "migrate"):
        assert vars(type(load_command_class(get_commands()[name], name)))["autodetector"] is Autodetector


def test_a_changed_choice_or_help_text_needs_no_migration() -> None:
    plain = state_with(one=models.CharField(max_length=8), many=ArrayField(models.CharField(max_length=8)))
    labelled = state_with(one=models.CharField(**LABELLED), many=ArrayField(models.CharField(**LABELLED)))

    assert operations(plain, labelled) == []


def test_any_other_change_needs_one() -> None:
    before = state_with(one=models.CharField(**LABELLED))

    assert operations(before, state_with(one=models.CharField(**LABELLED | {"max_length": 9})))
    assert operations(before, state_with(one=models.CharField(**LABELLED, null=True)))


def test_a_written_migration_has_neither() -> None:
    [created] = operations(ProjectState(), state_with(one=models.CharField(**LABELLED)))

    assert isinstance(created, CreateModel)
    assert created.fields[1][1].deconstruct()[3] == {"max_length": 8}
