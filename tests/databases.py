"""A database for each pytest process: a copy of a template migrated once, emptied quickly after a test.

The template is created when a test first needs a database, and kept until a migration changes. Each process takes a
number of its own for its database and its bucket, so that runs of one working copy may overlap.
"""

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.test import TransactionTestCase

from conversations.placement import is_distributed
from tests import under_roles
from tests.statements import REFERENCE_TABLES, TABLES

# Any number that nothing else locks in the database `postgres`.
_LOCK = 20_251_125
_TEMPLATE = "tests_template"

# Filled by `migrate`, and changed by no test.
_KEPT = ["django_content_type", "auth_permission", "django_migrations", "chatbots_digestkey"]

# One round trip, and only tables that hold anything. TRUNCATE makes new files for a table and each of its indexes,
# which takes longer than deleting a few rows does. But after many rows it alone leaves a small table, and it alone
# takes back what an ANALYZE has noted of the size. By that, and by what was noted of the columns, the next tests
# would be planned.
_EMPTY = """
DO $$
DECLARE
    one regclass;
    large text;
BEGIN
    SET LOCAL session_replication_role = replica;
    SELECT string_agg(oid::regclass::text, ', ') INTO large FROM pg_class
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> ALL (%(kept)s)
       AND (reltuples >= 0 OR pg_relation_size(oid) > 8 * 8192);
    IF large IS NOT NULL THEN
        EXECUTE 'TRUNCATE ' || large || ' CASCADE';
    END IF;
    FOR one IN SELECT oid FROM pg_class
                WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> ALL (%(kept)s)
                  AND pg_relation_size(oid) > 0 LOOP
        EXECUTE format('DELETE FROM %%s', one);
    END LOOP;
    DELETE FROM pg_statistic s USING pg_class c WHERE c.oid = s.starelid AND c.relnamespace = 'public'::regnamespace;
END $$
"""


_AT_WORK = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
   AND state <> 'idle'
"""
_PATIENCE_SECONDS = 5.0


def number_of_this_process() -> int:
    """Take the first number that no living process has; it is freed when this process ends in any way."""
    folder = settings.VAR_DIR / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        lock = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            number += 1
        else:
            return number  # and the lock stays open


# ANALYZE and VACUUM run only when a test calls them.
_WITHOUT_AUTOVACUUM = """
DO $$
DECLARE
    one regclass;
BEGIN
    FOR one IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', one);
    END LOOP;
END $$
"""


# A copy would take itself for a restored backup. Each test that needs an identity gets a new one, as after `empty`.
_WITHOUT_IDENTITY = "DELETE FROM compliance_service"


def make(name: str, *, anew: bool = False) -> None:
    """Create a database of this name with all tables, and connect to it. `anew` always runs the migrations."""
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        under_roles.make(cursor)
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        template = f"{_TEMPLATE}_{_state_of_migrations()}"
        cursor.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [_TEMPLATE])
        known = {found for (found,) in cursor.fetchall()}
        if anew or template not in known:
            for old in known:
                cursor.execute(f"DROP DATABASE {old} WITH (FORCE)")
            connection.settings_dict["TEST"]["NAME"] = name
            connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
            switch_autovacuum_off()
            with connection.cursor() as migrated:
                migrated.execute(_WITHOUT_IDENTITY)
            connection.close()
            cursor.execute(f"ALTER DATABASE {name} RENAME TO {template}")
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        # Test data need not survive a crash.
        cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    _connect_to(name)
    prepare()


def switch_autovacuum_off() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_WITHOUT_AUTOVACUUM)


def prepare() -> None:
    """Make ready for tests what the migrations have left."""
    # Content types and permissions can change without a migration.
    emit_post_migrate_signal(verbosity=0, interactive=False, db=connection.alias)
    under_roles.grant()
    with connection.cursor() as cursor:
        cursor.execute(_WITHOUT_IDENTITY)


def drop(name: str) -> None:
    connection.close()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def empty_quickly() -> None:
    """Have the database emptied by us, and not by Django's `flush`, after a test that commits."""

    def teardown(_: object) -> None:
        empty()

    TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined]  # Django keeps it to itself


def empty() -> None:
    """Empty the tables except those that `migrate` fills."""
    _wait_for_threads()
    if is_distributed():
        _empty_machines()
    with connection.cursor() as cursor:
        _wait_for_the_others(cursor)
        cursor.execute(_EMPTY, {"kept": _KEPT})


def _empty_machines() -> None:
    """Empty the tables that are not only here."""
    with triggers_off(), connection.cursor() as cursor:
        for table in sorted(TABLES | REFERENCE_TABLES):
            cursor.execute(f"DELETE FROM {table}")


@contextmanager
def triggers_off() -> Iterator[None]:
    """Have foreign keys and triggers look away meanwhile, on all machines, in a transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        if is_distributed():
            cursor.execute("SET LOCAL citus.propagate_set_commands = 'local'")
            cursor.execute("SET LOCAL citus.multi_shard_modify_mode = 'sequential'")
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield
        cursor.execute("SET LOCAL session_replication_role = origin")


def _wait_for_threads() -> None:
    """Wait for threads of `BackgroundJobs`, which would otherwise change the tables of the next test."""
    end = time.monotonic() + _PATIENCE_SECONDS
    for thread in threading.enumerate():
        if thread.name == "background":
            thread.join(max(0.0, end - time.monotonic()))


def _wait_for_the_others(cursor: CursorWrapper) -> None:
    """Wait until no other session writes: a statement continues for a moment after its process was killed."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        cursor.execute(_AT_WORK)
        if not cursor.fetchone()[0]:
            return
        time.sleep(0.02)


def _connect_to(name: str) -> None:
    connection.close()
    settings.DATABASES[connection.alias]["NAME"] = connection.settings_dict["NAME"] = name


def _state_of_migrations() -> str:
    """Return a digest of everything that defines the tables."""
    digest = hashlib.sha256(f"{django.VERSION}".encode() + Path(__file__).read_bytes())
    for app in apps.get_app_configs():
        for file in sorted(Path(app.path, "migrations").glob("*.py")):
            digest.update(f"{app.label}/{file.name}".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
