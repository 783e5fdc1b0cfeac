"""Rules for texts in calls, a search for values in texts, and words that depend on a number."""

from collections.abc import Mapping
from urllib.parse import unquote

from common.folding import caseless
from common.times import RFC_3339

# Patterns of strings in calls, each with its description: an error does not show a pattern.
# A client's own reference for a request. Compared whole.
REFERENCE = r"^[A-Za-z0-9._:-]{1,64}$"
WITHOUT_NUL = r"^[^\x00]*$"

# "Must be " and these.
RULES = {
    REFERENCE: "1 to 64 characters: letters A to Z and a to z, digits, and . _ : -",
    WITHOUT_NUL: "free of the character NUL.",
}

_TIME = ("invalid_time", "Must be an RFC 3339 time such as 2026-11-23T09:00:00Z.")

# pydantic's error types and patterns -> our code and sentence, into which limits and choices are filled.
ERRORS: Mapping[str, tuple[str, str]] = {
    "missing": ("missing", "This field is required."),
    "extra_forbidden": ("unknown_field", "There is no such field."),
    "model_type": ("wrong_type", "Must be an object."),
    "dict_type": ("wrong_type", "Must be an object."),
    "list_type": ("wrong_type", "Must be a list."),
    "string_type": ("wrong_type", "Must be a string."),
    "bool_type": ("wrong_type", "Must be true or false."),
    "int_type": ("wrong_type", "Must be a whole number."),
    "float_type": ("wrong_type", "Must be a number."),
    "string_unicode": ("unpaired_surrogate", "Must not hold an unpaired surrogate."),
    "string_too_short": ("too_short", "Must have at least {min_length} character(s)."),
    "string_too_long": ("too_long", "Must have at most {max_length} characters."),
    **{pattern: ("wrong_pattern", f"Must be {rule}") for pattern, rule in RULES.items()},
    "string_pattern_mismatch": ("wrong_pattern", "Does not have the form that the field must have."),
    "too_short": ("too_short", "Must have at least {min_length} entry."),
    "too_long": ("too_long", "Must have at most {max_length} entries."),
    "enum": ("unknown_value", "Must be {expected}."),
    "literal_error": ("unknown_value", "Must be {expected}."),
    "greater_than_equal": ("out_of_range", "Must be {ge} or more."),
    "less_than_equal": ("out_of_range", "Must be {le} or less."),
    "less_than": ("out_of_range", "Must be before {lt}."),
    "finite_number": ("out_of_range", "Must be a finite number."),
    "too_precise": ("too_precise", "Must have one decimal at most."),
    **dict.fromkeys((RFC_3339, "datetime_parsing", "datetime_from_date_parsing"), _TIME),
    "timezone_aware": ("time_zone_missing", "Must name its time zone: Z or an offset such as +01:00."),
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
