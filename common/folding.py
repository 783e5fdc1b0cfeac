"""Folded forms of texts: of values that a reader can mistake for each other, and of names for a search.

Python folds, not PostgreSQL: its `unaccent` is an extension, and its result changes with the files of a server. What
is stored and what is searched for are folded alike, so a folded word need not be spelled correctly in its language.
"""

# ruff: noqa: RUF001  (the letters that look like Latin ones)

import re
import unicodedata
from hashlib import blake2b

# Unicode's Default_Ignorable_Code_Point, besides the format characters.
_IGNORABLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")

# Characters that look like a Latin letter in one of their cases, and hyphens and apostrophes. Selected from Unicode's
# confusables.txt (UTS #39), which also has pairs that differ in most fonts, such as l and 1. Where the cases look
# like different letters the upper one counts: Greek nu is n, not v.
_LOOK = {
    ord(character): latin
    for latin, characters in {
        "a": "аα",
        "b": "вьβ",
        "c": "с",
        "d": "ԁ",
        "e": "еҽε",
        "f": "ϝք",
        "g": "ԍց",
        "h": "нһηհ",
        "i": "іӏιı",
        "j": "јϳ",
        "k": "кκ",
        "m": "мμ",
        "n": "νոռ",
        "o": "оοօ",
        "p": "рρ",
        "q": "ԛգզ",
        "r": "г",
        "s": "ѕտ",
        "t": "тτ",
        "u": "ս",
        "v": "ѵ",
        "w": "ѡԝա",
        "x": "хχ",
        "y": "уүγυ",
        "z": "ζ",
        "-": "‐‒–−⁃",
        "'": "‘’ʼ′՚",
    }.items()
    for character in characters
}
# White space is no control character here.
_WITHOUT_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if not chr(code).isspace()}
# An i with its dot as a character, as Python folds the Turkish capital; PostgreSQL's `lower` makes it a plain i.
_MARKED_I = re.compile("i[\u0300-\u036f]+")

# A longer word is found by so many characters, and of a longer name so many words are found.
LONGEST_WORD = 64
MOST_WORDS = 16

# Letters that Unicode does not decompose, as people type them without a keyboard for them. After casefolding, which
# makes "ss" of "ß".
_PLAIN = str.maketrans(
    {"æ": "ae", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ł": "l", "ø": "o", "œ": "oe", "ŧ": "t", "þ": "th"}
)
# The usual accents, which are removed at once: most names are ASCII then.
_ACCENTS = re.compile("[\u0300-\u036f]+")
_WORD = re.compile(r"[^\W_]+")


def without_invisible(text: str) -> str:
    """Return the text without the characters that Unicode calls ignorable, which are drawn as nothing."""
    return "".join(each for each in _IGNORABLE.sub("", text) if unicodedata.category(each) != "Cf")


def caseless(text: str) -> str:
    """Return the text in the form for caseless comparison (NFKC_Casefold)."""
    if text.isascii():
        return text.casefold()
    seen = without_invisible(text)
    # Folding can undo the normal form, and normalizing can require folding.
    for _ in range(2):
        seen = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return seen


def look_alike(value: str) -> str:
    """Return the form that a value shares with those that a reader can mistake for it.

    It has no case, invisible characters, widths, leading zeros and spaces; other spaces are one; accents stand after
    their letters; letters that look like Latin ones are Latin. A value of zeros alone keeps one. A newer Python knows
    more characters. A change here needs a migration that stores `look_hash` again.
    """
    folded = value.lower()
    if not (value.isascii() and value.isprintable()):
        seen = unicodedata.normalize("NFKD", caseless(value.translate(_WITHOUT_CONTROLS)))
        folded = unicodedata.normalize("NFKD", seen.translate(_LOOK))
        folded = _MARKED_I.sub(lambda found: found[0].replace("\u0307", ""), folded)
    spaced = " ".join(folded.split())
    return spaced.lstrip("0 ") or spaced[:1]


def look_hash(value: str) -> int:
    """Return the hash of `look_alike`, for a column of 8 bytes."""
    return int.from_bytes(blake2b(look_alike(value).encode(), digest_size=8).digest(), signed=True)


def words(name: str) -> list[str]:
    """Return the distinct words of a name, without case and accents, in the order of the name.

    A word is a run of letters and digits. The scripts of Chinese, Japanese and Thai have no spaces, so there a whole
    name is one word, which is found by its beginning.
    """
    folded = name.lower() if name.isascii() else _letters(name)
    return list(dict.fromkeys([word[:LONGEST_WORD] for word in _WORD.findall(folded)]))[:MOST_WORDS]


def _letters(name: str) -> str:
    decomposed = _ACCENTS.sub("", unicodedata.normalize("NFKD", name))
    if decomposed.isascii():
        return decomposed.lower()
    seen = without_invisible(decomposed)
    letters = "".join([one for one in seen if not unicodedata.category(one).startswith("M")])
    return letters.casefold().translate(_PLAIN)
