"""Folded forms: that of values that look the same, and the words of names."""

# ruff: noqa: RUF001  (characters that look the same)

import unicodedata

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from common.folding import LONGEST_WORD, MOST_WORDS, look_alike, words
from conversations.sql import SPACES
from tests import fuzzing

VALUES = fuzzing.texts(most=40)
PADDING = st.text(SPACES, max_size=3)
ACCENTED = st.text(st.sampled_from("ae\u0301\u0323\u0307\u034f\u0345iIİıj\u030cеіǰ가가\u115f 0"), max_size=8)


@fuzzing.examples(400)
@given(value=VALUES | ACCENTED)
def test_it_is_the_same_for_the_same_text_in_another_form(value: str) -> None:
    folded = look_alike(value)
    assert look_alike(folded) == folded
    assert look_alike(unicodedata.normalize("NFD", value)) == look_alike(unicodedata.normalize("NFC", value))


@fuzzing.examples(400)
@given(value=VALUES | ACCENTED, before=PADDING, zeros=st.integers(0, 3), after=PADDING)
def test_padding_and_case_make_no_difference(value: str, before: str, zeros: int, after: str) -> None:
    padded = f"{before}{'0' * zeros}{value}{after}"
    assert look_alike(padded) == look_alike(value) or not look_alike(value)  # of zeros one is kept
    assert look_alike(value.lower()) == look_alike(value)


def test_a_value_of_zeros_keeps_one() -> None:
    assert [look_alike(value) for value in ("0", "000", " 0\u00a00", " ", "\u200b")] == ["0", "0", "0", "", ""]


@pytest.mark.django_db
def test_it_folds_each_letter_that_postgresql_folds() -> None:
    """So no value that was found while PostgreSQL folded is missed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT letter, lower(letter) FROM (SELECT chr(n) AS letter FROM generate_series(1, 1114111) AS n"
            " WHERE n NOT BETWEEN 55296 AND 57343) AS each WHERE lower(letter) <> letter"
        )
        folded = cursor.fetchall()
    assert len(folded) > 1_000
    # PostgreSQL may know a newer Unicode than Python.
    known = [pair for pair in folded if unicodedata.category(pair[0]) != "Cn"]
    assert [pair for pair in known if look_alike(pair[0]) != look_alike(pair[1])] == []


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Lucía PEÑA", ["lucia", "pena"]),
        ("Lucia Pen\u0303a", ["lucia", "pena"]),
        ("O'Brien-Smith, Ana_B. (ana)", ["o", "brien", "smith", "ana", "b"]),
        ("Øre Łódź Đặng Ægir Œuf ẞtraße", ["ore", "lodz", "dang", "aegir", "oeuf", "sstrasse"]),
        ("Işık İREM", ["isik", "irem"]),
        ("ﬁn ｅｉｎｓ ①", ["fin", "eins", "1"]),
        ("Σίσυφος", ["σισυφοσ"]),
        ("李明 สมชาย", ["李明", "สมชาย"]),
        ("हिन्दी", ["हनद"]),
        ("👩🏽‍🚀 !? ", []),
        ("", []),
    ],
)
def test_a_name_has_words_without_case_and_accents(name: str, folded: list[str]) -> None:
    assert words(name) == folded


def test_words_are_bounded_in_length_and_number() -> None:
    assert words("y" * 200) == ["y" * LONGEST_WORD]
    assert words(" ".join(f"w{number}" for number in range(100))) == [f"w{number}" for number in range(MOST_WORDS)]


@fuzzing.examples(1_000)
@given(fuzzing.texts(most=200))
def test_of_any_name_the_words_are_letters_and_digits_and_stay_as_they_are(name: str) -> None:
    found = words(name)

    assert len(found) == len(set(found)) <= MOST_WORDS
    assert all(1 <= len(word) <= LONGEST_WORD and word.isalnum() for word in found)
    assert not any(unicodedata.category(one).startswith("M") for word in found for one in word)
    assert words(" ".join(found)) == found


@fuzzing.examples(1_000)
@given(fuzzing.texts(most=60), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_a_name_has_the_same_words_in_each_form_of_unicode(name: str, form: str) -> None:
    assert words(unicodedata.normalize(form, name)) == words(name)
