"""The structure of a JSON text, found without parsing it: no parser has to be trusted with a hostile one.

10 MB can say five million empty objects, of which a parser makes a thousand MB. What is too much is refused by its
outline: brackets, commas and colons outside of strings.
"""

from itertools import accumulate

_PIECE_BYTES = 64 * 1024
_NOT_OF_IT = bytes(set(range(256)) - set(b'"[]{},:'))
# A step down, a step up, and what is neither: as signed bytes.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


class TooDense(Exception):
    """The text has more structure than was allowed."""


def outline_of(raw: bytes, most: int) -> bytes:
    """Return the brackets, commas and colons of a JSON text that stand outside of its strings.

    Raises TooDense if there are more than `most`, soon after it has met them. Of what is no JSON the answer is right
    for all that a parser reads before it stops. Needs time and memory in proportion to the text.
    """
    # Without escapes each quote begins or ends a string. Two that meet change nothing for what stands around them.
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_OF_IT).replace(b'""', b"")
    outside: list[bytes] = []
    is_text, length = False, 0
    for start in range(0, len(bare), _PIECE_BYTES):
        # Every second part stands outside of strings.
        parts = bare[start : start + _PIECE_BYTES].split(b'"')
        outside.append(b"".join(parts[is_text::2]))
        is_text ^= len(parts) % 2 == 0
        length += len(outside[-1])
        if length > most:
            raise TooDense
    return b"".join(outside)


def count_values(outline: bytes) -> int:
    """Return how many values a text of this outline has, less one; an empty list or object counts as two."""
    return outline.count(b",") + outline.count(b"[") + outline.count(b"{")


def is_deeper(outline: bytes, most: int) -> bool:
    """Say whether lists and objects stand more than `most` deep in each other. Needs no recursion."""
    if outline.count(b"[") + outline.count(b"{") <= most:
        return False
    steps = memoryview(outline.translate(_STEPS, b",:")).cast("b")
    return any(map(most.__lt__, accumulate(steps)))
