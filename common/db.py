"""SQL that Django's ORM cannot express, on the default connection.

Parameters are psycopg's: `%s` with a list, or `%(name)s` with a dict. Errors are Django's (`django.db.Error`).
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, Error, OperationalError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from psycopg.sql import Composable

Statement = str | Composable
Parameters = Sequence[Any] | Mapping[str, Any] | None


def fetch(statement: Statement, parameters: Parameters = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def fetch_one(statement: Statement, parameters: Parameters = None) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row


# Each returns settings that `local_settings` sets as well (`conversations.apps`).
ALSO_SET: list[Callable[[], Mapping[str, str]]] = []


def local_settings(**settings: str) -> str:
    """Return the statements that set these settings of PostgreSQL, and no JIT, until the transaction ends.

    Send them alone: if tables are distributed, machines get them unchanged, with the rest of the text.
    """
    # Settings of other packages come last, since each of them has the whole text sent again for every setting after
    # it. Before version 18 PostgreSQL assigns a huge cost to a plan that is switched off but unavoidable. It would
    # then compile the statement, which takes longer than running it.
    for added in ALSO_SET:
        settings |= added()
    return "; ".join(f"SET LOCAL {name} TO '{value}'" for name, value in (settings | {"jit": "off"}).items())


FINDING_BY_INDEX = dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_material"), "off")


def by_index() -> str:
    """Return the statements by which PostgreSQL finds rows by key until the transaction ends.

    Without statistics (a table just filled), or with a thousand keys at once, the planner would read whole tables. A
    worker's sessions have these settings; other sessions set them for the rest of a transaction.
    """
    return local_settings(**FINDING_BY_INDEX)


_IS_SET = "SELECT bool_and(current_setting(name) = 'off') FROM unnest(%s::text[]) AS name"


@contextmanager
def sessions_find_by_index() -> Iterator[None]:
    """Let the sessions that this process opens meanwhile find rows by index.

    Code that reads many rows has a connection of its own (`conversations.snapshots`) without these settings.
    """
    if connection.in_atomic_block:  # of a test, which calls commands in its own process
        yield
        return
    connection.close()  # opened by the check whether the command may run
    options = connection.settings_dict["OPTIONS"]
    before = options.get("options", "")
    settings = FINDING_BY_INDEX | {"jit": "off"}
    options["options"] = " ".join([before, *(f"-c {name}={value}" for name, value in settings.items())])
    try:
        yield
    finally:
        options["options"] = before
        connection.close()


def finds_by_index() -> bool:
    """Return whether this session finds rows by index. A pooler may have dropped the settings."""
    return bool(fetch(_IS_SET, [list(FINDING_BY_INDEX)])[0][0])


# If PostgreSQL expects few rows, it may sort all of them rather than read the first ones in the order of an index.
_IN_INDEX_ORDER = dict.fromkeys(("enable_sort", "enable_bitmapscan", "enable_seqscan"), "off")


def fetch_in_index_order(statement: str, parameters: Parameters = None) -> list[tuple[Any, ...]]:
    """Return the rows of a statement whose limits PostgreSQL reaches by reading indexes in their order.

    Outside a transaction: in one, the settings would hold for the statements that follow.
    """
    with transaction.atomic():
        execute(local_settings(**_IN_INDEX_ORDER))
        return fetch(statement, parameters)


@contextmanager
def reading_in_index_order() -> Iterator[None]:
    """Open a transaction or a savepoint for reads by the ORM, as `fetch_in_index_order`. It is rolled back."""
    with transaction.atomic():
        execute(local_settings(**_IN_INDEX_ORDER))
        yield
        transaction.set_rollback(True)  # which also ends the settings


def lock_until_commit(key: int) -> None:
    """Take the advisory lock `key`, waiting for it; it is released when the transaction ends."""
    execute("SELECT pg_advisory_xact_lock(%s)", [key])


def execute(statement: Statement, parameters: Parameters = None) -> int:
    """Run a statement, and return how many rows it returned or changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        count: int = cursor.rowcount
    return count


def insert_many(
    objects: Collection[Model], *, leave_out: Collection[str] = (), on_conflict: str = "", add_to: str = ""
) -> None:
    """Insert objects of one model in this order. They are one parameter, since there can be many with many columns.

    Columns in `leave_out` get their defaults from the database. With `on_conflict`, the name of a unique column, the
    other columns of an existing row are overwritten, except that values are added to the array `add_to`.
    """
    if not objects:
        return
    meta = next(iter(objects))._meta
    names = [field.attname for field in meta.concrete_fields if field.attname not in leave_out]
    columns = ", ".join(names)
    sets = {name: f"excluded.{name}" for name in names if name != on_conflict}
    if add_to:
        sets[add_to] = (
            f"CASE WHEN excluded.{add_to} = '{{}}' THEN known.{add_to}"
            f" ELSE ARRAY(SELECT DISTINCT unnest(known.{add_to} || excluded.{add_to})) END"
        )
    overwritten = ", ".join(f"{name} = {value}" for name, value in sets.items())
    rows = [{name: as_json(getattr(one, name)) for name in names} for one in objects]
    execute(
        f"INSERT INTO {meta.db_table} AS known ({columns}) SELECT {columns}"  # noqa: S608  (names from code)
        " FROM jsonb_array_elements(%s::jsonb) WITH ORDINALITY AS each(given, place)"
        f" CROSS JOIN LATERAL jsonb_populate_record(NULL::{meta.db_table}, given) ORDER BY place"
        + (f" ON CONFLICT ({on_conflict}) DO UPDATE SET {overwritten}" if on_conflict else ""),
        [json.dumps(rows, default=str)],
    )


def distinct(table: str, column: str, condition: str) -> str:
    """Return the query for the distinct values (column `value`) of an indexed column: one index step for each."""
    return f"""
WITH RECURSIVE found(value) AS (
    (SELECT {column} FROM {table} WHERE {condition} ORDER BY {column} LIMIT 1)
    UNION ALL
    SELECT (SELECT {column} FROM {table} WHERE {condition} AND {column} > found.value ORDER BY {column} LIMIT 1)
      FROM found WHERE found.value IS NOT NULL
)
SELECT value FROM found WHERE value IS NOT NULL
"""  # noqa: S608  (names from code)


def array(ids: Iterable[int | UUID]) -> str:
    """Return ids as the text of a PostgreSQL array, for `= ANY(%s)` or `%s::bigint[]`.

    psycopg accepts a list too, but checks each element for quoting: a tenth of the time of claiming requests. Numbers
    and UUIDs need none, and UUIDs no hyphens, which take Python three times as long.
    """
    return f"{{{','.join([one.hex if isinstance(one, UUID) else str(one) for one in ids])}}}"


def as_json(value: Any) -> Any:
    """Return a column's value as `json_to_recordset` reads it."""
    if isinstance(value, bytes | memoryview):
        return f"\\x{value.hex()}"
    if isinstance(value, list):
        return [as_json(one) for one in value]
    return str(value) if isinstance(value, UUID | datetime) else value


@contextmanager
def checking(using: str = DEFAULT_DB_ALIAS) -> Iterator[BaseDatabaseWrapper]:
    """Yield the connection to a block that checks the database at the start. An unreachable database ends it quietly.

    Leaves no new connection open: the caller may fork afterwards.
    """
    checked = connections[using]
    was_open = checked.connection is not None
    try:
        with suppress(OperationalError):
            yield checked
    finally:
        if not was_open:
            checked.close()


def close_if_unusable() -> None:
    """Close the connection if an error has left it unusable, but not for its age: another may not be had just now."""
    if connection.errors_occurred and not connection.is_usable():
        connection.close()


def retry_while_unavailable(write: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Call `write` on a live connection, again each second while the database fails, for `seconds` at most.

    For writes that must survive a restart of the database; not for use in a transaction. Raises the last database
    error, and any other error of `write` at once.
    """
    end = time.monotonic() + seconds
    while True:
        # The connection itself may have been the failure.
        close_if_unusable()
        try:
            write()
        except Error:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(1)
        else:
            return
