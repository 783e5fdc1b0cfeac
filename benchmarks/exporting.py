"""The floor of an export: the same lines by one COPY, and the plainest way to put them into the bucket."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from boto3.s3.transfer import S3Transfer
from psycopg import Connection

from benchmarks.filling import FilledChatbot
from chatbots.buckets import hosted_storage
from compliance.models import Export
from conversations.csv_cells import NUMBER, PHONE


def _time(instant: str) -> str:
    return f"""to_char({instant} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def _guarded(text: str) -> str:
    harmless = f"^(({NUMBER})|({PHONE}))$"
    return f"""CASE WHEN left({text}, 1) IN ('''', '=', '@', E'\\t', E'\\r')
                  OR (left({text}, 1) IN ('+', '-') AND {text} !~ '{harmless}')
                THEN '''' || {text} ELSE coalesce({text}, '') END"""


# The columns of the file. Repeated here, so that a change of the product's own SELECT is measured against the former
# one. The bytes are compared to detect an outdated floor.
CONVERSATION = {
    "conversation_id": _guarded("c.external_id"),
    "conversation_started_at": _time("c.started_at"),
    "user_channel": "c.channel",
    "language": _guarded("c.language"),
    "user_name": _guarded("c.user_name"),
    "push": "c.has_push::text",
    "agent_handover": "c.has_agent_handover::text",
    "file_upload": "c.has_file_upload::text",
    "conversation_score": "coalesce(c.score::text, '')",
    "csat_score": "coalesce(c.csat_score::text, '')",
    "csat_vote": "coalesce(c.csat_vote, '')",
    "csat_comment": _guarded("c.csat_comment"),
    "uci_key": "coalesce(u.name, '')",
    "uci_value": _guarded("u.value"),
}
MESSAGE = {
    "message_id": _guarded("e.external_id"),
    "sent_at": f"coalesce({_time('e.sent_at')}, '')",
    "sender": "coalesce(e.sender, '')",
    "message_kind": "coalesce(e.kind, '')",
    "text": _guarded("e.text"),
    "file_name": _guarded("e.file_name"),
    "file_id": "coalesce(e.file_id::text, '')",
}
# Conversations with the cells of their columns, to be joined or filtered.
CONVERSATIONS = f"""
        SELECT c.id, c.started_at, {", ".join(f"{cell} AS {name}" for name, cell in CONVERSATION.items())}
          FROM conversations_conversation c
          LEFT JOIN LATERAL (
               SELECT v.name, i.value
                 FROM conversations_identity i JOIN chatbots_variable v ON v.id = i.variable_id
                WHERE i.conversation_id = c.id
                ORDER BY i.value COLLATE "C", v.name COLLATE "C"
                LIMIT 1) u ON TRUE
"""  # noqa: S608  nothing in it comes from outside
HEADER = (",".join(f'"{name}"' for name in (*CONVERSATION, *MESSAGE)) + "\n").encode()
_COPY = f"""
COPY (
    WITH chosen AS (
        {CONVERSATIONS}
         WHERE c.id IN (SELECT conversation_id FROM conversations_identity
                         WHERE chatbot_id = <chatbot> AND variable_id = <variable> AND digest = '<digest>')
         ORDER BY c.started_at
        OFFSET 0
    ), entries AS (
        SELECT chosen.*, e.*
          FROM chosen
          LEFT JOIN LATERAL (
               SELECT m.id AS message_id, m.external_id, m.sent_at, m.sender, m.kind, m.text,
                      f.id AS file_id, f.name AS file_name
                 FROM (SELECT * FROM conversations_message WHERE conversation_id = chosen.id) m
                 FULL JOIN (SELECT * FROM conversations_uploadedfile
                             WHERE conversation_id = chosen.id AND state = 'stored') f ON f.message_id = m.id
               ) e ON TRUE
         ORDER BY chosen.started_at, e.sent_at, e.message_id, e.file_id
        OFFSET 0
    )
    SELECT {", ".join(CONVERSATION)}, {", ".join(MESSAGE.values())}
      FROM entries e
     ORDER BY e.started_at, e.sent_at, e.message_id, e.file_id
) TO STDOUT (FORMAT csv, FORCE_QUOTE *)
"""  # noqa: S608  nothing in it comes from outside


class FloorDiffers(Exception):
    """The floor and the product wrote different files, so they cannot be compared."""


class Floor:
    """Writes the files of a chatbot's chatters, one after the other, on one connection."""

    def __init__(self, connection: Connection, filled: FilledChatbot) -> None:
        self._connection = connection
        statement = _COPY.replace("<chatbot>", str(filled.chatbot)).replace("<variable>", str(filled.variable))
        self._filled = filled
        self._begin, self._end = statement.split("<digest>")
        self._storage = hosted_storage()
        self._client = self._storage.client
        self.sha256: dict[str, str] = {}

    def put(self, value: str) -> None:
        """COPY into memory, then one PUT: for a small file."""
        data = b"".join([HEADER, *self._copy(value)])
        self._client.put_object(Bucket=self._storage.bucket_name, Key=self.key(value), Body=data)
        self.sha256[value] = hashlib.sha256(data).hexdigest()

    def upload(self, value: str, scratch: Path) -> None:
        """For a large file."""
        self.sha256[value] = upload(self._copy(value), scratch, self.key(value))

    def check(self, filled: FilledChatbot) -> None:
        """Compare with the product's files of the same chatters. Raises FloorDiffers."""
        ours = set(Export.objects.filter(chatbot=filled.chatbot).values_list("sha256", flat=True))
        if not ours or not ours <= set(self.sha256.values()):
            raise FloorDiffers("Ours and the floor have written different files.")

    @staticmethod
    def key(value: str) -> str:
        return f"floor/{value}.csv"

    def _copy(self, value: str) -> Iterator[bytes]:
        return blocks_of(self._connection, f"{self._begin}\\x{self._filled.digest_of(value).hex()}{self._end}")


def blocks_of(connection: Connection, statement: str) -> Iterator[bytes]:
    """Yield what a COPY writes."""
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        yield from map(bytes, copy)


def upload(blocks: Iterable[bytes], scratch: Path, key: str) -> str:
    """Write the lines into a file, and send it by boto3's `upload_file`, its threads included; return its sha256."""
    digest = hashlib.sha256(HEADER)
    with scratch.open("wb", buffering=1024 * 1024) as file:
        file.write(HEADER)
        for block in blocks:
            file.write(block)
            digest.update(block)
    storage = hosted_storage()
    S3Transfer(storage.client).upload_file(str(scratch), storage.bucket_name, key)
    return digest.hexdigest()
