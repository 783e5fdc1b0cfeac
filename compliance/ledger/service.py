"""This service's identity, and whether its database was restored from a backup.

The identity: its folder of the ledger, its incarnation (the life of this database), and the server that the database
is on. Each new connection compares that server before it is used, as `chatbots.digest_key` compares its key: a loaded
dump is noticed at once. `tripwire` compares the ledger.

A restored database is closed (`trip`): nothing in it is worked on, filed or shown until it was replayed.
"""

import logging
import time
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from django.apps import apps as all_apps
from django.apps.registry import Apps
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Max
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots.models import Chatbot
from common.db import execute, fetch_one
from compliance.models import Service
from compliance.work import sql
from conversations.extracts import leases
from conversations.models import Conversation

logger = logging.getLogger(__name__)

State = Service.State
Reason = Service.Reason

# An advisory lock, held by a transaction for as long as a replay runs: another one, or an adoption, does not begin.
REPLAY_LOCK = 0x6463_7265  # "dcre"

_LOG_EVERY_SECONDS = 60.0
_logged_at: float | None = None

# A loaded dump creates another table, also on the same server.
SERVER = """
(SELECT system_identifier FROM pg_control_system())
|| '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
|| '/' || 'compliance_service'::regclass::oid
"""
# The first eight digits of the name of its files.
TIMELINE = """
CASE WHEN NOT pg_is_in_recovery()
     THEN ('x' || lpad(left(pg_walfile_name(pg_current_wal_lsn()), 8), 16, '0'))::bit(64)::bigint END
"""
_HERE = f"SELECT {SERVER}, {TIMELINE}"
_COMPARE = f"SELECT server, {SERVER}, incarnation FROM compliance_service"  # noqa: S608  (texts of ours)
_FILL_IN = f"""
UPDATE compliance_service SET server = {SERVER}, timeline = coalesce(timeline, {TIMELINE}) WHERE server = ''
"""  # noqa: S608
# A connection can outlive the tables, so the part of the server's identity that can change is compared again.
_STATE = """
SELECT state, split_part(server, '/', 3) NOT IN ('', 'compliance_service'::regclass::oid::text), incarnation
  FROM compliance_service
"""

# A second process finds it tripped, or replayed: then it is another life of the database. The state can change from
# catching up to restored, but not back.
_TRIP = """
UPDATE compliance_service
   SET state = %(state)s, reason = %(reason)s, tripped_at = coalesce(tripped_at, clock_timestamp()),
       highest_number = coalesce(highest_number, %(number)s)
 WHERE (state = 'open' OR (state = 'catching_up' AND %(state)s = 'restored'))
   AND incarnation = coalesce(%(life)s, incarnation)
"""
# Waits for the transactions of running claims, and of claims that are being taken: a worker that takes one later
# finds the service closed.
_LOCK_CLAIMS = "LOCK TABLE compliance_claim IN SHARE ROW EXCLUSIVE MODE"
_REQUEUE = "UPDATE compliance_compliancerequest SET claim_id = NULL, status = 'accepted' WHERE claim_id IS NOT NULL"
_END_CLAIMS = "DELETE FROM compliance_claim"
_END_SESSIONS = "DELETE FROM django_session"


# Whether the database may be worked on: it was not restored, or was replayed since.
is_open = sql.is_open


class DatabasePosition(NamedTuple):
    """The server and timeline of this database now, for `Service.server` and `Service.timeline`."""

    server: str
    timeline: int | None


def database_position(using: str = DEFAULT_DB_ALIAS) -> DatabasePosition:
    with connections[using].cursor() as cursor:
        cursor.execute(_HERE)
        return DatabasePosition(*cursor.fetchone())


def remember(*, using: str = DEFAULT_DB_ALIAS, apps: Apps = all_apps, **_: Any) -> None:
    """Give this database an identity unless it has one (receiver of `post_migrate`)."""
    try:
        model = apps.get_model("compliance", "Service")
    except LookupError:
        return  # migrated back to before this table
    # The folder of a new service is empty: there is nothing to compare yet.
    made = model(service_id=uuid7(), incarnation=uuid7(), checked_at=Now(), **database_position(using)._asdict())
    model.objects.using(using).bulk_create([made], ignore_conflicts=True)


def current() -> Service:
    """Return the row. A database that was emptied gets another."""
    if (found := Service.objects.first()) is None:
        remember()
        found = Service.objects.get()
    return found


def state() -> State:
    """Return the state: one small query. Trips if a dump was loaded since the connection was made."""
    row = fetch_one(_STATE)
    if row is None:
        return State.OPEN
    found, is_loaded, life = row
    if is_loaded and found != State.RESTORED and trip(State.RESTORED, Reason.OTHER_SERVER, life=life):
        return State.RESTORED
    return State(found)


def log_closed(found: State) -> None:
    """Log that the service is closed, at most once a minute for each process.

    `trip` logs it in the process that was first: mostly a command, such as `migrate`, whose output is not monitored.
    """
    global _logged_at  # noqa: PLW0603  (of this process)
    now = time.monotonic()
    if _logged_at is None or now - _logged_at >= _LOG_EVERY_SECONDS:
        _logged_at = now
        logger.error("service.closed state=%s", found)


def compare(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Compare the server of a new connection (receiver of `connection_created`), and trip if it is another.

    A connection that cannot be compared for an error of the database is closed.
    """
    if connection.alias != DEFAULT_DB_ALIAS:
        return
    try:
        with connection.wrap_database_errors:
            row = _compared(connection)
        if row and not row[0]:
            execute(_FILL_IN)
        elif row and row[0] != row[1]:
            trip(State.RESTORED, Reason.OTHER_SERVER, life=row[2])
    except BaseException:
        # Otherwise the next query would use it.
        connection.close()
        raise


def _compared(connection: BaseDatabaseWrapper) -> tuple[str, str, UUID] | None:
    try:
        row: tuple[str, str, UUID] | None = connection.connection.execute(_COMPARE).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        return None  # not migrated yet, or a role without rights to this table
    return row


def trip(state: State, reason: Reason, *, life: UUID | None = None) -> bool:
    """Close the service, since its database was restored; return whether it was not closed already.

    `life` is the incarnation that was found to be restored: once it has ended, by a replay, nothing is closed.
    Ends all claims, leases of extracts and staff sessions. `restored` stays until a replay; it never becomes
    `catching_up`.
    """
    with transaction.atomic():
        if not execute(_TRIP, {"state": state, "reason": reason, "life": life, "number": highest_number()}):
            return False
        for statement in (_LOCK_CLAIMS, _REQUEUE, _END_CLAIMS, _END_SESSIONS):
            execute(statement)
        leases.release_all()
    logger.critical("service.restored state=%s reason=%s", state, reason)
    return True


def highest_number() -> int:
    """Return the highest number of a conversation that is stored, or was."""
    chatbots = list(Chatbot.objects.values_list("pk", flat=True))
    found = Conversation.objects.filter(chatbot__in=chatbots).aggregate(highest=Max("pk"))
    return found["highest"] or 0


def begin_incarnation() -> None:
    """Begin another life of this database, on its server of today, and open it; in the caller's transaction.

    After a restore, no retention period erases anything until staff confirm it: the ledger does not record whether it
    was lengthened or turned off since the backup. A failover loses an hour at most, and needs no confirmation.
    """
    if Service.objects.filter(state=State.RESTORED).exists():
        Chatbot.objects.exclude(retention_days=None).update(retention_set_at=None)
    Service.objects.update(
        **database_position()._asdict(),
        incarnation=uuid7(),
        state=State.OPEN,
        reason="",
        tripped_at=None,
        highest_number=None,
        reads_since=None,
        checked_at=Now(),
        replayed_at=Now(),
    )
