"""The contents of the database and the bucket, read independently: on a separate connection, through S3."""

import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import psycopg
from django.db import connection

from common.storage import ObjectStorage
from conversations.placement import is_distributed
from tests.oracle import evidence
from tests.oracle.evidence import Bodies, ConversationRow, Evidence, Objects, ObjectVersion, RequestRow, versions_in
from tests.oracle.model import Conversation
from tests.stress.actors import ACTING

_KEYS = """
SELECT object_key FROM conversations_uploadedfile UNION SELECT key FROM compliance_export
 UNION SELECT key FROM compliance_exportfile UNION SELECT key FROM conversations_dailyextract
"""
_LEFT = """
SELECT e.request_id::text, e.key
  FROM compliance_leftcopy l JOIN compliance_export e ON e.id = l.export_id WHERE l.deletion_id = %s
"""
_PENDING = "SELECT request_id::text, kind FROM compliance_journalentry WHERE kind IN ('accepted', 'withdrawn')"
_WRITTEN = """
SELECT id::text, 'reference', reference FROM compliance_compliancerequest
 UNION ALL SELECT id::text, 'callback_url', callback_url FROM compliance_compliancerequest
 UNION ALL SELECT request_id::text, 'note', text FROM compliance_requestnote WHERE text IS NOT NULL
"""
# On Citus, where it may wait on a machine.
_BLOCKING = (
    "SELECT citus_pid_for_gpid(blocking_gpid) FROM citus_lock_waits WHERE citus_pid_for_gpid(waiting_gpid) = %s"
)
_LEDGER = "erasure_ledger/"


class Onlooker:
    """Reads without taking a lock, and calls the storage outside all actors."""

    def __init__(self, storage: ObjectStorage, clients: ObjectStorage) -> None:
        self.lock = threading.RLock()
        # Keys and versions that a restored database cannot know of.
        self.orphans: set[tuple[str, str]] = set()
        self._storage, self._clients = storage, clients
        self._reader = psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor})
        self._reader.autocommit = True
        self._known: Bodies = {}

    def close(self) -> None:
        self._reader.close()

    def requests(self) -> dict[str, RequestRow]:
        return evidence.requests(self._read)

    def rows(self, entries: Iterable[Conversation]) -> dict[int, ConversationRow]:
        """Return the rows of the stored ones of these conversations, by their numbers."""
        return evidence.conversations(self._read, [one.number for one in entries if one.number is not None])

    def lines(self) -> list[tuple[str, str]]:
        with self.lock:
            return evidence.lines(self._reader)

    def all(self) -> Evidence:
        """Return the oracle's evidence, without that of a running service."""
        with self.lock:
            found = evidence.of_database(self._reader)
        found.objects, found.client_objects = Objects(self._objects(self._storage), []), Objects(self.delivered(), [])
        # The row of a day that a lost life has built anew is of the file before it: an operator has mended that.
        mended = {one.key for one in self._versions(self._storage) if (one.key, one.version) in self.orphans}
        mended -= {one.key for one in found.objects.versions}
        found.extracts = [one for one in found.extracts if one.key not in mended]
        return found

    def keys(self) -> set[str]:
        return {key for (key,) in self._read(_KEYS)}

    def left(self, request_id: str) -> dict[str, str | None]:
        """Return the keys of the exports that a request lists as left, by their requests."""
        return dict(self._read(_LEFT, [request_id]))

    def written(self) -> dict[tuple[str, str], set[str]]:
        """Return the texts on requests, by the request and the field."""
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for request_id, what, text in self._read(_WRITTEN):
            found[request_id, what].add(text)
        return found

    def pending(self) -> dict[str, str]:
        """Return the requests of which the ledger lacks the acceptance, or else the decision: `withdrawn`."""
        return dict(sorted(self._read(_PENDING), key=lambda row: str(row[1]), reverse=True))

    def blocking(self, pid: int) -> list[int]:
        """Return the processes of the database for which this one waits."""
        if is_distributed():
            return [other for (other,) in self._read(_BLOCKING, [pid])]
        [(pids,)] = self._read("SELECT pg_blocking_pids(%s)", [pid])
        return list(pids)

    def objects(self) -> list[ObjectVersion]:
        """Return every version of every object, but no orphans and nothing of the ledger."""
        return self._objects(self._storage, but=_LEDGER)

    def delivered(self) -> list[ObjectVersion]:
        return self._objects(self._clients)

    def _objects(self, storage: ObjectStorage, but: str | None = None) -> list[ObjectVersion]:
        # A bucket without versions: a file that has been written again under the key of an orphan is none.
        orphans = self.orphans - {(key, "null") for key in self.keys()}
        found = self._versions(storage, but)
        return [one for one in found if one.body is not None and (one.key, one.version) not in orphans]

    def _versions(self, storage: ObjectStorage, but: str | None = None) -> list[ObjectVersion]:
        acting = ACTING.set(None)
        try:
            return list(versions_in(storage.bucket_name, storage.client, known=self._known, but=but))
        finally:
            ACTING.reset(acting)

    def _read(self, statement: str, values: Any = ()) -> list[Any]:
        with self.lock:
            return self._reader.execute(statement, values).fetchall()
