"""Spreads the conversation tables over machines by chatbot, where `DATABASE_URL` names a coordinator of Citus.

The remaining steps are read from the catalogue each time, and each step is committed by itself: after a kill at any
point, the next run continues. The keys that a step has dropped are taken from the models. For the distributed tables
and the reasons, see docs/adr/0055-local-tables-beside-distributed-ones.md.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import ForeignKey, Model
from psycopg import errors

from chatbots.models import Chatbot, Variable
from common.database_errors import describe_database_error
from common.db import checking, execute, fetch
from conversations.models import (
    Conversation,
    Identity,
    IdentityLookup,
    Message,
    NameWord,
    RefusedIdentity,
    Tombstone,
    UploadedFile,
    VariableValue,
)
from conversations.placement import coordinator
from conversations.placement.coordinator import NotDistributable

# Tables with all rows of a chatbot on one machine. The others are placed with the first one.
DISTRIBUTED: tuple[type[Model], ...] = (
    Conversation,
    Message,
    Identity,
    VariableValue,
    NameWord,
    IdentityLookup,
    UploadedFile,
    Tombstone,
    RefusedIdentity,
)
# Tables that are whole on each machine.
REFERENCE: tuple[type[Model], ...] = (Chatbot, Variable)

SHARDS = 32
MOST_SHARDS = 1_000

FAULT = "The conversation tables are not distributed over the machines of Citus, or only in part."
HOW_TO_MEND = "Run manage.py distribute: it begins, or goes on where it stopped (docs/operators/citus.md)."

# An advisory lock, held by the connection of a conversion. A lost process keeps it until its last statement ends.
LOCK = 0x6463_6469  # "dcdi"
# Each step locks a table against all others: what keeps it waiting is to be found, and not to hold up everything.
_PATIENCE = ("SET statement_timeout = 0", "SET lock_timeout = '60s'")

_LOCAL, _REFERENCE, _BY_CHATBOT = "local", "reference", "distributed by chatbot_id"
_TABLES = """
SELECT c.relname,
       CASE WHEN p.partmethod = 'h' THEN 'distributed by ' || column_to_column_name(p.logicalrelid, p.partkey)
            WHEN p.partmethod = 'n' AND p.repmodel = 't' THEN 'reference' ELSE 'local' END,
       k.conname, cardinality(k.conkey),
       pg_relation_size(c.oid) + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0)
  FROM pg_class c
  JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
  LEFT JOIN pg_dist_partition p ON p.logicalrelid = c.oid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY(%s)
"""
# The foreign keys of these tables, and those to them.
_KEYS = """
SELECT k.conname
  FROM pg_constraint k
  JOIN pg_class source ON source.oid = k.conrelid
  JOIN pg_class target ON target.oid = k.confrelid
 WHERE k.contype = 'f' AND source.relnamespace = 'public'::regnamespace
   AND (source.relname = ANY(%(tables)s) OR target.relname = ANY(%(tables)s))
"""
# The foreign keys of local tables to reference tables.
_KEYS_OF_LOCAL_TABLES = """
SELECT source.relname, k.conname
  FROM pg_constraint k
  JOIN pg_class source ON source.oid = k.conrelid
  JOIN pg_class target ON target.oid = k.confrelid
 WHERE k.contype = 'f' AND source.relnamespace = 'public'::regnamespace
   AND target.relname = ANY(%s) AND source.relname <> ALL(%s)
 ORDER BY source.relname, k.conname
"""
# Other sessions of this service, in columns that any role may read.
_AT_WORK = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = %s AND pid <> pg_backend_pid()
"""


class Step(NamedTuple):
    """A piece of the conversion that is committed by itself: its summary, its SQL, and the bytes that it copies."""

    summary: str
    statement: str
    copies: int = 0


class NotDistributed(ImproperlyConfigured):
    """The database has Citus, but its tables are not distributed, or only in part."""

    def __init__(self) -> None:
        super().__init__(f"{FAULT} {HOW_TO_MEND}")


class Key(NamedTuple):
    """A foreign key of a distributed table, under the name that the migrations have given it."""

    table: str
    name: str
    target: str
    definition: str


class _Table(NamedTuple):
    """How a table is stored. `local_bytes` is the size of rows outside of shards."""

    name: str
    kind: str
    primary_key: str
    columns_of_primary_key: int
    local_bytes: int


def plan(*, shards: int = SHARDS) -> list[Step]:
    """Return the remaining steps. Raises NotDistributable without Citus, or with an unsuitable one."""
    if not 1 <= shards <= MOST_SHARDS:
        raise NotDistributable(f"The number of shards is one from 1 to {MOST_SHARDS:,}.")
    coordinator.refuse_unless_coordinator()
    if has_migrations_to_apply():
        raise NotDistributable("There are migrations to apply: run manage.py migrate first.")
    return list(_remaining_steps(shards))


def distribute(*, shards: int = SHARDS, progress: Callable[[Step], AbstractContextManager[None]]) -> None:
    """Take the remaining steps, each within `progress`, while no other session is at work on the database.

    Call it as the tables' owner, outside a transaction. It can be repeated. Raises NotDistributable.
    """
    with _lock():
        steps = plan(shards=shards)
        if not steps:
            return
        coordinator.refuse_without_rights(_names(DISTRIBUTED + REFERENCE))
        for statement in (*coordinator.SESSION, *_PATIENCE):
            execute(statement)
        for step in steps:
            with progress(step):
                _run(step)


def check() -> None:
    """Raise NotDistributed if this is a database of Citus whose tables are not all distributed.

    An unreachable database, or one without tables, passes. Leaves no new connection open: the caller may fork.
    """
    with checking():
        try:
            if coordinator.version() and any(_remaining_steps(SHARDS)):
                raise NotDistributed
        except NotDistributable:
            raise NotDistributed from None


def has_migrations_to_apply() -> bool:
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def foreign_keys() -> Iterator[Key]:
    """Yield the foreign keys of the distributed tables, from the models."""
    for model in DISTRIBUTED:
        for field in model._meta.local_fields:
            if model is NameWord or not isinstance(field, ForeignKey):  # words have no keys, see there
                continue
            target = field.target_field.model
            if field.db_constraint:  # type: ignore[attr-defined]  # not in Django's stubs
                yield _django_key(model, field, target)
            elif target is not Chatbot:
                yield Key(
                    model._meta.db_table,
                    f"{model._meta.model_name}_{field.name}_of_chatbot",
                    target._meta.db_table,
                    f"FOREIGN KEY (chatbot_id, {field.column}) REFERENCES {target._meta.db_table}(chatbot_id, id)",
                )


def _django_key(model: type[Model], field: Any, target: type[Model]) -> Key:
    """Return the key that Django makes for a field."""
    editor: Any = connection.schema_editor(collect_sql=True)
    # The last argument as in Django's `create_model` and `add_field`.
    made = editor._create_fk_sql(model, field, "_fk_%(to_table)s_%(to_column)s")
    return Key(
        model._meta.db_table,
        str(made.parts["name"]).strip('"'),
        target._meta.db_table,
        f"FOREIGN KEY ({field.column}) REFERENCES {target._meta.db_table}(id){made.parts['deferrable']}",
    )


def _names(models: tuple[type[Model], ...]) -> list[str]:
    return [model._meta.db_table for model in models]


def _present(tables: dict[str, _Table], models: tuple[type[Model], ...]) -> list[_Table]:
    """Return the existing tables. A missing one may come with a migration that is not applied yet."""
    return [tables[name] for name in _names(models) if name in tables]


def _remaining_steps(shards: int) -> Iterator[Step]:
    """Yield the remaining steps, in their order. There are none in a database without the tables."""
    tables = _tables()
    if not tables:
        return
    keys, present = _keys()
    local = {table.name for table in tables.values() if table.kind == _LOCAL}
    in_the_way = [key for key in keys if key.name in present and local & {key.table, key.target}]
    yield from _drop_keys(in_the_way)
    yield from _change_primary_keys(tables)
    for table in _present(tables, REFERENCE):
        if table.kind == _LOCAL:
            statement = f"SELECT create_reference_table('{table.name}')"
            yield Step(f"Copy {table.name} to each machine", statement, table.local_bytes)
    for table in _present(tables, DISTRIBUTED):
        yield from _distribute_table(table, shards)
    for table in reversed(_present(tables, REFERENCE)):  # chatbots last: variables refer to them
        yield from _remove_what_is_remaining_steps(table)
    for key in keys:
        if key.name not in present or key in in_the_way:
            yield Step(
                f"Add the foreign key {key.name} of {key.table}",
                f"ALTER TABLE {key.table} ADD CONSTRAINT {key.name} {key.definition}",
            )


def _drop_keys(in_the_way: list[Key]) -> Iterator[Step]:
    for key in in_the_way:
        yield Step(
            f"Drop the foreign key {key.name} of {key.table} for now",
            f"ALTER TABLE {key.table} DROP CONSTRAINT {key.name}",
        )
    for table, name in fetch(_KEYS_OF_LOCAL_TABLES, [_names(REFERENCE), _names(DISTRIBUTED + REFERENCE)]):
        # Each new row would lock the reference table for all others until its transaction ends, and two at once would
        # be a deadlock.
        yield Step(
            f"Drop the foreign key {name} of {table} for good, since its checks would wait for each other",
            f"ALTER TABLE {table} DROP CONSTRAINT {name}",
        )


def _change_primary_keys(tables: dict[str, _Table]) -> Iterator[Step]:
    for table in _present(tables, DISTRIBUTED):
        if table.columns_of_primary_key == 1:
            yield Step(
                f"Put the chatbot into the primary key of {table.name}",
                f"ALTER TABLE {table.name} DROP CONSTRAINT {table.primary_key}, "
                f"ADD CONSTRAINT {table.primary_key} PRIMARY KEY (chatbot_id, id)",
            )


def _distribute_table(table: _Table, shards: int) -> Iterator[Step]:
    first = DISTRIBUTED[0]._meta.db_table
    if table.kind == _LOCAL:
        where = f"shard_count => {shards}" if table.name == first else f"colocate_with => '{first}'"
        yield Step(
            f"Copy {table.name} into shards by chatbot",
            f"SELECT create_distributed_table('{table.name}', 'chatbot_id', {where})",
            table.local_bytes,
        )
    yield from _remove_what_is_remaining_steps(table)


def _remove_what_is_remaining_steps(table: _Table) -> Iterator[Step]:
    if table.local_bytes:
        # Citus hides them, but they are on the disk, where no erasure would reach them.
        yield Step(
            f"Remove the rows of {table.name} that are left outside of its shards",
            f"SELECT truncate_local_data_after_distributing_table('{table.name}')",
        )


def _tables() -> dict[str, _Table]:
    """Return the storage of the tables. Raises NotDistributable if one is distributed in another way."""
    wanted = dict.fromkeys(_names(DISTRIBUTED), _BY_CHATBOT) | dict.fromkeys(_names(REFERENCE), _REFERENCE)
    found = {row[0]: _Table(*row) for row in fetch(_TABLES, [list(wanted)])}
    for table in found.values():
        if table.kind not in {_LOCAL, wanted[table.name]}:
            raise NotDistributable(
                f"{table.name} is {table.kind}, and not {wanted[table.name]}. Citus cannot take that back, since the "
                "table has an identity column: restore the backup of before, and run this on it."
            )
    return found


def _keys() -> tuple[list[Key], set[str]]:
    """Return the expected foreign keys, and the names of the existing ones. Raises NotDistributable."""
    keys = list(foreign_keys())
    present = {name for (name,) in fetch(_KEYS, {"tables": _names(DISTRIBUTED)})}
    if unknown := sorted(present - {key.name for key in keys}):
        raise NotDistributable(
            f"This version does not know the foreign keys {', '.join(unknown)}, and could not put them back. Drop "
            "them, and add them again afterwards."
        )
    return keys, present


@contextmanager
def _lock() -> Iterator[None]:
    """Hold the lock of a conversion, and refuse while this service is at work."""
    if not fetch("SELECT pg_try_advisory_lock(%s)", [LOCK])[0][0]:
        raise NotDistributable(
            "Another distribute is under way. If its process was killed, its last statement still runs: wait for it."
        )
    try:
        [(others,)] = fetch(_AT_WORK, [settings.DATABASES[DEFAULT_DB_ALIAS]["OPTIONS"]["application_name"]])
        if others:
            raise NotDistributable(
                f"Web servers, workers or commands of this service are connected to the database ({others:,}). Stop "
                "them, and run it again."
            )
        yield
    finally:
        # The connection may be lost.
        with suppress(DatabaseError):
            fetch("SELECT pg_advisory_unlock(%s)", [LOCK])


def _run(step: Step) -> None:
    try:
        execute(step.statement)
    except DatabaseError as error:
        is_locked = isinstance(error.__cause__, errors.LockNotAvailable)
        why = "another session holds a lock" if is_locked else describe_database_error(error)
    else:
        return
    raise NotDistributable(
        f"{step.summary}: not done, {why}. What was done before stays done. Mend that, and run it again."
    )
