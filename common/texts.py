"""Rules for texts in calls, a search for values in texts, and words that depend on a number."""

from urllib.parse import unquote

from common.folding import caseless

# Patterns of strings in calls, each with its description: an error does not show a pattern.
# A client's own reference for a request. Compared whole.
REFERENCE = r"^[A-Za-z0-9._:-]{1,64}$"
WITHOUT_NUL = r"^[^\x00]*$"

# "Must be " and these.
RULES = {
    REFERENCE: "1 to 64 characters: letters A to Z and a to z, digits, and . _ : -",
    WITHOUT_NUL: "free of the character NUL.",
}

_MOST_ENCODINGS = 8


def counted(number: int, noun: str) -> str:
    """Return `1 request`, `2 requests`, `1,000 requests`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def is_storable(text: str) -> bool:
    """Return whether the text has neither NUL nor unpaired surrogates, which broken clients send."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def holds(text: str, *values: str) -> bool:
    """Return whether the text contains one of the values, in any case, Unicode form or width, with invisible
    characters in between, plain or percent-encoded (repeatedly), with `+` for a space or not.

    Stored texts must not contain the value of a person who asked for erasure. A text encoded more than
    _MOST_ENCODINGS times counts as containing it.
    """
    readings = [text]
    while (decoded := unquote(readings[-1])) != readings[-1]:
        if len(readings) > _MOST_ENCODINGS:
            return True
        readings.append(decoded)
    # Joined, so that a hundred ids need one search each. No value contains NUL.
    folded = "\0".join(caseless(each) for reading in readings for each in (reading, reading.replace("+", " ")))
    # A value of invisible characters only is searched as it is.
    return any(wanted in folded if (wanted := caseless(value)) else value in readings[-1] for value in values)
