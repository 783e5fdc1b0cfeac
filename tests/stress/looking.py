"""The contents of the database and the bucket, read independently: on a separate connection, through S3."""

import threading
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from botocore.exceptions import ClientError
from django.db import connection

from common.storage import ObjectStorage
from conversations.placement import is_distributed
from tests.stress.actors import ACTING
from tests.stress.truth import Place, found_in, places_of

_ROWS = """
SELECT c.id, c.deleted_at IS NOT NULL, c.deletion_request_id,
       c.external_id IS NOT NULL OR c.user_name IS NOT NULL OR c.csat_comment IS NOT NULL,
       (SELECT coalesce(array_agg(m.text), '{}') FROM conversations_message m
         WHERE m.conversation_id = c.id AND m.chatbot_id = c.chatbot_id),
       (SELECT count(*) FROM conversations_uploadedfile f
         WHERE f.conversation_id = c.id AND f.chatbot_id = c.chatbot_id),
       (SELECT count(*) FROM conversations_uploadedfile f
         WHERE f.conversation_id = c.id AND f.chatbot_id = c.chatbot_id AND f.state = 'stored'),
       (SELECT count(*) FROM conversations_identity i
         WHERE i.conversation_id = c.id AND i.chatbot_id = c.chatbot_id AND i.value IS NOT NULL),
       (SELECT count(*) FROM conversations_variablevalue v
         WHERE v.conversation_id = c.id AND v.chatbot_id = c.chatbot_id),
       (SELECT count(*) FROM conversations_refusedidentity r
         WHERE r.conversation_id = c.id AND r.chatbot_id = c.chatbot_id),
       (SELECT count(*) FROM conversations_identitylookup l
         WHERE l.conversation_id = c.id AND l.chatbot_id = c.chatbot_id)
  FROM conversations_conversation c WHERE c.id = ANY(%s)
"""
_IDENTITIES = """
SELECT conversation_id, value, established_by FROM conversations_identity
 WHERE conversation_id = ANY(%s) AND value IS NOT NULL
"""
_REFUSED = """
SELECT conversation_id FROM conversations_identitylookup
 WHERE conversation_id = ANY(%s) AND state = 'failed' AND last_error = 'not_stored'
"""
_TEXTS = """
SELECT text FROM conversations_message WHERE text LIKE '%%planted.%%'
 UNION SELECT user_name FROM conversations_conversation WHERE user_name LIKE '%%planted.%%'
 UNION SELECT csat_comment FROM conversations_conversation WHERE csat_comment LIKE '%%planted.%%'
"""
_KEYS = """
SELECT object_key FROM conversations_uploadedfile UNION SELECT key FROM compliance_export
 UNION SELECT key FROM compliance_exportfile UNION SELECT key FROM conversations_dailyextract
"""
_KEPT = """
SELECT e.key FROM compliance_leftcopy l JOIN compliance_export e ON e.id = l.export_id
 WHERE l.deletion_id = %s AND e.key IS NOT NULL
"""
_NAMED = """
SELECT e.request_id FROM compliance_leftcopy l JOIN compliance_export e ON e.id = l.export_id WHERE l.deletion_id = %s
"""
_PENDING = "SELECT request_id, kind FROM compliance_journalentry WHERE kind IN ('accepted', 'withdrawn')"
_REQUESTS = """
SELECT r.id, r.status, r.completed_at, r.started_at IS NOT NULL, r.error_code, coalesce(r.hold_reason, ''), e.key,
       r.unverified_left_out, r.cutoff_at, e.hosting, 'export_pending' = ANY(r.approved_holds)
  FROM compliance_compliancerequest r LEFT JOIN compliance_export e ON e.request_id = r.id
"""
_WRITTEN = """
SELECT id, 'reference', reference FROM compliance_compliancerequest
 UNION ALL SELECT id, 'callback_url', callback_url FROM compliance_compliancerequest
 UNION ALL SELECT request_id, 'note', text FROM compliance_requestnote WHERE text IS NOT NULL
"""
_REPEATS = """
SELECT again.removed_id, again.repeat_id, r.received_at
  FROM compliance_repeatedexport again JOIN compliance_compliancerequest r ON r.id = again.repeat_id
 ORDER BY r.seq
"""
_EVENTS = """
SELECT request_id, array_agg(event) FROM chatbots_changelogentry
 WHERE event IN ('request.completed', 'request.cancelled', 'request.rejected') GROUP BY request_id
"""
_COUNTS = """
SELECT sum(conversations), sum(messages), sum(files) FROM compliance_compliancerequest
 WHERE kind IN ('deletion', 'retention')
"""
# On Citus, where it may wait on a machine.
_BLOCKING = (
    "SELECT citus_pid_for_gpid(blocking_gpid) FROM citus_lock_waits WHERE citus_pid_for_gpid(waiting_gpid) = %s"
)


class Row(NamedTuple):
    """What the tables hold of a conversation."""

    number: int
    is_erased: bool
    closed_by: UUID | None
    is_named: bool
    texts: list[str]
    files: int
    stored_files: int
    people: int
    values: int
    refused: int
    lookups: int

    @property
    def is_closed(self) -> bool:
        return self.closed_by is not None

    @property
    def is_empty(self) -> bool:
        return self.is_wordless and not self.files

    @property
    def is_wordless(self) -> bool:
        """Return whether only files can be left, hidden until the storage removes them."""
        left = [self.is_named, self.texts, self.stored_files, self.people, self.values, self.refused, self.lookups]
        return self.is_erased and not any(left)


class Request(NamedTuple):
    id: UUID
    status: str
    completed_at: datetime | None
    has_begun: bool
    error_code: str
    hold_reason: str
    key: str | None
    left_out: int
    cutoff_at: datetime | None
    hosting: str | None
    ignores_exports: bool


class Found(NamedTuple):
    """A version of an object: its key, and the planted texts that it holds."""

    key: str
    texts: frozenset[str]
    version: str

    @property
    def places(self) -> frozenset[Place]:
        """The conversations of which it holds anything."""
        return frozenset(places_of(self.texts))


class Onlooker:
    """Reads without taking a lock, and calls the storage outside all actors."""

    def __init__(self, storage: ObjectStorage, clients: ObjectStorage) -> None:
        self.lock = threading.RLock()
        # Versions that a restored database cannot know of.
        self.orphans: set[str] = set()
        self._storage, self._clients = storage, clients
        self._reader = psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor})
        self._reader.autocommit = True
        self._known: dict[tuple[str, str, str], frozenset[str]] = {}

    def close(self) -> None:
        self._reader.close()

    def requests(self) -> list[Request]:
        return [Request(*row) for row in self._read(_REQUESTS)]

    def repeats(self) -> list[tuple[UUID, UUID, datetime]]:
        """Return the exports that were filed again: the former request, the new one, and when."""
        return self._read(_REPEATS)

    def rows(self, numbers: Iterable[int]) -> dict[int, Row]:
        return {row[0]: Row(*row) for row in self._read(_ROWS, [list(numbers)])}

    def identities(self, numbers: list[int]) -> list[tuple[int, str, str]]:
        """Return the stored identities of conversations: number, value, and how it was established."""
        return self._read(_IDENTITIES, [numbers])

    def refused(self, numbers: list[int]) -> list[int]:
        """Return those of the conversations whose look-up has ended with a value that was refused."""
        return [number for (number,) in self._read(_REFUSED, [numbers])]

    def texts(self) -> set[str]:
        """Return all planted texts of conversations that are in the database."""
        return found_in(" ".join(text for (text,) in self._read(_TEXTS)).encode())

    def keys(self) -> set[str]:
        """Return the keys of all objects that the database knows of."""
        return {key for (key,) in self._read(_KEYS)}

    def kept(self, request_id: UUID) -> list[str]:
        """Return the keys of the exports that a request says it has left."""
        return [key for (key,) in self._read(_KEPT, [request_id])]

    def written(self) -> dict[tuple[UUID, str], set[str]]:
        """Return the texts on requests, by the request and what they are."""
        found: dict[tuple[UUID, str], set[str]] = {}
        for request_id, what, text in self._read(_WRITTEN):
            found.setdefault((request_id, what), set()).add(text)
        return found

    def named(self, request_id: UUID) -> set[UUID]:
        """Return the export requests of which a request says that it has left their copies."""
        return {export_id for (export_id,) in self._read(_NAMED, [request_id])}

    def pending(self) -> dict[UUID, str]:
        """Return the requests of which the ledger lacks the acceptance, or else the decision: `withdrawn`."""
        return dict(sorted(self._read(_PENDING), key=lambda row: str(row[1]), reverse=True))

    def final_events(self) -> dict[UUID, list[str]]:
        return dict(self._read(_EVENTS))

    def counts(self) -> tuple[int, int, int]:
        """Return how many conversations, messages and files deletions count as erased, all together."""
        [(conversations, messages, files)] = self._read(_COUNTS)
        return int(conversations or 0), int(messages or 0), int(files or 0)

    def blocking(self, pid: int) -> list[int]:
        """Return the processes of the database for which this one waits."""
        if is_distributed():
            return [other for (other,) in self._read(_BLOCKING, [pid])]
        [(pids,)] = self._read("SELECT pg_blocking_pids(%s)", [pid])
        return list(pids)

    def objects(self) -> list[Found]:
        """Return every version of every object, but no orphans."""
        return self._objects(self._storage)

    def delivered(self) -> list[Found]:
        """Return what is in the client's own bucket."""
        return self._objects(self._clients)

    def _objects(self, storage: ObjectStorage) -> list[Found]:
        acting = ACTING.set(None)
        try:
            pages = storage.client.get_paginator("list_object_versions").paginate(Bucket=storage.bucket_name)
            versions = [one for page in pages for one in page.get("Versions", ())]
            return [
                Found(one["Key"], texts, one["VersionId"])
                for one in versions
                if one["VersionId"] not in self.orphans
                and (texts := self._texts(storage, one["Key"], one["VersionId"], one["ETag"])) is not None
            ]
        finally:
            ACTING.reset(acting)

    def _texts(self, storage: ObjectStorage, key: str, version: str, tag: str) -> frozenset[str] | None:
        if key.startswith("erasure_ledger/"):
            return frozenset()
        if (key, version, tag) not in self._known:
            try:
                answer = storage.client.get_object(Bucket=storage.bucket_name, Key=key, VersionId=version)
                self._known[key, version, tag] = frozenset(found_in(answer["Body"].read()))
            except ClientError:
                return None  # removed since it was listed
        return self._known[key, version, tag]

    def _read(self, statement: str, values: Any = ()) -> list[Any]:
        with self.lock:
            return self._reader.execute(statement, values).fetchall()
