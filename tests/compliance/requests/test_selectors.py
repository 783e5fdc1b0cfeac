"""Values of a request are found in stored text, in any spelling or encoding."""

import time
import unicodedata
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from common.texts import holds
from compliance.requests.selectors import ByConversations, ByUci

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def test_a_value_is_found_in_whatever_form() -> None:
    for value, text in [
        ("Ada", "T-ada-7"),
        ("ada", "T-ADA-7"),
        ("Straße 5", "STRASSE 5"),
        ("\uff41\uff44\uff41", "ADA"),
        ("\ufb01nn", "FINN"),
        ("caf\u00e9", "CAFE\u0301"),
        ("ad\u200ba", "ada"),
        ("ada", "a\u00add\ufe0fa"),
        ("ada", "%61%64%61"),
        ("ada", "%2561da"),
        ("ada lovelace", "/Ada+Lovelace/"),
        ("ada+1@example.com", "/ADA+1@example.com"),
        ("\u212aim", "kim"),
        ("\u200b", "/%E2%80%8B"),
    ]:
        assert ByUci("member_id", value).is_in(text)
        assert ByConversations(("c-0", value)).is_in(text)


def test_text_with_another_value_is_not_changed() -> None:
    for value, text in [("ada", "adda"), ("43", "TICKET-42"), ("\u200b", "TICKET-42"), ("%61", "a")]:
        assert not holds(text, value)


@given(values, st.sampled_from(FORMS), st.sampled_from([str, str.upper, str.lower, str.casefold, str.swapcase]))
def test_neither_case_nor_form_nor_encoding_hides_a_value(value, form, change) -> None:
    written = unicodedata.normalize(form, change(value))
    assert holds(f"T-{written}-7", value)
    assert holds(f"/told/{quote(written, safe='')}/x", value)


def test_a_hundred_ids_and_the_worst_text_are_compared_soon() -> None:
    ids = ByConversations(tuple(f"{number:0200d}" for number in range(100)))
    texts = ["https://h.example/%" + "25" * 240, "https://h.example/" + "%25" * 160, "+" * 500, "%e9" * 160]
    began = time.process_time()
    for _ in range(10):
        for text in texts:
            ids.is_in(text)
    assert time.process_time() - began < 0.5


def test_text_encoded_too_many_times_is_refused() -> None:
    text = "bob"
    for _ in range(20):
        text = text.replace("%", "%25") if "%" in text else "%62ob"
    assert holds(text, "ada")
