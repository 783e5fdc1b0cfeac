"""Whether a text tells a value, in whatever form."""

import re
import unicodedata
from urllib.parse import unquote

_MOST_ENCODINGS = 8

# What Unicode has readers overlook (Default_Ignorable_Code_Point), beside the format characters.
_OVERLOOKED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)


def holds(text: str, *values: str) -> bool:
    """Say whether one of the values stands in a text: in whatever case, Unicode form or width, with characters in
    between that nobody sees, plain or percent-encoded (once or more), with `+` for a space or not.

    So nothing that is kept may hold the value of somebody who asked to be forgotten. A text that is encoded more
    often than anybody does is taken to hold it.
    """
    readings = [text]
    while (decoded := unquote(readings[-1])) != readings[-1]:
        if len(readings) > _MOST_ENCODINGS:
            return True
        readings.append(decoded)
    # As one text, or a hundred ids would each look through all of them. No value holds a NUL.
    folded = "\0".join(_folded(each) for reading in readings for each in (reading, reading.replace("+", " ")))
    # A value that is made of what nobody sees alone is looked for as it is.
    return any(wanted in folded if (wanted := _folded(value)) else value in readings[-1] for value in values)


def _folded(text: str) -> str:
    """Return a text as Unicode compares it without case (NFKC_Casefold)."""
    if text.isascii():
        return text.casefold()
    seen = "".join(each for each in _OVERLOOKED.sub("", text) if unicodedata.category(each) != "Cf")
    # Folding can undo the normal form, and undoing that can need folding.
    for _ in range(2):
        seen = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return seen
