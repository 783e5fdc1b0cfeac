"""In test processes, web server, workers and commands run under their database roles.

The connection stays that of the superuser who makes what a test needs. `SET ROLE` gives it the rights of a role for
as long as a call of the API or of a page, a worker's turn or a command lasts. So each of their statements is tried
with the rights of `compliance/database_rights.py`. Servers that tests start log in as the roles.
"""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import DatabaseWrapper
from django.test.client import ClientHandler
from psycopg import errors

from compliance import database_rights, worker
from compliance.callbacks import queue as callbacks
from compliance.canary import turns as canary
from compliance.cluster import heartbeats
from compliance.lookups import queue as lookups
from compliance.notifications import delivery as mails

ROLES = {"web": "tests_web", "worker": "tests_worker"}
# Those who may log in, and nothing else: one who is to own a database, and one who is not.
OWNER, STRANGER = "tests_owner", "tests_stranger"

_DOCS = Path(__file__).parent.parent / "docs" / "reference" / "commands.md"

_role: ContextVar[str | None] = ContextVar("role", default=None)


def make(cursor: Any) -> None:
    """Make the roles in this server of PostgreSQL. It logs what is denied to whoever logs in as one of ROLES."""
    cursor.execute("SELECT rolname FROM pg_roles")
    known = {name for (name,) in cursor.fetchall()}
    for role in {*ROLES.values(), OWNER, STRANGER} - known:
        cursor.execute(f"CREATE ROLE {role} LOGIN")
        if role in ROLES.values():
            cursor.execute(f"ALTER ROLE {role} SET log_min_messages = 'error'")


def grant() -> None:
    """Give them their rights in the database that is connected."""
    database_rights.grant(**ROLES)


def command_roles() -> dict[str, str]:
    """Return the role of each command, from docs/reference/commands.md."""
    return dict(re.findall(r"^\| `(\w+)` \| (\w+)", _DOCS.read_text(encoding="utf-8"), re.MULTILINE))


@contextmanager
def role(name: str) -> Iterator[None]:
    """Have the rights of "web" or "worker" meanwhile, on connections of this thread; of any other word, all rights.

    With `role("owner")` a test acts in the middle of other work.
    """
    before = _role.set(ROLES.get(name))
    try:
        _set_role()
        yield
    finally:
        _role.reset(before)
        _set_role()


def install() -> None:
    """Run pages, a worker's run and commands under their roles, for the rest of this process."""
    _wrap(ClientHandler, "__call__", lambda *_: "web")
    turns = {
        worker: ["drain", "sweep"],
        callbacks: ["deliver"],
        lookups: ["look_up"],
        mails: ["deliver"],
        canary: ["advance"],
        heartbeats: ["seen", "record_work"],
    }
    for module, names in turns.items():
        for name in names:
            _wrap(module, name, lambda *_: "worker")
    of_commands = command_roles()
    _wrap(
        BaseCommand, "execute", lambda command, *_: of_commands.get(type(command).__module__.rpartition(".")[2], "")
    )
    connect = DatabaseWrapper.get_connection_params

    def get_connection_params(self: BaseDatabaseWrapper) -> dict[str, Any]:
        params = connect(self)
        if role := _role.get():
            params["options"] = f"{params.get('options', '')} -c role={role}"
        return params

    DatabaseWrapper.get_connection_params = get_connection_params  # type: ignore[method-assign]  # for all connections


def _set_role() -> None:
    ours = connection.connection
    if ours is not None and not ours.closed:
        # After an error the rollback of the transaction restores the former role.
        with suppress(errors.InFailedSqlTransaction):
            ours.execute(f"SET ROLE {_role.get() or 'NONE'}")


def _wrap(owner: Any, name: str, role_of: Callable[..., str]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def under_role(*args: Any, **kwargs: Any) -> Any:
        with role(role_of(*args)):
            return original(*args, **kwargs)

    setattr(owner, name, under_role)
