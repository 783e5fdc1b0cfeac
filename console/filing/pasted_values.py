"""Read many values from pasted text or a CSV file, as exact strings.

Probable mistakes (spaces around a value, a spreadsheet's apostrophe, invisible characters) are reported but
kept. Errors contain rows and columns, never a value.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from common.folding import without_invisible
from compliance.requests.submit import MAX_BATCH
from conversations.sql import SPACES

# Room for a thousand values of the maximum length and some other columns.
MAX_BYTES = 2_000_000
MOST_HEADINGS = 20
_DELIMITERS = (",", ";", "\t")
_LINE_END = re.compile(r"\r\n|\r|\n")
_DIRECTION = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class UnreadableValues(Exception):
    """The input is no list of values. `where` is the form's field. `headings` are the cells of a heading row."""

    def __init__(self, where: str, text: str, *, headings: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.where = where
        self.text = text
        self.headings = [name or "(empty)" for name in headings[:MOST_HEADINGS]]


@dataclass(frozen=True)
class PastedRow:
    """A value, its row (from 1), and its reference if there is a column of references."""

    number: int
    value: str
    reference: str | None = None


@dataclass
class PastedValues:
    """The distinct values. `repeated` maps a row with the value of an earlier one to that row."""

    rows: list[PastedRow] = field(default_factory=list)
    repeated: dict[int, int] = field(default_factory=dict)
    empty: list[int] = field(default_factory=list)


def read_lines(text: str) -> PastedValues:
    return _once(PastedRow(number, line) for number, line in enumerate(_LINE_END.split(text), start=1))


def read_file(content: bytes, *, column: str = "", reference_column: str = "") -> PastedValues:
    """Read a CSV file. A file with one column needs no heading. Raises UnreadableValues."""
    if len(content) > MAX_BYTES:
        raise too_large("file")
    text = ""
    with suppress(UnicodeDecodeError):
        text = content.decode("utf-8-sig")
    if content and not text:
        raise UnreadableValues("file", "This file is not UTF-8 text. Save it as “CSV UTF-8” and choose it again.")
    return read_table(text, column=column, reference_column=reference_column, where="file")


def read_table(text: str, *, column: str = "", reference_column: str = "", where: str = "pasted") -> PastedValues:
    """Read the values of a column, named by its heading in the first row. Raises UnreadableValues."""
    if not (column or reference_column):
        return _once(_single_column(text, where))
    if not column:
        raise UnreadableValues("column", "Enter the column of the values, too.")
    delimiter, heading = _heading(text, [name for name in (column, reference_column) if name])
    place = heading.index(column)
    reference_place = heading.index(reference_column) if reference_column else None
    records = _records(text, delimiter, where)
    next(records)
    pasted = _once(
        PastedRow(
            number,
            _cell(record, place),
            None if reference_place is None else _cell(record, reference_place).strip(),
        )
        for number, record in records
    )
    return _without_line_breaks(pasted) if where == "pasted" else pasted


def too_large(where: str) -> UnreadableValues:
    return UnreadableValues(
        where,
        f"This is more than {MAX_BYTES // 1_000_000} MB. Split the values, or leave out other columns.",
    )


def peculiarities(value: str) -> list[str]:
    """Return descriptions of probable mistakes in a value; they stay part of it."""
    bare = value.strip(SPACES)
    found = {
        "starts with a space": bool(value) and value[0] in SPACES,
        "ends with a space": bool(value) and value[-1] in SPACES,
        "starts with an apostrophe, which spreadsheets add to text": value.startswith("'"),
        "contains a line break": "\n" in bare or "\r" in bare,
        "contains characters that change the text direction": any(one in _DIRECTION for one in value),
        "contains invisible characters": any(_is_unseen(one) for one in bare),
        "mixes Latin with Cyrillic or Greek letters": {"LATIN"} < _scripts(value),
        "is not in the usual composed form (NFC)": not unicodedata.is_normalized("NFC", value),
        "contains �, which replaces characters lost in conversion": "\ufffd" in value,
    }
    return [label for label, is_found in found.items() if is_found]


def _is_unseen(character: str) -> bool:
    if character in _DIRECTION or character in "\r\n":
        return False
    is_drawn = without_invisible(character)
    return not is_drawn or unicodedata.category(character) in {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}


def _scripts(value: str) -> set[str]:
    """Return the scripts of a value, among those that have similar letters."""
    return {unicodedata.name(one, "").split(" ")[0] for one in value} & {"LATIN", "CYRILLIC", "GREEK"}


def _single_column(content: str, where: str) -> Iterator[PastedRow]:
    delimiter, heading = _likely(content)
    if len(heading) > 1:
        text = f"There are {len(heading)} columns. Enter the heading of the one with the values."
        raise UnreadableValues("column", text, headings=heading)
    for number, record in _records(content, delimiter, where):
        if len(record) > 1:
            raise UnreadableValues(
                where, f"Row {number} has {len(record)} columns, the first has one. Put quotes around its value."
            )
        yield PastedRow(number, _cell(record, 0))


def _without_line_breaks(pasted: PastedValues) -> PastedValues:
    """Raise UnreadableValues if a value contains a line break: browsers change it in pasted text."""
    for row in pasted.rows:
        if _LINE_END.search(row.value):
            raise UnreadableValues(
                "pasted", f"Row {row.number} contains a line break. Choose the file instead of pasting it."
            )
    return pasted


def _heading(text: str, wanted: Sequence[str]) -> tuple[str, list[str]]:
    """Return the delimiter that gives the first row these columns, and that row."""
    for delimiter in _DELIMITERS:
        heading = _first(text, delimiter)
        if all(heading.count(name) == 1 for name in wanted):
            return delimiter, heading
    _, heading = _likely(text)
    missing = next((name for name in wanted if heading.count(name) != 1), wanted[0])
    where = "column" if missing == wanted[0] else "reference_column"
    if missing in heading:
        raise UnreadableValues(where, "Two columns have this heading. Rename one of them.")
    raise UnreadableValues(where, "The first row does not have this heading.", headings=heading)


def _likely(text: str) -> tuple[str, list[str]]:
    """Return the delimiter that gives the first row the most columns, and that row."""
    return max(((delimiter, _first(text, delimiter)) for delimiter in _DELIMITERS), key=lambda found: len(found[1]))


def _first(text: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(_reader(text, delimiter), [])]
    except csv.Error:
        return []


def _records(text: str, delimiter: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with their numbers. A cell with line breaks does not count as several rows."""
    number = 0
    with suppress(csv.Error):
        for number, record in enumerate(_reader(text, delimiter), start=1):
            yield number, record
        return
    raise UnreadableValues(where, f"Row {number + 1} cannot be read. Check that its quotes are closed.")


def _reader(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _cell(record: Sequence[str], place: int) -> str:
    return record[place] if place < len(record) else ""


def _once(rows: Iterator[PastedRow]) -> PastedValues:
    """Return each value once. Raises UnreadableValues if there are no values, or too many."""
    pasted = PastedValues()
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
        raise UnreadableValues("", "There are no values.")
    if len(pasted.rows) > MAX_BATCH:
        raise UnreadableValues(
            "", f"There are {len(pasted.rows):,} different values. File at most {MAX_BATCH:,} at a time."
        )
    return pasted
