"""The CSV of conversations: its columns, its order, its bytes.

UTF-8, comma, every value in double quotes (header and empty ones too), lines end in `\\n`, RFC 4180 escapes.
PostgreSQL writes it itself (`COPY`), so memory stays flat at any size. The dialects for Excel have a byte-order mark,
lines that end in `\\r\\n`, and their own separator (`Chatbot.CsvDialect`); line ends within a text stay as they are.

One line is one message with its file; a message with two files has two lines. A file without a message has a line
too, with empty message cells, and so has a conversation with neither message nor file. Lines are ordered by
conversation start, message time, and id; those without a message come last. `csv_cells` has the columns, the
dialects and the guard.
"""

from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection, sql
from psycopg.abc import Buffer

from conversations.assurance import counts_sql, is_enough_sql
from conversations.csv_cells import HEADER, SEPARATORS, CsvDialect, cells, header_of
from conversations.sql import SELECTED_CONVERSATIONS

CONTENT_TYPE = "text/csv; charset=utf-8"
# COPY yields single lines; they are passed on in pieces of at least this size.
CHUNK_BYTES = 64 * 1024

# The order of each step keeps PostgreSQL from merging them: a conversation's cells are built once, not per message,
# and messages are sorted conversation by conversation, before their cells are built. That halves the time. Each line
# begins with its file's place, in quotes like every value.
_COPY = sql.SQL("""
COPY (
    {head}, chosen AS (
        SELECT f.place, c.id, c.started_at, {conversation_cells}
          FROM stored f
         CROSS JOIN LATERAL (
               SELECT * FROM conversations_conversation
                WHERE id = f.id AND chatbot_id = ANY({chatbots}) OFFSET 0) c
          LEFT JOIN LATERAL (
               SELECT v.name, i.value
                 FROM conversations_identity i JOIN chatbots_variable v ON v.id = i.variable_id
                WHERE i.conversation_id = c.id AND i.chatbot_id = ANY({chatbots})
                ORDER BY i.value COLLATE "C", v.name COLLATE "C"
                LIMIT 1) u ON TRUE
         WHERE f.is_chosen
         ORDER BY f.place, c.started_at
    ), entries AS (
        SELECT chosen.*, e.*
          FROM chosen
          LEFT JOIN LATERAL (
               SELECT m.id AS message_id, m.external_id, m.sent_at, m.sender, m.kind, m.text,
                      f.id AS file_id, f.name AS file_name
                 FROM (SELECT * FROM conversations_message
                        WHERE conversation_id = chosen.id AND chatbot_id = ANY({chatbots})) m
                 FULL JOIN (SELECT * FROM conversations_uploadedfile
                             WHERE conversation_id = chosen.id AND chatbot_id = ANY({chatbots})
                               AND state = 'stored') f ON f.message_id = m.id
               ) e ON TRUE
         ORDER BY chosen.place, chosen.started_at, e.sent_at, e.message_id, e.file_id
    )
    SELECT place, {conversation_names}, {message_cells}
      FROM entries e
     ORDER BY e.place, e.started_at, e.sent_at, e.message_id, e.file_id
) TO STDOUT (FORMAT csv, DELIMITER {delimiter}, FORCE_QUOTE *)
""")

# The index on (chatbot, sent_at) finds the messages of a window; others of the same conversations are not read. The
# messages are sorted by themselves, and joined with the cells of their conversation afterwards.
_COPY_DAY = sql.SQL("""
COPY (
    WITH chosen AS MATERIALIZED (
        SELECT c.id, c.started_at, c.has_file_upload, {conversation_cells}
          FROM (SELECT DISTINCT number AS id FROM ({messages}) sent) f
         CROSS JOIN LATERAL (
               SELECT * FROM conversations_conversation
                WHERE id = f.id AND chatbot_id = ANY({chatbots}) AND deletion_request_id IS NULL
                  AND id <> ALL({left_out}) OFFSET 0) c
          LEFT JOIN LATERAL (
               SELECT * FROM (
                      SELECT i.value, (SELECT name FROM chatbots_variable WHERE id = i.variable_id)
                        FROM conversations_identity i
                       WHERE i.conversation_id = c.id AND i.chatbot_id = ANY({chatbots}) OFFSET 0) each
                ORDER BY value COLLATE "C", name COLLATE "C"
                LIMIT 1) u ON TRUE
    ), files AS MATERIALIZED (
        SELECT f.id AS file_id, f.name AS file_name, f.message_id
          FROM chosen
         CROSS JOIN LATERAL (SELECT id, name, message_id FROM conversations_uploadedfile
                              WHERE conversation_id = chosen.id AND chatbot_id = ANY({chatbots}) AND state = 'stored'
                                AND message_id IS NOT NULL
                             OFFSET 0) f
         WHERE chosen.has_file_upload
    )
    SELECT {conversation_names}, {message_cells}
      FROM (SELECT chosen.*, sent.*, files.file_id, files.file_name
              FROM ({messages}) sent
              JOIN chosen ON chosen.id = sent.number
              LEFT JOIN files ON files.message_id = sent.message_id) e
     ORDER BY e.started_at, e.sent_at, e.message_id, e.file_id
) TO STDOUT (FORMAT csv, FORCE_QUOTE *)
""")
_MESSAGES_OF_WINDOW = sql.SQL("""
SELECT id AS message_id, conversation_id AS number, external_id, sent_at, sender, kind, text
  FROM conversations_message WHERE chatbot_id = {chatbot} AND sent_at >= {starts} AND sent_at < {ends}
""")

# Every statement begins with the files, `r`, and the stored conversations of each: the caller's query for the files
# reads local tables, which no distributed one can be joined with (docs/explanation/citus.md). A shared conversation
# has other identities beside the chatter's; one that is selected by its id has no chatter to compare with.
_IS_ENOUGH = is_enough_sql("named.established_by", "r.export_assurance", conversation="c.id", chatbots="{chatbots}")
_HEAD = sql.SQL(f"""
WITH r AS MATERIALIZED ({{wanted}}), stored AS MATERIALIZED (
    SELECT r.place, c.id, named.established_by, enough.is_enough,
           enough.is_enough AND (r.include_shared OR NOT EXISTS (
               SELECT FROM conversations_identity other
                WHERE other.conversation_id = c.id AND other.chatbot_id = ANY({{chatbots}})
                  AND other.id <> named.identity_id
           )) AS is_chosen
      FROM r
     CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS.replace("%(chatbots)s", "{chatbots}")}) AS named
     CROSS JOIN LATERAL (
           SELECT id FROM conversations_conversation
            WHERE id = named.conversation_id AND chatbot_id = ANY({{chatbots}}) AND deletion_request_id IS NULL
           OFFSET 0) AS c
     CROSS JOIN LATERAL (SELECT {_IS_ENOUGH} AS is_enough OFFSET 0) AS enough
)""")  # noqa: S608  (a text of ours)
_IN_ORDER = sql.SQL("{head} SELECT place, id FROM stored WHERE is_chosen ORDER BY id")
_CONVERSATIONS_AT_ONCE = 10_000
_COUNT = sql.SQL(f"""
{{head}}, counted AS MATERIALIZED (
    SELECT r.place, count(*) FILTER (WHERE h.is_chosen) AS conversations,
           coalesce(sum(m.messages), 0)::bigint AS messages,
           count(*) FILTER (WHERE h.is_enough AND NOT h.is_chosen) AS shared_left_out,
           count(*) FILTER (WHERE NOT h.is_enough) AS unverified_left_out,
           {counts_sql("h.established_by")} AS assurances
      FROM r
      LEFT JOIN stored h ON h.place = r.place
      LEFT JOIN LATERAL (
           SELECT count(*) AS messages FROM conversations_message
            WHERE conversation_id = h.id AND chatbot_id = ANY({{chatbots}})) m ON h.is_chosen
     GROUP BY r.place
)
SELECT * FROM counted
""")  # noqa: S608  (texts of ours)

_FILES = sql.SQL("""
{head}, files AS MATERIALIZED (
    SELECT h.place, f.id, f.object_key, f.name, f.content_type, f.size, f.sha256
      FROM stored h
     CROSS JOIN LATERAL (
           SELECT * FROM conversations_uploadedfile
            WHERE conversation_id = h.id AND chatbot_id = ANY({chatbots}) AND state = 'stored') f
     WHERE h.is_chosen AND h.place = ANY(%s::bigint[])
)
SELECT * FROM files
""")


@dataclass(frozen=True)
class TranscriptCounts:
    """The contents of a file in numbers, and the conversations that it leaves out. A shared and unverified
    conversation counts as unverified.

    `assurances`: the numbers of all conversations of a chatter by Assurance.
    """

    conversations: int
    messages: int
    shared_left_out: int
    unverified_left_out: int
    assurances: list[int]


class TranscriptPiece(NamedTuple):
    """A piece of the file `place`: its bytes, and their number of lines without the header."""

    place: int
    data: bytes
    lines: int


class StoredFile(NamedTuple):
    """An uploaded file in the file `place`: its number there (`file_id`), and its object in storage."""

    place: int
    file_id: int
    object_key: str
    name: str
    content_type: str
    size: int
    sha256: str


class Transcripts:
    """The files of some chatters, or of certain conversations, without marked and erased conversations.

    `wanted` is a query with a row per file: `place` (the caller's number of the file, unique), `chatbot_id`, the
    columns for `sql.SELECTED_CONVERSATIONS`, `include_shared` (if false, shared conversations are left out) and
    `export_assurance` (by which `assurance` leaves out conversations of a chatter). It becomes part of a COPY,
    which takes no parameters and whose text PostgreSQL shows and keeps (pg_stat_activity, pg_stat_statements): so it
    refers to a table with the values, and never contains a value.

    All methods read in the caller's transaction; at REPEATABLE READ they agree. Raises psycopg's errors. All chatbots
    are of one place (`conversations.placement`), and all files of one dialect.
    """

    def __init__(
        self,
        connection: Connection[Any],
        wanted: sql.Composable,
        *,
        chatbot_ids: Collection[int],
        dialect: str = CsvDialect.STANDARD,
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        chatbots = _numbers(chatbot_ids)
        self.parts = {"head": _HEAD.format(wanted=wanted, chatbots=chatbots), "chatbots": chatbots}

    def conversations(self) -> Generator[list[tuple[int, int]]]:
        """Yield lists of (place, conversation number), in the order of the numbers.

        Read it to the end, or close it, before reading anything else.
        """
        with self._connection.cursor(name="conversations") as cursor:
            cursor.execute(_IN_ORDER.format(**self.parts))
            while rows := cursor.fetchmany(_CONVERSATIONS_AT_ONCE):
                yield rows

    def count(self) -> dict[int, TranscriptCounts]:
        """Return the counts of each file by its place, including those without conversations."""
        rows = self._connection.execute(_COUNT.format(**self.parts))
        return {place: TranscriptCounts(*counts) for place, *counts in rows}

    def stored_files(self, places: Iterable[int], *, at_once: int) -> Generator[list[StoredFile]]:
        """Yield lists of up to `at_once` uploaded files that these files contain, in no order.

        Read it to the end, or close it, before `pieces`.
        """
        with self._connection.cursor(name="stored_files") as cursor:
            cursor.execute(_FILES.format(**self.parts), [list(places)])
            while rows := cursor.fetchmany(at_once):
                yield [StoredFile(*row) for row in rows]

    def pieces(self, places: Iterable[int]) -> Generator[TranscriptPiece]:
        """Yield the files of these places (all that are wanted), one after the other, in the order of the places.

        Each begins with the header, in pieces of CHUNK_BYTES or slightly more; the last may be shorter. A file
        without conversations is the header alone.
        """
        # Without parameters: COPY takes none. What `_cells` composes as literals is the same in every file.
        separator = SEPARATORS[self._dialect]
        delimiter = sql.SQL(f"'{separator}'")
        statement = _COPY.format(**self.parts, **cells(separator), delimiter=delimiter)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            lines: Iterable[Buffer] = copy
            if self._dialect != CsvDialect.STANDARD:
                lines = (b"".join((line[:-1], b"\r\n")) for line in copy)
            yield from _split(lines, sorted(places), header_of(self._dialect), separator.encode())


class DayTranscript:
    """The file of a chatbot's messages from `starts_at` (included) to `ends_at` (excluded): its daily extract.

    It has a line per message of a conversation that is neither marked nor erased, nor among those `left_out`, with
    its file. Reads in the caller's transaction. Raises psycopg's errors.
    """

    def __init__(
        self,
        connection: Connection[Any],
        *,
        chatbot_id: int,
        starts_at: datetime,
        ends_at: datetime,
        left_out: Collection[int] = (),
    ) -> None:
        self.lines = 0
        self._connection = connection
        window = {"chatbot": chatbot_id, "starts": starts_at, "ends": ends_at}
        messages = _MESSAGES_OF_WINDOW.format(**{name: sql.Literal(value) for name, value in window.items()})
        self._copy = _COPY_DAY.format(
            messages=messages, chatbots=_numbers([chatbot_id]), left_out=_numbers(left_out), **cells()
        )

    def chunks(self) -> Generator[bytes]:
        """Yield the file in chunks of CHUNK_BYTES or slightly more, the header first; `lines` counts the others."""
        buffer = bytearray(HEADER)
        with self._connection.cursor() as cursor, cursor.copy(self._copy) as copy:
            for line in copy:
                buffer += line
                self.lines += 1
                if len(buffer) >= CHUNK_BYTES:
                    yield bytes(buffer)
                    buffer.clear()
        if buffer:
            yield bytes(buffer)


def _split(lines: Iterable[Buffer], places: list[int], header: bytes, separator: bytes) -> Generator[TranscriptPiece]:
    """Split the lines of COPY into files, without their first field, which is the place."""
    ahead = iter(places)
    place, first_field, width = -1, b"", 1
    buffer, count = bytearray(), 0
    for line in lines:
        # libpq yields whole lines, one at a time, so each begins with its place.
        if line[:width] != first_field:
            if buffer:
                yield TranscriptPiece(place, bytes(buffer), count)
            first_field = bytes(line).partition(separator)[0] + separator
            place, width = int(first_field[1:-2]), len(first_field)
            for passed in ahead:
                if passed == place:
                    break
                yield TranscriptPiece(passed, header, 0)
            buffer, count = bytearray(header), 0
        buffer += line[width:]
        count += 1
        if len(buffer) >= CHUNK_BYTES:
            yield TranscriptPiece(place, bytes(buffer), count)
            buffer.clear()
            count = 0
    if buffer:
        yield TranscriptPiece(place, bytes(buffer), count)
    for passed in ahead:
        yield TranscriptPiece(passed, header, 0)


def _numbers(numbers: Collection[int]) -> sql.Composed:
    return sql.SQL("{}::bigint[]").format(sql.Literal(sorted(numbers)))
