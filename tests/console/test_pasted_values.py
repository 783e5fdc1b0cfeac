"""Reading many values from a paste or a CSV file as exact strings, or with a helpful error."""

import csv
import io
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.filing import pasted_values
from console.filing.pasted_values import (
    PastedValues,
    UnreadableValues,
    peculiarities,
    read_file,
    read_lines,
    read_table,
)


def values(pasted: PastedValues) -> list[str]:
    return [row.value for row in pasted.rows]


def unreadable(content: bytes, **columns: str) -> UnreadableValues:
    with pytest.raises(UnreadableValues) as raised:
        read_file(content, **columns)
    return raised.value


def test_a_paste_is_one_value_a_line_as_it_stands():
    pasted = read_lines("M1\r\n M2 \n\n'M3\rM1\n=1+1,x;\"y\u2028z\n")
    assert values(pasted) == ["M1", " M2 ", "'M3", '=1+1,x;"y\u2028z']
    assert [row.number for row in pasted.rows] == [1, 2, 4, 6]
    assert pasted.repeated == {5: 1}
    assert pasted.empty == [3, 7]


def test_a_file_is_read_by_its_headings() -> None:
    rows = [["name", "member", "ticket"], ["Ada", '"a, ""b"";\t"', "T-1"], ["", "'007 ", " T-2 "], ["", "x"]]
    for end, delimiter, mark in product(["\n", "\r\n", "\r"], [",", ";", "\t"], [b"", b"\xef\xbb\xbf"]):
        content = mark + end.join(delimiter.join(row) for row in rows).encode()
        pasted = read_file(content, column="member", reference_column="ticket")
        assert [(row.number, row.value, row.reference) for row in pasted.rows] == [
            (2, 'a, "b";\t', "T-1"),
            (3, "'007 ", "T-2"),
            (4, "x", ""),
        ]


def test_a_file_of_one_column_needs_no_heading():
    pasted = read_file('\ufeffM1\n"M,2"\n\n"line\nbreak"\n'.encode())
    assert values(pasted) == ["M1", "M,2", "line\nbreak"]
    assert [row.number for row in pasted.rows] == [1, 2, 4]


def test_an_unreadable_file_is_reported_at_its_field() -> None:
    for content, columns, where in [
        (b"", {}, ""),
        (b"\n\n", {}, ""),
        (b"\xff\xfeM\x00", {}, "file"),
        (b"caf\xe9", {}, "file"),
        (b"a,b\n1,2", {}, "column"),
        (b"a,b\n1,2", {"column": "c"}, "column"),
        (b"a,a\n1,2", {"column": "a"}, "column"),
        (b"a,b\n1,2", {"column": "a", "reference_column": "c"}, "reference_column"),
        (b"a,b\n1,2", {"reference_column": "b"}, "column"),
        (b"a\n1,2", {}, "file"),
        (b'a\n"b\nc', {}, "file"),
        (b'"a', {}, "file"),
        (b"x" * 200_000, {}, "file"),
        (b"x\n" * (pasted_values.MAX_BYTES // 2 + 1), {}, "file"),
        ("\n".join(map(str, range(1_001))).encode(), {}, ""),
    ]:
        error = unreadable(content, **columns)
        assert error.where == where
        assert error.text


def test_the_error_lists_the_existing_headings():
    error = unreadable(b"ada@example.org;7\n", column="id")
    assert error.headings == ["ada@example.org", "7"]
    assert "ada" not in str(error)


def test_a_line_break_in_a_pasted_cell_is_refused_since_browsers_change_it():
    with pytest.raises(UnreadableValues) as raised:
        read_table('id\n"a\r\nb"\n', column="id")
    assert raised.value.where == "pasted"


def test_probable_accidents_are_pointed_out() -> None:
    for value, words in [
        ("M00012", []),
        ("ada lovelace@example.org", []),
        ("Ɓéłøñ 汉字 😀", []),
        (" x", ["starts with a space"]),
        ("x\u00a0", ["ends with a space"]),
        ("'x", ["starts with an apostrophe, which spreadsheets add to text"]),
        ("a\u202eb", ["contains characters that change the text direction"]),
        ("a\u200bb", ["contains invisible characters"]),
        ("a\x07b", ["contains invisible characters"]),
        *((f"a{one}b", ["contains invisible characters"]) for one in "\u034f\u115f\u3164\ufe0f\U000e0100"),
        ("\u0410da", ["mixes Latin with Cyrillic or Greek letters"]),
        ("αβ-Ada", ["mixes Latin with Cyrillic or Greek letters"]),
        ("Ада-βγ", []),
        ("Zoe\u0308", ["is not in the usual composed form (NFC)"]),
        ("a\nb", ["contains a line break"]),
        ("a\ufffdb", ["contains �, which replaces characters lost in conversion"]),
    ]:
        assert peculiarities(value) == words


@given(cells=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True))
def test_values_from_a_spreadsheet_are_read_exactly(cells):
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([["id"], *([cell] for cell in cells)])
    assert values(read_file(written.getvalue().encode(), column="id")) == cells
