"""The formula guard of the CSV: which cells have it, and how other programs restore each text without it."""

import csv
import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import duckdb
import pandas
import pytest
from pytest_django import Settings

from chatbots.models import Chatbot, Variable
from tests import factories
from tests.conversations.reading import lines, message, restored, stored_file, written

TEXTS = [
    "hello",
    "",
    "  spaces at both ends  ",
    'she said "no", then; left',
    '"',
    "two\nlines",
    "two\r\nlines",
    "two\rlines",
    "\n",
    "=1+1",
    "'=1+1",
    "'",
    "''",
    "@SUM(A1)",
    "+cmd|'/C calc'!A0",
    "\t=tab",
    "\rreturn",
    "-12.50",
    "+33 6 12 34 56 78",
    "007",
    "1e5",
    "1/2",
    "2026-01-02",
    "TRUE",
    "NULL",
    "NaN",
    "\\N \\. \\",
    "%s {} $1",
    "👩🏽\u200d🚀 ✓",
    "שלום \u202eabc\u202c",
    "e\u0301 is not é",
    "\ufeffmark",
    "\u2028line\u2029",
    "\x01control",
    "x" * 100_000,
]


def by_python(path: Path, separator: str = ",") -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [row["text"] for row in csv.DictReader(file, delimiter=separator, strict=True)]


def by_duckdb(path: Path) -> list[str]:
    options = "header = true, all_varchar = true, delim = ',', quote = '\"', escape = '\"', new_line = '\\n'"
    rows = duckdb.sql(f"SELECT text FROM read_csv('{path}', {options}, allow_quoted_nulls = false)")
    return [text for (text,) in rows.fetchall()]


def by_pandas(path: Path) -> list[str]:
    table = pandas.read_csv(path, dtype=str, keep_default_na=False, lineterminator="\n")
    return list(table["text"])


def by_a_spreadsheet(path: Path, separator: str = ",") -> list[str]:
    """Open it in LibreOffice, save what it has read, and return its cells."""
    opened = f"--infilter=CSV:{ord(separator)},34,76,1,,0,true,false"
    _libreoffice([path], "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,true,true", opened, out="back")
    return by_python(path.parent / "back" / path.name)


def _libreoffice(paths: list[Path], wanted: str, *options: str, out: str = ".") -> None:
    folder = paths[0].parent
    profile = (folder.parent / "libreoffice").as_uri()  # shared by all tests of a process: slow to create
    subprocess.run(
        [
            *("soffice", "--headless", f"-env:UserInstallation={profile}", *options),
            *("--convert-to", wanted, "--outdir", str(folder / out), *map(str, paths)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "HOME": str(folder)},
    )


def in_a_cell(text: str) -> str:
    """A text in LibreOffice: one kind of line end, no control characters, limited in length."""
    lines = re.sub("\r\n?", "\n", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f]", "", lines)[:65_535]


needs_libreoffice = pytest.mark.skipif(
    shutil.which("soffice") is None,
    reason="LibreOffice is missing: apt-get install --no-install-recommends libreoffice-calc-nogui",
)


HOSTILE = [
    *("=1+1", " =1+1", "\n=1+1", "\t=1+1", "\r=1+1", "\u00a0=1+1", "\uff1d1+1", "+1+1", "-1+1", "@SUM(1)"),
    *(
        f"a{start}{formula}{end}"
        for start in ";,\t\r\n"
        for formula in ("=1+1", "+1+1", "@SUM(1)")
        for end in ("", ";b")
    ),
    *("a; =1+1;", 'a;"=1+1";', 'a;""=1+1"";', "a;;=1+1;;", "a\r\n=1+1\r\n", "a;\uff1d1+1;", "a;'=1+1;", "',\n=1+1;"),
]


def formulas_in(separator: str, *paths: Path) -> list[list[str]]:
    """The formulas that LibreOffice finds in each file with this separator, with type detection on."""
    opened = f"--infilter=CSV:{ord(separator)},34,76,1,,0,false,true,false,false,false,-1,true"
    _libreoffice([*paths], "fods", opened)
    texts = [path.with_suffix(".fods").read_text(encoding="utf-8") for path in paths]
    return [re.findall(r'table:formula="([^"]*)"', text) for text in texts]


@pytest.mark.long(reason="LibreOffice opens two files for each dialect and separator", beyond=1)
@needs_libreoffice
@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("dialect", ["standard", "excel_semicolon"])
def test_no_cell_becomes_a_formula_whatever_the_separator(chatbot, tmp_path, settings, separator, dialect) -> None:
    conversation = factories.conversation_of(chatbot, "42", messages=0, csat_comment="a;=1+1;", user_name="b;=1+1;")
    for at, text in enumerate(HOSTILE):
        message(conversation, text, at=at)
    guarded, unguarded = tmp_path / "guarded.csv", tmp_path / "unguarded.csv"
    guarded.write_bytes(written(chatbot, dialect=dialect))
    settings.CSV_FORMULA_GUARD = False
    unguarded.write_bytes(written(chatbot, dialect=dialect))

    none, computed = formulas_in(separator, guarded, unguarded)

    assert none == []
    assert any(one.startswith("of:=1+1") for one in computed)


@pytest.mark.long(reason="LibreOffice opens a file of each dialect", beyond=1)
@needs_libreoffice
@pytest.mark.parametrize(
    ("dialect", "separator"), [("excel_semicolon", ";"), ("excel_comma", ","), ("standard", ",")]
)
def test_a_spreadsheet_opens_each_dialect_in_columns(chatbot, tmp_path, dialect, separator) -> None:
    texts = ["née à Łódź", "5 €; 6 €, ¿y?", "two\nlines", "Ελλάδα 👩🏽\u200d🚀 שלום"]
    conversation = factories.conversation_of(chatbot, "42", messages=0, user_name="Zoë Peña")
    for at, text in enumerate(texts):
        message(conversation, text, at=at)
    path = tmp_path / "files" / "export.csv"
    path.parent.mkdir()
    path.write_bytes(written(chatbot, dialect=dialect))
    assert by_a_spreadsheet(path, separator) == texts
    with (path.parent / "back" / path.name).open(encoding="utf-8", newline="") as file:
        assert {(row["user_name"], row["uci_value"]) for row in csv.DictReader(file)} == {("Zoë Peña", "42")}


GUARDED = {
    "conversation_id", "language", "user_name", "csat_comment", "uci_key", "uci_value", "message_id", "text",
    "file_name",
}  # fmt: skip


def test_the_guard_guards_a_formula_in_each_of_them(chatbot: Chatbot) -> None:
    Variable.objects.filter(pk=factories.uci_of(chatbot).pk).update(name="=k")
    conversation = factories.conversation_of(
        chatbot, "=u", messages=0, external_id="=c", language="=l", user_name="=n", csat_comment="=s"
    )
    sent = message(conversation, "=t", external_id="=m")
    stored_file(conversation, "=f", message_id=sent.pk)
    (line,) = lines(chatbot, "=u")
    assert {name for name, cell in line.items() if cell.startswith("'=")} == GUARDED


def guarded(chatbot: Chatbot, texts: list[str]) -> list[str]:
    conversation = factories.conversation_of(chatbot, "42", messages=0)
    for at, text in enumerate(texts):
        message(conversation, text, at=at)
    return [line["text"] for line in lines(chatbot)]


def test_a_file_with_semicolons_is_guarded_after_commas_instead(chatbot: Chatbot) -> None:
    texts = ["a,=1", "a;=1", "a, =1,-2", "a,'b", "a;'b", "=1;=2", "a\t=1", "1,2 ;-) - b"]
    conversation = factories.conversation_of(chatbot, "42", messages=0)
    for at, text in enumerate(texts):
        message(conversation, text, at=at)
    file = io.StringIO(written(chatbot, dialect="excel_semicolon").decode("utf-8-sig"), newline="")
    cells = [line["text"] for line in csv.DictReader(file, delimiter=";", strict=True)]
    assert cells == ["a,'=1", "a;=1", "a,' =1,'-2", "a,''b", "a;'b", "'=1;=2", "a\t'=1", "1,2 ;-) - b"]
    assert [restored(cell, ";") for cell in cells] == texts


def test_the_guard_guards_wherever_a_cell_can_begin(chatbot: Chatbot) -> None:
    cells = [
        (" =1", "' =1"),
        ("\u00a0=1", "'\u00a0=1"),
        ("\u200b=1", "'\u200b=1"),
        ("\n=1", "\n'=1"),
        ("\t@x", "\t'@x"),
        ("\uff1d1", "'\uff1d1"),
        ("\uff0b1+1", "'\uff0b1+1"),
        ("\uff0d1", "'\uff0d1"),
        ("\uff20x", "'\uff20x"),
        ("a;=1", "a;'=1"),
        ("a; =1", "a;' =1"),
        ('a;"=1"', 'a;\'"=1"'),
        ("a;\uff1d1", "a;'\uff1d1"),
        ("a;-1;+2;@x;'y", "a;'-1;'+2;'@x;''y"),
        ("a;;=1", "a;;'=1"),
        ("a\r\n=1\r\n- b", "a\r\n'=1\r\n'- b"),
        ("a\t=1", "a\t'=1"),
        ("=1;=2", "'=1;'=2"),
    ]
    assert guarded(chatbot, [text for text, _ in cells]) == [cell for _, cell in cells]
    assert [restored(cell) for _, cell in cells] == [text for text, _ in cells]


def test_harmless_text_is_not_guarded(chatbot: Chatbot) -> None:
    texts = ["bye ;-)", "a = b; c - d", "x;y", "two\nlines", "tab\tabbed", "1;2", "mail a@b.example", "it's; 'tis"]
    assert guarded(chatbot, texts) == texts


HARMLESS = [
    *("+5", "-5", "-12.50", "+1,234.56", "-.5", "+1e9", "-2E-3", "-0"),
    *("+33612345678", "+33 6 12 34 56 78", "+1 (555) 123-4567", "+44 (0)20 7946 0018", "+49.30.123456"),
]
FORMULAS = [
    *("+", "-", "+a", "-1+2", "+1 2", "+5\n", "+5 ", "-5%", "--5", "+(1)", "-1e", "+A1", "-@x", "+1=2", "-1;2"),
    *("+33 6 12 34 56 78 call me", "+33612345678\n=1", "-33 6 12 34 56 78", "+1234567890123456 7", "+12-A3-4567"),
    *("+\u0661\u0662\u0663\u0664\u0665", "+1\u00a0555\u00a01234567"),
]


@pytest.mark.parametrize(("texts", "is_guarded"), [(HARMLESS, False), (FORMULAS, True)])
def test_the_guard_distinguishes_numbers_and_phone_numbers_from_formulas(chatbot, texts, is_guarded) -> None:
    cells = guarded(chatbot, texts)
    assert [cell.startswith("'") for cell in cells] == [is_guarded] * len(texts)
    assert [restored(cell) for cell in cells] == texts


def test_there_is_no_guard_when_the_setting_is_off(chatbot: Chatbot, settings: Settings) -> None:
    settings.CSV_FORMULA_GUARD = False
    texts = ["=1+1", "'quoted", "-1+2", "@x"]
    assert guarded(chatbot, texts) == texts
