"""The words of a turn are known in each form in which they could lie somewhere."""

import base64
import gzip
import re
from collections.abc import Callable
from io import BytesIO
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.canary import words
from compliance.canary.words import Planted, Search, Unsearchable
from tests.compliance.canary.support import WORDS

OTHER = Planted(UUID(int=2))
SEARCH = Search([WORDS.stem])


def test_words_are_the_same_again_and_of_no_other_turn() -> None:
    assert Planted(UUID(int=1)).value == WORDS.value
    assert not SEARCH.is_in_text(OTHER.value)
    assert WORDS.stem.isalnum()
    assert WORDS.stem.islower()


@pytest.mark.parametrize(
    "form",
    [
        str.encode,
        lambda word: word.upper().encode(),
        lambda word: word.encode().hex().encode(),
        lambda word: word.encode().hex().upper().encode(),
        lambda word: gzip.compress(word.encode()),
        lambda word: gzip.compress(b"first") + gzip.compress(word.encode()),
        lambda word: gzip.compress(b"nothing" * 1000 + word.encode().hex().encode()),
        lambda word: gzip.compress(b"nothing") + word.encode(),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_word_is_found_in_each_form_however_it_is_cut(form: Callable[[str], bytes], size: int, monkeypatch) -> None:
    monkeypatch.setattr(words, "_PIECE_BYTES", size)
    for word in (WORDS.value, WORDS.said):
        assert Search([word]).is_in_file(BytesIO(form(word)))


def test_words_of_several_turns_are_found_at_once() -> None:
    search = Search([WORDS.stem, OTHER.stem])
    for turn in (WORDS, OTHER):
        # What they begin with, and what comes close to one, is passed.
        text = f"canary canary{turn.stem[:-1]} {turn.stem}".encode()
        assert search.is_in(text)
        assert search.is_in(b"canary" + base64.b64encode(text))
        assert not search.is_in(text[:-1])


@given(before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_a_word_is_found_in_base64_and_hex_of_whatever_surrounds_it(before: bytes, after: bytes) -> None:
    text = before + WORDS.value.encode() + after

    for encoded in (base64.b64encode(text), base64.urlsafe_b64encode(text), text.hex().encode()):
        assert SEARCH.is_in(encoded)
        assert re.search(words.HEADS.encode(), encoded, re.IGNORECASE)


@given(data=st.binary(max_size=300))
def test_nothing_is_found_where_nothing_is(data: bytes) -> None:
    assert not SEARCH.is_in(data)
    assert not SEARCH.is_in_file(BytesIO(b"x" + data))
    assert not SEARCH.is_in_file(BytesIO(gzip.compress(data)))


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b"0" * 20_000_000),
        b"0" * 10_000,
        b"\x1f\x8b" + b"no gzip at all",
        gzip.compress(b"cut off" * 100)[:-20],
    ],
    ids=["much in little", "much", "no gzip", "cut off"],
)
def test_what_cannot_be_searched_is_not_taken_for_clean(data: bytes) -> None:
    with pytest.raises(Unsearchable):
        Search([WORDS.stem], most_bytes=5_000).is_in_file(BytesIO(data))
