"""How deep a JSON text is nested, found without parsing it: no parser has to be trusted with a hostile one."""

from itertools import accumulate

_PIECE_BYTES = 64 * 1024
# A step down, a step up, and what is neither: as signed bytes.
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_STEPS = bytes(set(range(256)) - set(b'"[]{}'))


def is_deeper(raw: bytes, most: int) -> bool:
    """Say whether lists and objects of a JSON text stand more than `most` deep in each other.

    Of what is no JSON the answer is right for all that a parser reads before it stops. Needs no recursion, and time
    and memory in proportion to the text.
    """
    if raw.count(b"[") + raw.count(b"{") <= most:
        return False
    # Without escapes each quote begins or ends a string. Two that meet change nothing for what stands around them.
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_STEPS, _NO_STEPS).replace(b'""', b"")
    depth, is_text = 0, False
    for start in range(0, len(bare), _PIECE_BYTES):
        # Every second part stands outside of strings.
        parts = bare[start : start + _PIECE_BYTES].split(b'"')
        steps = memoryview(b"".join(parts[is_text::2])).cast("b")
        if any(map(most.__lt__, accumulate(steps, initial=depth))):
            return True
        depth += sum(steps)
        is_text ^= len(parts) % 2 == 0
    return False
