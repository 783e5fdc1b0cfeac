"""Read many values from a paste or a CSV file: exact strings, nothing trimmed or repaired behind a person's back.

What looks like an accident (spaces around a value, a spreadsheet's apostrophe, characters that cannot be seen) is
told, and left as it is. Errors name rows and columns, never a value.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from compliance.requests.operations import MAX_BATCH
from conversations.sql import SPACES

# Of a paste or a file: a thousand values of the greatest length, and some columns beside them.
MAX_BYTES = 2_000_000
MOST_HEADINGS_TOLD = 20
_DELIMITERS = (",", ";", "\t")
_LINE_END = re.compile(r"\r\n|\r|\n")
_DIRECTION = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Unreadable(Exception):
    """No list of values. `where` is the form's field, `text` says what to do.

    `headings` are what the first row holds, for the page alone: where there are none, it holds values.
    """

    def __init__(self, where: str, text: str, *, headings: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.where = where
        self.text = text
        self.headings = [name or "(empty)" for name in headings[:MOST_HEADINGS_TOLD]]


@dataclass(frozen=True)
class Row:
    """A value, the row in which it stands (from 1), and its reference if there is a column of them."""

    number: int
    value: str
    reference: str | None = None


@dataclass
class Pasted:
    """The values, each once. `repeated`: a row whose value stands in an earlier one -> that row."""

    rows: list[Row] = field(default_factory=list)
    repeated: dict[int, int] = field(default_factory=dict)
    empty: list[int] = field(default_factory=list)


def read_lines(text: str) -> Pasted:
    """Read one value a line."""
    return _once(Row(number, line) for number, line in enumerate(_LINE_END.split(text), start=1))


def read_file(content: bytes, *, column: str = "", reference_column: str = "") -> Pasted:
    """Read a CSV file; with one column it needs no heading. Raises Unreadable."""
    if len(content) > MAX_BYTES:
        raise too_large("file")
    text = ""
    with suppress(UnicodeDecodeError):
        text = content.decode("utf-8-sig")
    if content and not text:
        raise Unreadable("file", "This file is not text in UTF-8. Save it as “CSV UTF-8” and choose it again.")
    return read_table(text, column=column, reference_column=reference_column, where="file")


def read_table(text: str, *, column: str = "", reference_column: str = "", where: str = "pasted") -> Pasted:
    """Read the values of a column, named by its heading in the first row. Raises Unreadable."""
    if not (column or reference_column):
        return _once(_single_column(text, where))
    if not column:
        raise Unreadable("column", "Say which column holds the values, too.")
    delimiter, heading = _heading(text, [name for name in (column, reference_column) if name])
    place = heading.index(column)
    reference_place = heading.index(reference_column) if reference_column else None
    records = _records(text, delimiter, where)
    next(records)
    pasted = _once(
        Row(
            number,
            _cell(record, place),
            None if reference_place is None else _cell(record, reference_place).strip(),
        )
        for number, record in records
    )
    return _without_line_breaks(pasted) if where == "pasted" else pasted


def too_large(where: str) -> Unreadable:
    return Unreadable(
        where,
        f"This is more than {MAX_BYTES // 1_000_000} MB. File the values in several parts, without other columns.",
    )


def peculiarities(value: str) -> list[str]:
    """Say what in a value looks like an accident; it is part of the value all the same."""
    bare = value.strip(SPACES)
    found = {
        "starts with a space": bool(value) and value[0] in SPACES,
        "ends with a space": bool(value) and value[-1] in SPACES,
        "starts with an apostrophe, as spreadsheets write text": value.startswith("'"),
        "holds a line break": "\n" in bare or "\r" in bare,
        "holds characters that turn the direction of the text": any(one in _DIRECTION for one in value),
        "holds characters that cannot be seen": any(_is_unseen(one) for one in bare),
        "holds �, which stands for characters that were lost on the way": "\ufffd" in value,
    }
    return [words for words, is_so in found.items() if is_so]


def _is_unseen(character: str) -> bool:
    if character in _DIRECTION or character in "\r\n":
        return False
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _single_column(content: str, where: str) -> Iterator[Row]:
    delimiter, heading = _likely(content)
    if len(heading) > 1:
        text = f"There are {len(heading)} columns. Write the heading of the one that holds the values."
        raise Unreadable("column", text, headings=heading)
    for number, record in _records(content, delimiter, where):
        if len(record) > 1:
            raise Unreadable(
                where, f"Row {number} has {len(record)} columns, the first has one. Put quotes around it."
            )
        yield Row(number, _cell(record, 0))


def _without_line_breaks(pasted: Pasted) -> Pasted:
    """Raise Unreadable if a value holds a line break: browsers send it as two characters."""
    for row in pasted.rows:
        if _LINE_END.search(row.value):
            raise Unreadable("pasted", f"Row {row.number} holds a line break. Choose the file instead of pasting it.")
    return pasted


def _heading(text: str, wanted: Sequence[str]) -> tuple[str, list[str]]:
    """Return the delimiter with which the first row has these columns, and that row."""
    for delimiter in _DELIMITERS:
        heading = _first(text, delimiter)
        if all(heading.count(name) == 1 for name in wanted):
            return delimiter, heading
    _, heading = _likely(text)
    missing = next((name for name in wanted if heading.count(name) != 1), wanted[0])
    where = "column" if missing == wanted[0] else "reference_column"
    if missing in heading:
        raise Unreadable(where, "Two columns have this heading. Give them different ones.")
    raise Unreadable(where, "The first row has no such heading.", headings=heading)


def _likely(text: str) -> tuple[str, list[str]]:
    """Return the delimiter that makes most columns of the first row, and that row."""
    return max(((delimiter, _first(text, delimiter)) for delimiter in _DELIMITERS), key=lambda found: len(found[1]))


def _first(text: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(_reader(text, delimiter), [])]
    except csv.Error:
        return []


def _records(text: str, delimiter: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with their numbers: the record's place, so that a cell of several lines counts once."""
    number = 0
    records = _reader(text, delimiter)
    while True:
        try:
            record = next(records, None)
        except csv.Error:
            break
        if record is None:
            return
        number += 1
        yield number, record
    raise Unreadable(where, f"Row {number + 1} cannot be read. Look whether each quote in it is closed.")


def _reader(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _cell(record: Sequence[str], place: int) -> str:
    return record[place] if place < len(record) else ""


def _once(rows: Iterator[Row]) -> Pasted:
    """Return each value once. Raises Unreadable if none is left, or too many."""
    pasted = Pasted()
    first: dict[str, int] = {}
    for row in rows:
        if not row.value:
            pasted.empty.append(row.number)
        elif row.value in first:
            pasted.repeated[row.number] = first[row.value]
        else:
            first[row.value] = row.number
            pasted.rows.append(row)
    if not pasted.rows:
        raise Unreadable("", "There is no value in it.")
    if len(pasted.rows) > MAX_BATCH:
        raise Unreadable(
            "", f"These are {len(pasted.rows):,} different values. File at most {MAX_BATCH:,} at a time."
        )
    return pasted
