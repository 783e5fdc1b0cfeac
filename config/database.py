"""How connections to PostgreSQL are opened, beside what DATABASE_URL says."""

from typing import Any

from django.db.backends.postgresql.features import DatabaseFeatures

# For `NULLS NOT DISTINCT`. Django refuses an older server at the first connection, so that nothing starts.
DatabaseFeatures.minimum_database_version = (15,)

# A server that was cut off, as by a failover that drops packets, is given up after a minute. The kernel would wait a
# quarter of an hour for what was sent, and two hours for an answer. DATABASE_URL may say otherwise.
_GIVING_UP = {
    "connect_timeout": 10,
    "tcp_user_timeout": 60_000,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


def connecting(database: dict[str, Any], *, idle_seconds: int) -> dict[str, Any]:
    """Return the settings to add to those that DATABASE_URL gave of a database.

    PostgreSQL ends a session that says nothing for `idle_seconds` within a transaction: its process was stopped, or
    its machine lost, and it would keep its locks for ever, or until TCP gives up after hours. 0 is no limit.
    """
    options = _GIVING_UP | database.get("OPTIONS", {}) | {"application_name": "data-compliance-api"}
    limit(options, idle_in_transaction_session_timeout=idle_seconds)
    # Connections persist: otherwise django-q2 would close the caller's connection after an enqueue.
    return {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True, "OPTIONS": options}


def limit(options: dict[str, Any], **seconds: int) -> None:
    """Add limits of PostgreSQL's, in seconds, to the parameter `options` of a connection. 0 adds none."""
    given = [options.get("options", ""), *(f"-c {name}={most}s" for name, most in seconds.items() if most)]
    if text := " ".join(filter(None, given)):
        options["options"] = text
