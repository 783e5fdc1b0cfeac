"""The conversations of an export, one after the other, with their messages: as JSON Lines, and for people to read.

The keys of the objects are the names of the CSV's columns. Instants are `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
docs/clients/export.schema.json is the schema of a line.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from psycopg import Connection, sql

from conversations.csv_cells import time_sql
from conversations.transcripts import CHUNK_BYTES, Transcripts

JSON_LINES = "application/x-ndjson"
# The files of conversation `c` by message (0: none), read once for all its messages. jsonb_agg: json_agg writes line
# ends between objects.
_FILES = """
SELECT jsonb_object_agg(coalesce(message_id, 0), files) AS by_message
  FROM (SELECT message_id, jsonb_agg(jsonb_build_object('file_id', id, 'file_name', name) ORDER BY id) AS files
          FROM conversations_uploadedfile
         WHERE conversation_id = c.id AND chatbot_id = ANY({chatbots}) AND state = 'stored' AND c.has_file_upload
         GROUP BY message_id) AS of_message
"""
# The texts of a bunch of messages have about as many bytes, and a short text counts as some: 25 messages at most. One
# by one, they cost psycopg as much time as PostgreSQL.
_BYTES_AT_ONCE, _LEAST_BYTES = 100_000, 4_000
# A line for each conversation, which begins with its number, and one for each bunch of its messages. JSON contains
# neither the separator nor the quote, so COPY quotes nothing. Of a message, json_build_object takes twice as long. As
# in the CSV, the order of each step lets PostgreSQL sort conversation by conversation.
_SEPARATOR = b"\x02"
_COPY = sql.SQL(f"""
COPY (
    {{head}}, chosen AS (
        SELECT c.*
          FROM stored AS s
         CROSS JOIN LATERAL (
               SELECT * FROM conversations_conversation
                WHERE id = s.id AND chatbot_id = ANY({{chatbots}}) OFFSET 0) AS c
         WHERE s.is_chosen
         ORDER BY c.started_at, c.id
    ), lines AS (
        SELECT c.started_at, c.id, l.*
          FROM chosen AS c
         CROSS JOIN LATERAL ({_FILES}) AS f
         CROSS JOIN LATERAL (
               SELECT c.id AS number, NULL::timestamptz AS sent_at, NULL::bigint AS bunch, json_build_object(
                      'conversation_id', c.external_id, 'conversation_started_at', {time_sql("c.started_at")},
                      'user_channel', c.channel, 'language', c.language, 'user_name', c.user_name,
                      'push', c.has_push, 'agent_handover', c.has_agent_handover, 'file_upload', c.has_file_upload,
                      'conversation_score', c.score, 'csat_score', c.csat_score, 'csat_vote', c.csat_vote,
                      'csat_comment', c.csat_comment, 'uci_key', u.name, 'uci_value', u.value,
                      'files', coalesce(f.by_message -> '0', '[]'))::text AS line
                 FROM (SELECT) AS once
                 LEFT JOIN LATERAL (
                      SELECT v.name, i.value
                        FROM conversations_identity i JOIN chatbots_variable v ON v.id = i.variable_id
                       WHERE i.conversation_id = c.id AND i.chatbot_id = ANY({{chatbots}})
                       ORDER BY i.value COLLATE "C", v.name COLLATE "C" LIMIT 1) AS u ON TRUE
                UNION ALL
               SELECT NULL, min(m.sent_at), m.bunch, string_agg(
                      concat('{{{{"message_id":', to_json(m.external_id), ',"sent_at":"', {time_sql("m.sent_at")},
                             '","sender":"', m.sender, '","message_kind":"', m.kind, '","text":', to_json(m.text),
                             ',"files":', coalesce(f.by_message -> m.id::text, '[]'), '}}}}'),
                      ', ' ORDER BY m.sent_at, m.id)
                 FROM (SELECT *, sum(greatest(octet_length(text), {_LEAST_BYTES}))
                                 OVER (ORDER BY sent_at, id ROWS UNBOUNDED PRECEDING) / {_BYTES_AT_ONCE} AS bunch
                         FROM conversations_message
                        WHERE conversation_id = c.id AND chatbot_id = ANY({{chatbots}}) OFFSET 0) AS m
                GROUP BY m.bunch) AS l
         ORDER BY c.started_at, c.id, l.sent_at NULLS FIRST, l.bunch
    )
    SELECT number, line FROM lines ORDER BY started_at, id, sent_at NULLS FIRST, bunch
) TO STDOUT (FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')
""")  # noqa: S608  (texts of ours)


class Chat(NamedTuple):
    """A conversation: its number, a JSON object without messages, and those of its messages, all in UTF-8.

    The messages come in bunches, with commas in between. They can be read once, before the next chat.
    """

    number: int
    about: bytes
    messages: Iterator[bytes]


def read(connection: Connection[Any], transcripts: Transcripts) -> Generator[Chat]:
    """Yield the conversations of one file, by their beginning, in the caller's transaction.

    Read it to the end, or close it, before reading anything else. Raises psycopg's errors.
    """
    ahead = b""

    def of_one() -> Iterator[bytes]:
        nonlocal ahead
        for line in lines:
            if not line.startswith(_SEPARATOR):
                ahead = line
                return
            yield line[1:-1]

    with connection.cursor() as cursor, cursor.copy(_COPY.format(**transcripts.parts)) as copy:
        # libpq yields whole lines, one at a time.
        lines = map(bytes, copy)
        next(of_one(), None)
        while ahead:
            number, _, about = ahead[:-1].partition(_SEPARATOR)
            ahead = b""
            messages = of_one()
            yield Chat(int(number), about, messages)
            for _ in messages:
                pass  # what the caller has not read


def json_lines(chats: Iterable[Chat]) -> Generator[bytes]:
    """Yield one line for each conversation, in chunks of CHUNK_BYTES or slightly more."""
    buffer = bytearray()
    for chat in chats:
        for _ in chain(copied(chat, buffer).messages, [b"after the last"]):
            if len(buffer) >= CHUNK_BYTES:
                yield bytes(buffer)
                buffer.clear()
    if buffer:
        yield bytes(buffer)


def copied(chat: Chat, into: bytearray) -> Chat:
    """Return the chat. While its messages are read to their end, its line of JSON is added to `into`."""

    def messages() -> Iterator[bytes]:
        into.extend(chat.about[:-1] + b', "messages" : [')
        separator = b""
        for bunch in chat.messages:
            into.extend(separator + bunch)
            separator = b", "
            yield bunch
        into.extend(b"]}\n")

    return chat._replace(messages=messages())
