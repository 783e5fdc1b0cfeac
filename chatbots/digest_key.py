"""Checks that `DIGEST_KEY` is the key that this database was set up with.

With another key everything seems to work, but no stored digest is found any more: a conversation sent again is
stored twice, erased chatters look new. So the first `migrate` stores a fingerprint of the key. Each new connection of
the web server, workers and commands is compared with it before use. Without a fingerprint there is no comparison.
"""

import hmac
from typing import Any

import psycopg
from django.apps import apps as all_apps
from django.apps.registry import Apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from django.db.backends.base.base import BaseDatabaseWrapper

from common import crypto
from common.db import checking

FAULT = "DIGEST_KEY is not the key that this database was set up with."
HOW_TO_MEND = (
    "Restore the original key from where you keep keys, apart from the database's backups. Or is this the wrong "
    "database? docs/operators/digest-key.md says what to do if the key is lost."
)

_KEPT = "SELECT fingerprint FROM chatbots_digestkey"


class DigestKeyMismatch(ImproperlyConfigured):
    """The database has the fingerprint of another key. Nothing was read or written."""

    def __init__(self) -> None:
        super().__init__(f"{FAULT} {HOW_TO_MEND}")


def check() -> None:
    """Raise DigestKeyMismatch if the key differs. An unreachable database is checked at its first connection.

    Leaves no new connection open: the caller may fork afterwards.
    """
    with checking() as connection:
        connection.ensure_connection()
        if not _matches(connection):
            raise DigestKeyMismatch


def compare(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Check a new connection (receiver of `connection_created`). Raises DigestKeyMismatch."""
    if connection.alias == DEFAULT_DB_ALIAS and not _matches(connection):
        # Otherwise the next query would use it.
        connection.close()
        raise DigestKeyMismatch


def remember(*, using: str = DEFAULT_DB_ALIAS, apps: Apps = all_apps, **_: Any) -> None:
    """Store the fingerprint unless there is one (receiver of `post_migrate`)."""
    try:
        model = apps.get_model("chatbots", "DigestKey")
    except LookupError:
        return  # migrated back to before this table
    model.objects.using(using).bulk_create([model(fingerprint=crypto.fingerprint())], ignore_conflicts=True)


def _matches(connection: BaseDatabaseWrapper) -> bool:
    with connection.wrap_database_errors:
        try:
            kept = connection.connection.execute(_KEPT).fetchone()
        except psycopg.errors.UndefinedTable:
            return True  # not migrated yet
    return kept is None or hmac.compare_digest(kept[0], crypto.fingerprint())
