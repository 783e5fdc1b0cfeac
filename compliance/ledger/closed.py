"""Commands while this database is a restored one (`compliance.ledger.service`).

A command that works on data would show, send or lose data that a replay has yet to correct. So all commands refuse,
except those below: they only read, remove access, or end this state.
"""

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError

from compliance.ledger import service
from compliance.models import Service

State = Service.State
Reason = Service.Reason

# Exit code of every command that refuses.
CLOSED = 7

MAY_RUN: Mapping[str, str] = {
    "replay_erasures": "it ends this state",
    "adopt": "it ends this state, for a copy",
    "qcluster": "workers take nothing, but catch up after a failover",
    "health": "it reports this state",
    "verify_erasure": "it only looks, for what a backup has brought back",
    "reconcile_storage": "it only looks: --fix refuses by itself",
    "bucket_credentials": "it only looks",
    "bucket_policy": "it prints a policy, from the settings alone",
    "revoke_api_key": "it takes access away",
    "revoke_bucket_credentials": "it takes access away, which holds in the storage at once",
    "distribute": "it moves tables to other machines, perhaps on a new server",
    "grant_roles": "it sets up the database's roles, perhaps on a new server",
    "rotate_secrets": "it changes under which key secrets are stored, and nothing else",
    "recompute_digests": "it mends what a replay finds people by",
    "data_map": "it prints what the code declares",
    "doc_tables": "it prints what the code declares",
}

_ADVICE = {
    Reason.OTHER_SERVER: "The database is on another server, or was loaded from a dump: it was restored from "
    "a backup, or copied. Nothing works on its data before `manage.py replay_erasures` has had erased again who was "
    "erased since, or `manage.py adopt --new-service` has made a copy a service of its own.",
    Reason.OBJECTS_UNKNOWN: "The database was restored from a backup. Nothing works on its data before "
    "`manage.py replay_erasures` has had erased again who was erased since.",
}
_CATCHING_UP = (
    "The database had a failover, and workers repeat what it has lost. This ends by itself, as a rule within "
    "minutes: run the command again then. `manage.py health` says how it stands."
)


def refuse_unless_open(*, name: str, **_: Any) -> None:
    """Raise CommandError unless the database is open, or this command may run (receiver of `before_command`)."""
    if name in MAY_RUN or (found := service.current()).state == State.OPEN:
        return
    advice = _CATCHING_UP if found.state == State.CATCHING_UP else _ADVICE[Reason(found.reason)]
    raise CommandError(f"{name} did nothing. {advice}", returncode=CLOSED)
