"""The words of a turn are known in each form in which they could lie somewhere."""

import base64
import gzip
import zlib
from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.canary.words import Search, Unsearchable, planted

TURN, OTHER = UUID(int=1), UUID(int=2)
WORDS = planted(TURN)


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_words_are_the_same_again_and_of_no_other_turn() -> None:
    again, other = set(planted(TURN).words.values()), set(planted(OTHER).words.values())

    assert again == set(WORDS.words.values())
    assert len(again) == len(WORDS.words)
    assert again.isdisjoint(other)
    assert all(word.isalnum() and word.islower() and len(word) == 30 for word in again)


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
    ],
)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_word_is_found_in_each_form_however_it_is_cut(form: Callable[[str], bytes], size: int) -> None:
    search = Search(WORDS)
    for word in WORDS.words.values():
        assert search.is_in_any(in_pieces(form(word), size))


def test_words_of_several_turns_are_found_at_once() -> None:
    search = Search(WORDS, planted(OTHER))
    for turn in (TURN, OTHER):
        # What they begin with, and what comes close to one, is passed.
        text = f"canary canary{planted(turn).value[:-1]} {planted(turn).value}".encode()
        assert search.is_in(text)
        assert search.is_in(b"canary" + base64.b64encode(text))
        assert not search.is_in(text[:-1])


@given(before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_a_word_is_found_in_base64_of_whatever_surrounds_it(before: bytes, after: bytes) -> None:
    text = before + WORDS.value.encode() + after

    assert Search(WORDS).is_in(base64.b64encode(text))
    assert Search(WORDS).is_in(base64.urlsafe_b64encode(text))


@given(data=st.binary(max_size=300))
def test_nothing_is_found_where_nothing_is(data: bytes) -> None:
    search = Search(WORDS)
    assert not search.is_in(data)
    assert not search.is_in_any([b"x" + data])
    assert not search.is_in_any([gzip.compress(data)])
    assert not search.is_in_text(planted(OTHER).value)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b"0" * 10_000),
        b"0" * 10_000,
        b"\x1f\x8b" + b"no gzip at all",
        gzip.compress(b"cut off" * 100)[:-20],
    ],
    ids=["much in little", "much", "no gzip", "cut off"],
)
def test_what_cannot_be_searched_is_not_taken_for_clean(data: bytes) -> None:
    with pytest.raises(Unsearchable):
        Search(WORDS, most_bytes=5_000).is_in_any([data])


def test_packed_text_is_no_trap_for_memory() -> None:
    bomb = gzip.compress(b"\0" * 20_000_000, compresslevel=9)
    assert len(bomb) < 300_000

    with pytest.raises(Unsearchable):
        Search(WORDS, most_bytes=1_000_000).is_in_any([bomb])


def test_a_word_in_the_head_of_gzip_is_found() -> None:
    packer = zlib.compressobj(wbits=31)
    data = packer.compress(b"nothing") + packer.flush()

    assert Search(WORDS).is_in_any([data, WORDS.value.encode()])
