"""A database that looks restored: the rows of a moment, brought back after more was done.

The bucket keeps what was written since, as it does when a backup of the database is restored.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from compliance.ledger import service
from compliance.models import Service
from conversations.placement.distribution import DISTRIBUTED
from tests import databases
from tests.oracle.evidence import TABLES


class Backup:
    """The rows of all tables at this moment."""

    def __init__(self) -> None:
        service.current()  # emptied tables have none yet
        self._rows: dict[str, bytes] = {}
        with connection.cursor() as cursor:
            cursor.execute(TABLES)
            for (table,) in cursor.fetchall():
                with cursor.copy(f"COPY {table} TO STDOUT") as copied:
                    self._rows[table] = b"".join(copied)

    def restore(self, *, state: str = "restored") -> None:
        """Bring the rows back, without those written since, and have the service notice."""
        self._put_back(self._rows)
        if state != "open":
            notice(state)

    def restore_machine(self) -> None:
        """Bring back the rows of the conversation tables alone, as of a machine of Citus. Nothing notices that."""
        self._put_back(model._meta.db_table for model in DISTRIBUTED)

    def _put_back(self, tables: Iterable[str]) -> None:
        with databases.triggers_off(), connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"DELETE FROM {table}")
                if rows := self._rows[table]:
                    with cursor.copy(f"COPY {table} FROM STDIN") as copied:
                        copied.write(rows)


def notice(state: str = "restored") -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE compliance_service SET state = %s, reason = 'objects_unknown', tripped_at = now(),"
            " highest_number = (SELECT coalesce(max(id), 0) FROM conversations_conversation)",
            [state],
        )
    assert Service.objects.get().state == state


@contextmanager
def unnoticed() -> Iterator[None]:
    """Calls are served meanwhile, as before the restore was noticed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "state", lambda: service.State.OPEN)
        yield


@contextmanager
def restored(*, state: str = "restored") -> Iterator[None]:
    """Bring back what was stored before, at the end of the block."""
    backup = Backup()
    yield
    backup.restore(state=state)
