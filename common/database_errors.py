"""Classifies errors of the database, and describes them without their contents.

PostgreSQL quotes whole rows and values in its errors. The descriptions here contain none of them.
"""

from django.db import InterfaceError, OperationalError
from psycopg import Error as PsycopgError
from psycopg import OperationalError as PsycopgOperationalError
from psycopg.errors import (
    AdminShutdown,
    CannotConnectNow,
    ConnectionTimeout,
    CrashShutdown,
    DiskFull,
    IdleInTransactionSessionTimeout,
    InsufficientPrivilege,
    TooManyConnections,
)

_GOING_AWAY = (CannotConnectNow, CrashShutdown)

# The code of requests and extracts that wait because the database refuses work for now.
REFUSED = "database_refused"


def is_connection_lost(error: BaseException) -> bool:
    """Return whether the connection was lost or ended, or could not be made."""
    cause = error.__cause__
    if isinstance(cause, IdleInTransactionSessionTimeout):  # psycopg counts it among internal errors
        return True
    return isinstance(cause, PsycopgOperationalError) and (
        cause.sqlstate is None or cause.sqlstate.startswith("08") or isinstance(cause, (AdminShutdown, *_GOING_AWAY))
    )


def was_not_served(error: BaseException) -> bool:
    """Return whether the database failed to serve a statement but may serve it later.

    It was unreachable, out of some resource, or cancelled the statement or the transaction.
    """
    return isinstance(error, OperationalError | InterfaceError) or is_connection_lost(error)


def was_ended_by_operator(error: BaseException) -> bool:
    """Return whether an operator ended the connection: by a restart, or by pg_terminate_backend."""
    return isinstance(error.__cause__, AdminShutdown)


def was_refused_temporarily(error: BaseException) -> bool:
    """Return whether the database refuses any work: its disk is full, or it accepts no connection.

    A lack of memory is no such refusal: the statement itself can be its cause.
    """
    cause = error if isinstance(error, PsycopgError) else error.__cause__
    if isinstance(cause, CannotConnectNow | ConnectionTimeout | DiskFull | TooManyConnections):
        return True
    # Without a code: psycopg attaches its connection only to errors of connecting.
    return isinstance(cause, PsycopgOperationalError) and cause.sqlstate is None and cause.pgconn is not None


def describe_refusal(error: BaseException) -> str:
    """Return a sentence, with the SQLSTATE, about work that the database refused. It may be logged and stored."""
    return f"The database refused the work for now: {describe_database_error(error)}."


def describe_database_error(error: BaseException) -> str:
    """Return "SQLSTATE 23505 (constraint_name)" for a database error. It may be logged and stored.

    For a missing right it names the object: "SQLSTATE 42501 (permission denied for table chatbots_apikey)".
    """
    cause = error if isinstance(error, PsycopgError) else error.__cause__
    if not isinstance(cause, PsycopgError):
        return "database error"
    # PostgreSQL names the table, function or parameter, and no value.
    missing = cause.diag.message_primary if isinstance(cause, InsufficientPrivilege) else None
    name = missing or cause.diag.constraint_name
    return f"SQLSTATE {cause.sqlstate or 'none'}" + (f" ({name})" if name else "")
