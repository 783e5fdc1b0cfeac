"""The floor of a daily extract: the same lines by one COPY into a file, and boto3's `upload_file`."""

import hashlib
from datetime import datetime
from pathlib import Path

from boto3.s3.transfer import S3Transfer
from psycopg import Connection

from benchmarks.exporting import CONVERSATION, HEADER, MESSAGE
from chatbots.buckets import hosted_storage

KEY = "floor/day.csv"

# Repeated here, as that of the exports.
_COPY = f"""
COPY (
    WITH said AS (
        SELECT id AS message_id, conversation_id AS number, external_id, sent_at, sender, kind, text
          FROM conversations_message WHERE chatbot_id = <chatbot> AND sent_at >= '<starts>' AND sent_at < '<ends>'
    ), chosen AS MATERIALIZED (
        SELECT c.id, c.started_at, {", ".join(f"{cell} AS {name}" for name, cell in CONVERSATION.items())}
          FROM conversations_conversation c
          LEFT JOIN LATERAL (
               SELECT v.name, i.value
                 FROM conversations_identity i JOIN chatbots_variable v ON v.id = i.variable_id
                WHERE i.conversation_id = c.id
                ORDER BY i.value COLLATE "C", v.name COLLATE "C"
                LIMIT 1) u ON TRUE
         WHERE c.id IN (SELECT number FROM said) AND c.deletion_request_id IS NULL
    )
    SELECT {", ".join(CONVERSATION)}, {", ".join(MESSAGE.values())}
      FROM (SELECT chosen.*, said.*, f.id AS file_id, f.name AS file_name
              FROM said JOIN chosen ON chosen.id = said.number
              LEFT JOIN conversations_uploadedfile f ON f.message_id = said.message_id AND f.state = 'stored') e
     ORDER BY e.started_at, e.sent_at, e.message_id, e.file_id
) TO STDOUT (FORMAT csv, FORCE_QUOTE *)
"""  # noqa: S608  nothing in it comes from outside


def upload(connection: Connection, scratch: Path, *, chatbot: int, starts_at: datetime, ends_at: datetime) -> str:
    """Write the day's lines into a file and send it; return its sha256."""
    values = {"<chatbot>": str(chatbot), "<starts>": starts_at.isoformat(), "<ends>": ends_at.isoformat()}
    statement = _COPY
    for name, value in values.items():
        statement = statement.replace(name, value)
    digest = hashlib.sha256(HEADER)
    with scratch.open("wb", buffering=1024 * 1024) as file:
        file.write(HEADER)
        connection.execute("SET work_mem = '64MB'")
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for block in copy:
                file.write(block)
                digest.update(block)
    storage = hosted_storage()
    S3Transfer(storage.client).upload_file(str(scratch), storage.bucket_name, KEY)
    return digest.hexdigest()
