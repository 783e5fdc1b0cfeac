"""The formula guard of the CSV: guarded and harmless cells, and restoring every text."""

import pytest
from pytest_django import Settings

from chatbots.models import Chatbot, Variable
from tests import factories
from tests.conversations.reading import lines, message, restored, stored_file

GUARDED = {
    "conversation_id", "language", "user_name", "csat_comment", "uci_key", "uci_value", "message_id", "text",
    "file_name",
}  # fmt: skip


def test_it_guards_a_formula_in_each_of_them(chatbot: Chatbot) -> None:
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


@pytest.mark.parametrize(
    ("text", "cell"),
    [
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
    ],
)
def test_it_guards_wherever_a_cell_can_begin(chatbot: Chatbot, text: str, cell: str) -> None:
    assert guarded(chatbot, [text]) == [cell]
    assert restored(cell) == text


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
def test_it_distinguishes_numbers_and_phone_numbers_from_formulas(
    chatbot: Chatbot, texts: list[str], is_guarded: bool
) -> None:
    cells = guarded(chatbot, texts)
    assert [cell.startswith("'") for cell in cells] == [is_guarded] * len(texts)
    assert [restored(cell) for cell in cells] == texts


def test_it_does_not_guard_when_the_setting_is_off(chatbot: Chatbot, settings: Settings) -> None:
    settings.CSV_FORMULA_GUARD = False
    texts = ["=1+1", "'quoted", "-1+2", "@x"]
    assert guarded(chatbot, texts) == texts
