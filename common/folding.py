"""Fold names for a search, so that case, accents and the order of words do not matter.

Python folds, not PostgreSQL: its `unaccent` is an extension, and its result changes with the files of a server. What
is stored and what is searched for are folded alike, so a folded word need not be spelled correctly in its language.
"""

import re
import unicodedata

# A longer word is found by so many characters, and of a longer name so many words are found.
LONGEST_WORD = 64
MOST_WORDS = 16

# Letters that Unicode does not decompose, as people type them without a keyboard for them. After casefolding, which
# makes "ss" of "ß".
_PLAIN = str.maketrans(
    {"æ": "ae", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ł": "l", "ø": "o", "œ": "oe", "ŧ": "t", "þ": "th"}  # noqa: RUF001
)
_WORD = re.compile(r"[^\W_]+")


def words(name: str) -> list[str]:
    """Return the distinct words of a name, without case and accents, in the order of the name.

    A word is a run of letters and digits. The scripts of Chinese, Japanese and Thai have no spaces, so there a whole
    name is one word, which is found by its beginning.
    """
    folded = name.lower() if name.isascii() else _folded(name)
    return list(dict.fromkeys([word[:LONGEST_WORD] for word in _WORD.findall(folded)]))[:MOST_WORDS]


def _folded(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name)
    letters = "".join([one for one in decomposed if not unicodedata.category(one).startswith("M")])
    return letters.casefold().translate(_PLAIN)
