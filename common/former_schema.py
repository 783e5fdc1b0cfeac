"""Refuses a database whose tables were made before the migrations began anew (ADR 0063)."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS
from django.db.migrations.recorder import MigrationRecorder

from common.db import checking

FAULT = "This database was made by version 0.1.0 or a development version, and its tables cannot be taken over."
HOW_TO_MEND = (
    "Begin with an empty database (a development copy: remove var/), or run the version that made this one. Nothing "
    "was changed."
)
# What each former set began with. The tables of either app exist alone if `migrate` ended early.
_NAMES = ("0001_initial", "0001_tables", "0001_models")
_FORMER = {(app, name) for app in ("accounts", "chatbots") for name in _NAMES}


class FormerSchema(ImproperlyConfigured):
    """The tables are those of such a version. Nothing was written."""

    def __init__(self) -> None:
        super().__init__(f"{FAULT} {HOW_TO_MEND}")


def check(using: str = DEFAULT_DB_ALIAS) -> None:
    """Raise FormerSchema if the tables are former ones. An unreachable database passes. Leaves no connection open."""
    with checking(using) as connection:
        if not _FORMER.isdisjoint(MigrationRecorder(connection).applied_migrations()):
            raise FormerSchema


def refuse(*, using: str, **_: Any) -> None:
    """Stop `migrate` before its first step (receiver of `pre_migrate`)."""
    try:
        check(using)
    except FormerSchema as error:
        raise CommandError(str(error)) from None
