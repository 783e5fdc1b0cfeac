"""Import of a million messages from JSONL, into empty and into filled tables, against COPY FROM of ready rows.

The command is run as an operator runs it, its start included. The floor writes the very rows that the command
made, ids and digests included, from binary files, by one COPY for each table, with all indexes and constraints.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from psycopg import sql

from benchmarks import world
from benchmarks.filling import FilledChatbot, fill
from benchmarks.results import Result, Run
from benchmarks.running import command

_MESSAGES_OF_A_CONVERSATION = 10
_TABLES = (
    "conversations_conversation",
    "conversations_nameword",
    "conversations_identity",
    "conversations_variablevalue",
    "conversations_message",
)
# In the order in which they were stored.
_ROWS = sql.SQL("COPY (SELECT * FROM {table} WHERE chatbot_id = {chatbot} ORDER BY ctid) TO STDOUT (FORMAT binary)")
_BLOCK = 1024 * 1024


class RowsDiffer(Exception):
    """The import did not store what the file holds."""


def run(run: Run) -> None:
    messages = run.size(1_000_000, 20_000)
    documents = world.SCRATCH / "documents.jsonl"
    with documents.open("w") as file:
        file.writelines(json.dumps(document) + "\n" for document in _documents(messages))
    for tables, stored in (("empty", 0), ("filled", run.size(2_000_000, 20_000))):
        floors, ours, peaks = [], [], []
        for _ in range(run.rounds(3)):
            filled = _prepared(stored)
            seconds, peak = command("import_conversations", filled.slug, str(documents))
            ready = _export_rows(filled, messages)
            filled = _prepared(stored)
            floors.append(_copy_in(ready))
            ours.append(seconds)
            peaks.append(peak)
            run.log(f"{tables} tables: floor {floors[-1]:.2f} s, ours {ours[-1]:.2f} s")
        name = f"import into {tables} tables, messages"
        run.add(Result(name, messages, median(floors), median(ours), 2.0, peak_mib=max(peaks)))
        run.note(f"{name}, a second: floor {messages / median(floors):,.0f}, ours {messages / median(ours):,.0f}")


def _prepared(stored: int) -> FilledChatbot:
    """Empty the tables, store messages of another chatbot, and create the one to import into.

    Made in the same order each time, so that it has the same ids, and so have the rows that are stored.
    """
    world.empty()
    fill("stored", chatters=stored // 50)
    filled = fill("acme", chatters=0)
    world.settle()
    return filled


def _documents(messages: int) -> Iterator[dict[str, Any]]:
    text = "a text of some length " * 5
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=60)
    conversations = messages // _MESSAGES_OF_A_CONVERSATION
    for number in range(conversations):
        began = day + timedelta(seconds=number)
        yield {
            "id": f"c-{number}",
            "channel": "widget",
            "language": "en",
            "user_name": "Some Name",
            "started_at": began.isoformat(),
            "custom_variables": {"member_id": f"member-{number % max(1, conversations // 5)}"},
            "messages": [
                {
                    "id": f"m-{each}",
                    "sender": "user",
                    "kind": "text",
                    "text": text,
                    "sent_at": (began + timedelta(seconds=each)).isoformat(),
                }
                for each in range(_MESSAGES_OF_A_CONVERSATION)
            ],
        }


def _export_rows(filled: FilledChatbot, messages: int) -> dict[str, Path]:
    """Write the rows of a chatbot into one file for each table. Raises RowsDiffer."""
    files = {table: world.SCRATCH / f"{table}.rows" for table in _TABLES}
    with world.plain_connection() as connection, connection.cursor() as cursor:
        for table, path in files.items():
            rows = _ROWS.format(table=sql.Identifier(table), chatbot=filled.chatbot)
            with path.open("wb") as file, cursor.copy(rows) as copy:
                file.writelines(copy)
        if cursor.rowcount != messages:
            raise RowsDiffer(f"{cursor.rowcount} messages were stored, not {messages}.")
    return files


def _copy_in(files: dict[str, Path]) -> float:
    with world.plain_connection() as connection, connection.cursor() as cursor:
        began = perf_counter()
        for table, path in files.items():
            with path.open("rb") as file, cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
                while block := file.read(_BLOCK):
                    copy.write(block)
        connection.commit()
        return perf_counter() - began
