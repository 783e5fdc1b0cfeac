"""How many examples properties try, and the texts that those about hostile input are made of.

Few in each run of the tests, and a quarter of them in `make test`. `make fuzz` runs the tests marked `fuzz` with
FUZZ_EXAMPLES times as many, and a seed.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_TIMES = int(os.environ.get("FUZZ_EXAMPLES", "1"))
_is_short_run = False


def shorten() -> None:
    """Have each property try a quarter of its examples. Call it before the tests are loaded."""
    global _is_short_run  # noqa: PLW0603  (once, as pytest starts)
    _is_short_run = True
    settings.register_profile("short", settings(), max_examples=settings().max_examples // 4)
    settings.load_profile("short")


def examples(number: int) -> settings:
    """Return the settings of a property that tries so many examples, or a quarter where long tests are left out."""
    return settings(
        max_examples=max(1, number // 4) if _is_short_run else number * _TIMES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# What is a character to some programs and means something to others.
ODD = (
    *("\t", "\n", "\r", "\r\n", "\x01", "\x1b[31m", "\x7f", "\x85", "\u00a0", "\u200b", "\u2028", "\ufeff", "\uffff"),
    *("👩🏽\u200d🚀", "🇫🇷", "e\u0301", "ﬁ", "İ", "ß", "שלום", "\u202eabc\u202c", "\u2066x\u2069", "\U0010ffff"),
    *("../", "..\\", "/etc/passwd", "%00", "%s", "%(a)s", "{}", "{{7*7}}", "${7*7}", "\\N", "\\.", "\\u0000", "\\"),
    *("'", '"', '"";', "'; --", "<script>", "</script>", "<!--", "]]>", "&lt;", "=1+1", "+1", "-1", "@x", ";=1"),
    *("null", "NaN", "0", "1e400", "²", "٤٢"),
)


def texts(*, least: int = 0, most: int) -> st.SearchStrategy[str]:
    """Return texts of `least` to `most` characters that can be stored: without NUL and lone surrogates."""
    character = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    pieces = st.lists(st.sampled_from(ODD) | st.text(character, max_size=5), max_size=8).map("".join)
    filler = st.text(character, min_size=least, max_size=least)
    longest = st.sampled_from(["x", "é", "😀"]).map(lambda one: one * most)
    cut = st.builds(lambda text, more: (text + more)[: max(least, min(most, len(text) or least))], pieces, filler)
    return cut | pieces.filter(lambda text: least <= len(text) <= most) | longest
