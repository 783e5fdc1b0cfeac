"""Any text in the CSV, read by others' programs: each cell comes back as it was sent, and none is a formula."""

import re
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from chatbots.models import Chatbot
from conversations.models import Conversation, Message
from tests import factories
from tests.conversations.reading import START, cells_by, restored, runs, written
from tests.conversations.test_transcripts_read_back import (
    TEXTS,
    by_a_spreadsheet,
    by_duckdb,
    by_pandas,
    by_python,
    formulas_in,
    in_a_cell,
    needs_libreoffice,
)
from tests.fuzzing import examples, texts

pytestmark = pytest.mark.fuzz

_numbers = count(1)

# Much of what begins a cell, a formula or a quote somewhere.
CELLS = texts(most=400) | st.text(
    st.sampled_from("'=@\t\r\n+-\",;()019 .a\u00a0\ufeff\uff1d\uff0b\uff0d\uff20\ufe66"), max_size=14
)


def exported(chatbot: Chatbot, sent: list[str], folder: Path, dialect: str = "standard") -> Path:
    """Store a message of each text, and write the file of their chatter."""
    number = next(_numbers)
    conversation: Conversation = factories.conversation_of(
        chatbot, f"chatter {number}", messages=0, csat_comment=sent[0]
    )
    Message.objects.bulk_create(
        factories.MessageFactory.build(
            conversation=conversation, chatbot=chatbot, text=text, sent_at=START + timedelta(seconds=at)
        )
        for at, text in enumerate(sent)
    )
    path = folder / f"export-{number}.csv"
    path.write_bytes(written(chatbot, f"chatter {number}", dialect=dialect))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "files"
    inner.mkdir()
    return inner


@examples(16)
@given(sent=st.lists(CELLS, min_size=1, max_size=40))
@example(sent=TEXTS)
@example(sent=["'", "''", "'=", "=", "\r\n", "\n=", "\t", "+1 (555) 123-4567"])
@example(sent=[";'", ";''=", ";=;=", "\r=\n=\t=;=", '";=";', ";-);-1", "\uff1d;\uff0b", "+)", ";\uff0b)"])
def test_each_text_comes_back_from_strict_readers_and_no_cell_of_it_runs(chatbot, folder, sent) -> None:
    path = exported(chatbot, sent, folder)
    for separator in ",;\t":
        assert not any(map(runs, cells_by(separator, path.read_bytes())))
    for read in (by_python, by_duckdb, by_pandas):
        assert [restored(cell) for cell in read(path)] == sent, read


@pytest.mark.parametrize(("dialect", "separator"), [("excel_comma", ","), ("excel_semicolon", ";")])
@examples(16)
@given(sent=st.lists(CELLS, min_size=1, max_size=40))
@example(sent=TEXTS)
@example(
    sent=[
        ",'",
        ",''=",
        ",=,=",
        ";=;'",
        "\r=\n=\t=,=",
        '",=",',
        ",-),-1",
        "\uff1d,\uff0b",
        ",\uff0b)",
        "\ufeff,\ufeff=",
    ]
)
def test_each_text_comes_back_from_each_dialect_and_no_cell_of_it_runs(chatbot, folder, sent, dialect, separator):
    path = exported(chatbot, sent, folder, dialect)
    for wrong_or_right in ",;\t":
        assert not any(map(runs, cells_by(wrong_or_right, path.read_bytes())))
    assert [restored(cell, separator) for cell in by_python(path, separator)] == sent


def as_shown(text: str) -> str:
    """A text in LibreOffice, which takes any mixture of line ends for one, and may leave out the last one."""
    return re.sub(r"[\r\n]+", "\n", in_a_cell(text)).removesuffix("\n")


@needs_libreoffice
@pytest.mark.long(reason="LibreOffice opens each file, with each of its separators")
# Not made smaller: each try would start LibreOffice again.
@settings(examples(3), phases=(Phase.explicit, Phase.generate))
@given(sent=st.lists(CELLS, min_size=100, max_size=400))
@example(sent=TEXTS)
def test_each_text_comes_back_from_a_spreadsheet_and_none_is_a_formula(chatbot, folder, sent) -> None:
    # LibreOffice drops these, and may so bring a quote to the beginning of a cell.
    sent = [re.sub("[\ufffe\uffff]", "", text) for text in sent]
    sent = [re.sub(r"^[\x00-\x08\x0b\x0c\x0e-\x1f]+(?=')", "", text) for text in sent]
    path = exported(chatbot, sent, folder)
    for separator in ",;\t":
        assert formulas_in(separator, path) == [[]]
    cells = [as_shown(restored(cell)) for cell in by_a_spreadsheet(path)]
    assert [(cell, text) for cell, text in zip(cells, sent, strict=True) if cell != as_shown(text)] == []
