"""The outline of a JSON text, found without parsing: its brackets, commas and colons outside of strings.

10 MB can hold five million empty objects, for which a parser needs 1,000 MB. The outline shows whether to parse.
"""

from itertools import accumulate

_PIECE_BYTES = 64 * 1024
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{},:'))
# +1 for an opening bracket, -1 for a closing one, as signed bytes.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


class TooDense(Exception):
    """The text has more structure than allowed."""


def outline_of(raw: bytes, most: int) -> bytes:
    """Return the brackets, commas and colons of a JSON text outside of its strings.

    Raises TooDense soon after meeting more than `most`. For invalid JSON the result is right up to where a parser
    would stop. Time and memory are proportional to the text.
    """
    # Without escapes each quote begins or ends a string. Two adjacent quotes cancel out.
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    outside: list[bytes] = []
    is_text, length = False, 0
    for start in range(0, len(bare), _PIECE_BYTES):
        # Every second part is outside of strings.
        parts = bare[start : start + _PIECE_BYTES].split(b'"')
        outside.append(b"".join(parts[is_text::2]))
        is_text ^= len(parts) % 2 == 0
        length += len(outside[-1])
        if length > most:
            raise TooDense
    return b"".join(outside)


def count_values(outline: bytes) -> int:
    """Return the number of values in the text, minus one; an empty list or object counts as two."""
    return outline.count(b",") + outline.count(b"[") + outline.count(b"{")


def is_deeper(outline: bytes, most: int) -> bool:
    """Return whether lists and objects are nested more than `most` deep. Needs no recursion."""
    if outline.count(b"[") + outline.count(b"{") <= most:
        return False
    steps = memoryview(outline.translate(_STEPS, b",:")).cast("b")
    return any(map(most.__lt__, accumulate(steps)))
