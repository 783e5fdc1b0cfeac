"""Whether `DIGEST_KEY` is the one that this database was set up with.

With another key everything seems to work, and nothing that is stored is found by its digest any more: a conversation
sent again is stored twice, the erased are taken for new. So the first `migrate` leaves a fingerprint of the key in
the database, and each new connection is compared with it before it is used, in the web server, in workers and in
commands. A database that has no fingerprint yet says nothing.
"""

import hmac
from typing import Any

import psycopg
from django.apps import apps as all_apps
from django.apps.registry import Apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from common import crypto

FAULT = "DIGEST_KEY is not the key that this database was set up with."
HOW_TO_MEND = (
    "It must be the key of before: look where you keep keys, apart from the database's backups. Or is it the wrong "
    'database? docs/operating.md says what to do if the key is lost ("Another DIGEST_KEY").'
)

_KEPT = "SELECT fingerprint FROM chatbots_digestkey"


class AnotherDigestKey(ImproperlyConfigured):
    """The fingerprint in the database is of another key. Nothing was read or written."""

    def __init__(self) -> None:
        super().__init__(f"{FAULT} {HOW_TO_MEND}")


def check() -> None:
    """Raise AnotherDigestKey if that is so; a database that cannot be reached is looked at when it can be.

    Leaves no connection behind that was not there: who starts a process may fork afterwards.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    was_open = connection.connection is not None
    try:
        connection.ensure_connection()
        if not _fits(connection):
            raise AnotherDigestKey
    except OperationalError:
        return
    finally:
        if not was_open:
            connection.close()


def compare(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Look at a connection that was made just now: a receiver of `connection_created`. Raises AnotherDigestKey."""
    if connection.alias == DEFAULT_DB_ALIAS and not _fits(connection):
        # Else the next who asks would find it open, and use it.
        connection.close()
        raise AnotherDigestKey


def remember(*, using: str = DEFAULT_DB_ALIAS, apps: Apps = all_apps, **_: Any) -> None:
    """Keep the fingerprint unless there is one: a receiver of `post_migrate`."""
    try:
        model = apps.get_model("chatbots", "DigestKey")
    except LookupError:
        return  # migrated back to before there was one
    model.objects.using(using).bulk_create([model(fingerprint=crypto.fingerprint())], ignore_conflicts=True)


def _fits(connection: BaseDatabaseWrapper) -> bool:
    with connection.wrap_database_errors:
        try:
            kept = connection.connection.execute(_KEPT).fetchone()
        except psycopg.errors.UndefinedTable:
            return True  # not migrated yet
    return kept is None or hmac.compare_digest(kept[0], crypto.fingerprint())
