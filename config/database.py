"""Options of connections to PostgreSQL, besides those of DATABASE_URL."""

from typing import Any

from django.db.backends.postgresql.features import DatabaseFeatures

# For `NULLS NOT DISTINCT`. Django refuses an older server at the first connection, so that nothing starts.
DatabaseFeatures.minimum_database_version = (15,)

# If the connection drops silently, as in a failover that drops packets, we give up after a minute. The kernel would
# wait a quarter of an hour for sent data to be acknowledged, and two hours for an answer. DATABASE_URL may set other
# times.
_GIVING_UP = {
    "connect_timeout": 10,
    "tcp_user_timeout": 60_000,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


def connecting(database: dict[str, Any], *, idle_seconds: int) -> dict[str, Any]:
    """Return the settings to add to those from DATABASE_URL.

    PostgreSQL ends a session that is idle in a transaction for `idle_seconds`. The process of such a session was
    stopped or its machine was lost, so it would keep its locks for ever, or until TCP gives up after hours. 0 is no
    limit.
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
