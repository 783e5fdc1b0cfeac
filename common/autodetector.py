"""Keeps out of migrations what only people read of a field: its choices and its help text, which change no table.

The commands `makemigrations` and `migrate` of `accounts` use it in place of Django's.
"""

from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.state import ProjectState


class Autodetector(MigrationAutodetector):
    """Neither writes such texts nor misses them: the models alone have them."""

    def __init__(
        self, from_state: ProjectState, to_state: ProjectState, questioner: MigrationQuestioner | None = None
    ) -> None:
        for state in (from_state, to_state):
            # Copies of the models' fields. An array's texts are those of its items.
            for field in (one for model in state.models.values() for one in model.fields.values()):
                for each in (field, getattr(field, "base_field", field)):
                    each.choices, each.help_text = None, ""
        super().__init__(from_state, to_state, questioner)
