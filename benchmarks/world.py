"""The database and the servers of the benchmarks' own copy.

Import this module with the folder locked, and before any model: it sets the environment of this process and its
children, and reads the settings, which create keys in the folder.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.place import VAR_DIR

for _name in [name for name in os.environ if name.startswith(("DATABASE_URL", "SECRET_KEY", "S3_"))]:
    del os.environ[_name]
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "VAR_DIR": str(VAR_DIR),
    "LOG_LEVEL": "WARNING",
    # As in production: DEBUG keeps every statement in memory.
    "DEBUG": "false",
}
# Workers and web servers read their settings themselves, from the same environment as this process does.
ENVIRONMENT = dict(os.environ)

import django  # noqa: E402

django.setup()

import psycopg  # noqa: E402
from django.apps import apps  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from chatbots.models import DigestKey  # noqa: E402
from devservers import control  # noqa: E402

SCRATCH = VAR_DIR / "scratch"


@contextmanager
def servers() -> Iterator[None]:
    """PostgreSQL, an S3 server and an empty, migrated database, for as long as the context lasts."""
    try:
        control.start()
        SCRATCH.mkdir()
        call_command("migrate", verbosity=0)
        yield
    finally:
        connection.close()
        control.stop()


def empty() -> None:
    """Empty all our tables and the queue, so that two measurements start with the same database."""
    models = [
        model
        for label in ("accounts", "chatbots", "conversations", "compliance")
        for model in apps.get_app_config(label).get_models()
        if model is not DigestKey
    ]
    models.append(apps.get_model("django_q", "OrmQ"))
    connection.close()  # a program that failed may have left a transaction open
    tables = ", ".join(model._meta.db_table for model in models)
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")


@contextmanager
def copies(names: Sequence[str]) -> Iterator[None]:
    """Create databases of these names, each a copy of our present one, and drop them in the end. See `use`."""
    ours = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        # A copy would count as a restored backup. Each gets an identity of its own.
        cursor.execute("DELETE FROM compliance_service")
    try:
        use("postgres")
        with connection.cursor() as cursor:
            for name in names:
                cursor.execute(f"CREATE DATABASE {name} TEMPLATE {ours}")
        yield
    finally:
        use("postgres")
        with connection.cursor() as cursor:
            for name in names:
                cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        use(ours)


def use(database: str) -> None:
    """Let this process work on another database of the same server. Its child processes do not."""
    connection.close()
    connection.settings_dict["NAME"] = database


def settle() -> None:
    """Finish the deferred work of the filling: statistics, visibility, hint bits, dirty pages."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")


def plain_connection(*, autocommit: bool = False) -> psycopg.Connection:
    """Return a connection to the same database by psycopg alone, without Django. The caller closes it."""
    wanted = ("host", "port", "user", "dbname")
    where = {name: value for name, value in connection.get_connection_params().items() if name in wanted}
    return psycopg.connect(**where, application_name="benchmark", autocommit=autocommit)
