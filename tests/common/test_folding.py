"""Names folded into words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.folding import LONGEST_WORD, MOST_WORDS, words
from tests.fuzzing import examples, texts


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Lucía PEÑA", ["lucia", "pena"]),
        ("Lucia Pen\u0303a", ["lucia", "pena"]),
        ("O'Brien-Smith, Ana_B. (ana)", ["o", "brien", "smith", "ana", "b"]),
        ("Øre Łódź Đặng Ægir Œuf ẞtraße", ["ore", "lodz", "dang", "aegir", "oeuf", "sstrasse"]),
        ("Işık İREM", ["isik", "irem"]),  # noqa: RUF001
        ("ﬁn ｅｉｎｓ ①", ["fin", "eins", "1"]),  # noqa: RUF001
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


@examples(1_000)
@given(texts(most=200))
def test_of_any_name_the_words_are_letters_and_digits_and_stay_as_they_are(name: str) -> None:
    found = words(name)

    assert len(found) == len(set(found)) <= MOST_WORDS
    assert all(1 <= len(word) <= LONGEST_WORD and word.isalnum() for word in found)
    assert not any(unicodedata.category(one).startswith("M") for word in found for one in word)
    assert words(" ".join(found)) == found


@examples(1_000)
@given(texts(most=60), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_a_name_has_the_same_words_in_each_form_of_unicode(name: str, form: str) -> None:
    assert words(unicodedata.normalize(form, name)) == words(name)
