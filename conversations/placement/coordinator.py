"""Queries to a coordinator of Citus and its machines, and the settings of sessions that change the schema there."""

from typing import Any

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, transaction

from common.database_errors import describe_database_error
from common.db import execute, fetch

OLDEST = 13

# For sessions that change the schema, until the connection ends.
SESSION = (
    # Otherwise a table with a new key to a reference table becomes one of Citus', which takes fewer statements.
    "SET citus.enable_local_reference_table_foreign_keys = off",
    # The triggers of chatbots and variables read only the row that changes, so they can run on each machine.
    "SET citus.enable_unsafe_triggers = on",
    "SET citus.shard_replication_factor = 1",
    # Otherwise a transaction that has changed all shards cannot change a reference table any more.
    "SET citus.multi_shard_modify_mode = 'sequential'",
)
_NODE_TIMEOUT, _NODES_TIMEOUT = "2s", "5s"

_VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"
_IS_COORDINATOR = "SELECT citus_is_coordinator()"
_MEMBERS = """
SELECT coalesce(bool_or(groupid = 0), FALSE), coalesce(bool_or(shouldhaveshards), FALSE)
  FROM pg_dist_node WHERE isactive AND noderole = 'primary'
"""
_ASK = """
SELECT n.nodename || ':' || n.nodeport, asked.success, asked.result
  FROM run_command_on_all_nodes(%s, give_warning_for_connection_errors => TRUE) AS asked
  JOIN pg_dist_node n USING (nodeid)
 ORDER BY n.nodeid
"""
_NOT_OWNED = """
SELECT relname FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s) AND NOT pg_has_role(relowner, 'USAGE')
 ORDER BY relname
"""


class NotDistributable(Exception):
    """The tables cannot be distributed now. The text has the reason and the remedy. Earlier steps stay done."""


def version() -> str | None:
    """Return the version of the extension in this database, such as "13.2-1", or None."""
    rows = fetch(_VERSION)
    return rows[0][0] if rows else None


def keep_local_tables(*, using: str = DEFAULT_DB_ALIAS, **_: Any) -> None:
    """Keep local tables unchanged in migrations (receiver of `pre_migrate`)."""
    with connections[using].cursor() as cursor:
        cursor.execute(_VERSION)
        if cursor.fetchone():
            for statement in SESSION:
                cursor.execute(statement)


def ask(command: str) -> list[tuple[str, bool, str]]:
    """Return the name of each machine and of the coordinator, whether it answered, and its answer."""
    with transaction.atomic():
        execute(
            "SELECT set_config('citus.node_connection_timeout', %s, TRUE), set_config('statement_timeout', %s, TRUE)",
            [_NODE_TIMEOUT, _NODES_TIMEOUT],
        )
        answers = fetch(_ASK, [command])
        # No data was written. Otherwise the settings would last until the end of the caller's transaction.
        transaction.set_rollback(True)
    return answers


def refuse_unless_coordinator() -> None:
    """Raise NotDistributable unless the database is that of a coordinator whose machines take shards."""
    found = version()
    if found is None:
        raise NotDistributable(
            "This database has no extension citus. On one PostgreSQL there is nothing to distribute; how to set up a "
            "coordinator and its machines is in docs/operators/citus.md."
        )
    if int(found.partition(".")[0]) < OLDEST:
        raise NotDistributable(f"Citus {OLDEST} or later is needed; the database has {found}.")
    if not fetch(_IS_COORDINATOR)[0][0]:
        raise NotDistributable("This machine is no coordinator. Use the DATABASE_URL of the coordinator.")
    [(has_coordinator, has_machines)] = fetch(_MEMBERS)
    if not has_coordinator:
        raise NotDistributable(
            "The coordinator is no member of its cluster, so it cannot have copies of chatbots and variables. As a "
            "superuser: SELECT citus_set_coordinator_host('its host', its port)."
        )
    if not has_machines:
        raise NotDistributable(
            "No machine takes shards. As a superuser: SELECT citus_add_node('its host', its port) for each one."
        )


def refuse_without_rights(tables: list[str]) -> None:
    """Raise NotDistributable unless this role owns the tables, and may make tables on each machine."""
    if not_owned := [name for (name,) in fetch(_NOT_OWNED, [tables])]:
        raise NotDistributable(
            f"This role does not own {', '.join(not_owned)}. Run it as the role that migrates "
            "(docs/operators/database-roles.md)."
        )
    try:
        answers = ask("SELECT has_schema_privilege('public', 'CREATE')")
    except OperationalError as error:
        raise NotDistributable(f"The machines did not answer: {describe_database_error(error)}.") from None
    for name, has_answered, answer in answers:
        if not has_answered:
            raise NotDistributable(
                f"{name} does not answer, or does not let this role in. The coordinator logs in to its machines as "
                "the role that has logged in to it: see pg_hba.conf there, and .pgpass of the coordinator's server."
            )
        if answer != "t":
            raise NotDistributable(
                f"This role may not make tables on {name}. As a superuser, there: ALTER DATABASE ... OWNER TO it."
            )
