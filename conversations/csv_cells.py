"""The cells of the CSV: its columns, its dialects, and the guard against formulas.

The guard: a spreadsheet runs text that begins like a formula. In guarded columns, one `'` is inserted before such
text wherever a cell can begin: at the start, and after each `;`, tab, CR and LF. With another separator than the
comma, as spreadsheets in much of Europe use, the quotes mean nothing, and a cell begins there. In a file that is
separated by `;`, the comma takes the place of the `;`.

Text begins like a formula with `=`, `@`, `+` or `-`, also in full width, or after white space and quotes. Numbers and
phone numbers (`NUMBER`, `PHONE`: digits and punctuation, which compute nothing but a number) are no formulas, nor is
what begins with `-)`. A `'` where a cell can begin gets another one. So removing one `'` at the start and after each
`;` (or comma), tab, CR and LF restores the text exactly. `CSV_FORMULA_GUARD` turns the guard off.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from django.conf import settings
from psycopg import sql

from chatbots.models import Chatbot
from conversations.sql import SPACES

# Regular expressions that PostgreSQL and Python read alike: `-12`, `+3.5`, `-1,234.56`, `+1e-9`; and
# `+33 6 12 34 56 78`, `+1 (555) 123-4567` (5 to 15 digits, as in E.164, at most two separators in between).
NUMBER = "[+-]([0-9]+([.,][0-9]+)*|[.,][0-9]+)([eE][+-]?[0-9]+)?"
PHONE = "[+][0-9]([ ().-]{0,2}[0-9]){4,14}"

CsvDialect = Chatbot.CsvDialect

SEPARATORS: dict[str, str] = {
    CsvDialect.STANDARD: ",",
    CsvDialect.EXCEL_COMMA: ",",
    CsvDialect.EXCEL_SEMICOLON: ";",
}
# The separator with which a file may be read by mistake.
_OTHER_SEPARATOR = {",": ";", ";": ","}

# Characters after which a cell can begin (beside the other separator), those skipped there, and those that begin a
# formula.
_STARTS = "\t\r\n"
_SKIPPED = '"' + "".join(each for each in SPACES if each not in _STARTS)
_FORMULA, _MINUS = "=@+\uff1d\uff20\uff0b\ufe62\ufe66\ufe6b", "\uff0d\ufe63-"
_HARMLESS = f"^(({NUMBER})|({PHONE}))$"
_GUARDED = f"(^|[%s{_STARTS}])(?='|[{_SKIPPED}]*([{_FORMULA}]|[{_MINUS}](?![)])))"


class Column(NamedTuple):
    """A column's name, the SQL of its text (null is written as empty), and whether it is guarded."""

    name: str
    text: str
    guarded: bool = False


def time_sql(instant: str) -> str:
    """Return the SQL of an instant as `YYYY-MM-DDTHH:MM:SS.ffffffZ`, whatever the session's time zone."""
    return f"""to_char({instant} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


# `c` is a conversation, `u` the lowest of its identities, `e` a message with its file.
CONVERSATION_COLUMNS = (
    Column("conversation_id", "c.external_id", guarded=True),
    Column("conversation_started_at", time_sql("c.started_at")),
    Column("user_channel", "c.channel"),
    Column("language", "c.language", guarded=True),
    Column("user_name", "c.user_name", guarded=True),
    Column("push", "c.has_push::text"),
    Column("agent_handover", "c.has_agent_handover::text"),
    Column("file_upload", "c.has_file_upload::text"),
    Column("conversation_score", "c.score::text"),
    Column("csat_score", "c.csat_score::text"),
    Column("csat_vote", "c.csat_vote"),
    Column("csat_comment", "c.csat_comment", guarded=True),
    Column("uci_key", "u.name", guarded=True),
    Column("uci_value", "u.value", guarded=True),
)
MESSAGE_COLUMNS = (
    Column("message_id", "e.external_id", guarded=True),
    Column("sent_at", time_sql("e.sent_at")),
    Column("sender", "e.sender"),
    Column("message_kind", "e.kind"),
    Column("text", "e.text", guarded=True),
    Column("file_name", "e.file_name", guarded=True),
    Column("file_id", "e.file_id::text"),
)


def first_line(names: Iterable[str], dialect: str) -> str:
    """Return the first line of a file, with what precedes it."""
    return ("" if dialect == CsvDialect.STANDARD else "\ufeff") + line(names, dialect)


def line(texts: Iterable[str], dialect: str) -> str:
    """Return a line of a file that the database does not write, as it would: each text quoted and guarded."""
    separator = SEPARATORS[dialect]
    quoted = ('"' + _guarded(text, separator).replace('"', '""') + '"' for text in texts)
    return separator.join(quoted) + ("\n" if dialect == CsvDialect.STANDARD else "\r\n")


def _guarded(text: str, separator: str) -> str:
    if not settings.CSV_FORMULA_GUARD or re.fullmatch(_HARMLESS, text):
        return text
    return re.sub(_GUARDED % _OTHER_SEPARATOR[separator], r"\1'", text)


def header_of(dialect: str) -> bytes:
    """Return the first line of the file of an export, with what precedes it."""
    return first_line((column.name for column in CONVERSATION_COLUMNS + MESSAGE_COLUMNS), dialect).encode()


HEADER = header_of(CsvDialect.STANDARD)

_TEXT = sql.SQL("coalesce({text}, '')")
# Few texts need the guard, so the cheap check comes first.
_GUARDED_TEXT = sql.SQL(r"""
CASE WHEN left({text}, 1) = ANY({firsts}) OR strpos({text}, {other_separator}) > 0
       OR strpos({text}, E'\n') > 0 OR strpos({text}, E'\r') > 0 OR strpos({text}, E'\t') > 0
     THEN CASE WHEN {text} ~ {harmless} THEN {text} ELSE regexp_replace({text}, {guarded}, '\1''', 'g') END
     ELSE coalesce({text}, '') END
""")
_FIRSTS = [*"'", *_FORMULA, *_MINUS, *_SKIPPED]


def cells(separator: str = ",") -> dict[str, sql.Composed]:
    """Return the SQL of the cells by the names of their places in the statements of `transcripts`."""
    return {
        "conversation_cells": sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(_cell(column, separator), sql.Identifier(column.name))
            for column in CONVERSATION_COLUMNS
        ),
        "conversation_names": sql.SQL(", ").join(sql.Identifier(column.name) for column in CONVERSATION_COLUMNS),
        "message_cells": sql.SQL(", ").join(_cell(column, separator) for column in MESSAGE_COLUMNS),
    }


def _cell(column: Column, separator: str) -> sql.Composed:
    text = sql.SQL(column.text)
    if column.guarded and settings.CSV_FORMULA_GUARD:
        other = _OTHER_SEPARATOR[separator]
        given = {
            "firsts": _FIRSTS,
            "harmless": _HARMLESS,
            "guarded": _GUARDED % other,
            "other_separator": other,
        }
        return _GUARDED_TEXT.format(text=text, **{name: sql.Literal(value) for name, value in given.items()})
    return _TEXT.format(text=text)
