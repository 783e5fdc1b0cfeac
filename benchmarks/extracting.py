"""The floor of a daily extract: the same lines by one COPY into a file, and boto3's `upload_file`."""

import time
from datetime import datetime
from pathlib import Path

from psycopg import Connection

from benchmarks import exporting
from benchmarks.exporting import CONVERSATION, CONVERSATIONS, MESSAGE
from benchmarks.filing import NotCompleted
from conversations.models import DailyExtract

KEY = "floor/day.csv"

# Repeated here, as that of the exports.
_COPY = f"""
COPY (
    WITH said AS (
        SELECT id AS message_id, conversation_id AS number, external_id, sent_at, sender, kind, text
          FROM conversations_message WHERE chatbot_id = <chatbot> AND sent_at >= '<starts>' AND sent_at < '<ends>'
    ), chosen AS MATERIALIZED (
        {CONVERSATIONS}
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
    connection.execute("SET work_mem = '64MB'")
    return exporting.upload(exporting.blocks_of(connection, statement), scratch, KEY)


def wait(chatbot: int, *, every: float) -> None:
    """Wait until all planned days of the chatbot are made. Raises NotCompleted."""
    unmade = DailyExtract.objects.filter(chatbot=chatbot).exclude(state=DailyExtract.State.DONE)
    while left := unmade.first():
        if left.error_code:
            raise NotCompleted(f"The extract could not be made: {left.error_code}.")
        time.sleep(every)
