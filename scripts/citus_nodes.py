"""Databases of our own on the coordinator of Citus in CITUS_URL, and on its machines.

CITUS_URL is the URL of any database there to which the machines were added (`citus_add_node`), as a superuser who can
log in to each of them in the same way.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

URL = os.environ.get("CITUS_URL", "")

# Any number that nothing else locks in the database of CITUS_URL.
_ADDING = 20_251_127
_MEMBERS = """
SELECT groupid, nodename, nodeport FROM pg_dist_node WHERE isactive AND noderole = 'primary' ORDER BY groupid
"""


class Machine(NamedTuple):
    host: str
    port: int


def machines() -> list[Machine]:
    """Return the coordinator, under its name for the machines, and then the machines."""
    with connect() as session:
        members = session.execute(_MEMBERS).fetchall()
    if [group for group, *_ in members][:2] != [0, 1]:
        raise LookupError("CITUS_URL names no coordinator that knows its machines.")
    return [Machine(host, port) for _, host, port in members]


def connect(name: str = "", machine: Machine | None = None) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect to a database of this name, or that of CITUS_URL, on a machine or the coordinator."""
    changed = {"dbname": name} if name else {}
    where = {"host": machine.host, "port": machine.port} if machine else {}
    parameters: dict[str, Any] = {**conninfo_to_dict(URL), **changed, **where}
    return psycopg.connect(**parameters, autocommit=True)


def create(name: str, *, template: str = "template1") -> None:
    """Create a database on the coordinator, a copy of a template without Citus, and add the machines to it."""
    coordinator, *others = machines()
    drop(name)
    for machine in (None, *others):
        _run_alone(machine, "CREATE DATABASE {} TEMPLATE {}", name, template if machine is None else "template1")
        with connect(name, machine) as session:
            session.execute("CREATE EXTENSION citus")
    with connect() as turn, connect(name) as session:
        # Adding a machine also creates our roles there, which all its databases share. Two at once can fail.
        turn.execute("SELECT pg_advisory_lock(%s)", [_ADDING])
        session.execute("SELECT citus_set_coordinator_host(%s, %s)", coordinator)
        for machine in others:
            session.execute("SELECT citus_add_node(%s, %s)", machine)


def create_plain(name: str) -> None:
    """Create a database on the coordinator without Citus, such as a template for `create`."""
    _run_alone(None, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
    _run_alone(None, "CREATE DATABASE {}", name)


def drop(name: str) -> None:
    """Drop a database on the coordinator and its machines, if it exists."""
    for machine in (None, *machines()[1:]):
        _run_alone(machine, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


@contextmanager
def connected(name: str, *, user: str = "") -> Iterator[None]:
    """Connect Django to a database of the coordinator meanwhile, as another user if one is given."""
    where = conninfo_to_dict(URL)
    changed = {
        "HOST": where.get("host", ""),
        "PORT": str(where.get("port", "")),
        "USER": user or where.get("user", ""),
        "PASSWORD": where.get("password", ""),
        "NAME": name,
    }
    connection.close()
    # Django's connection, and code that starts programs, read these settings.
    known = [connection.settings_dict, settings.DATABASES[connection.alias]]
    before = [{key: one.get(key) for key in changed} for one in known]
    for one in known:
        one.update(changed)
    try:
        yield
    finally:
        connection.close()
        for one, kept in zip(known, before, strict=True):
            one.update(kept)


def _run_alone(machine: Machine | None, statement: str, *names: str) -> None:
    """Run a statement on one machine in a database without Citus."""
    with connect("postgres", machine) as session:
        # Citus 13 would run it on all machines of the connected database.
        session.execute("SET citus.enable_create_database_propagation = off")
        session.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
