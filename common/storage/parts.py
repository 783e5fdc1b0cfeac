"""The parts of a multipart upload."""

from collections.abc import Iterable, Iterator

# S3 takes 10,000 parts at most, so an object can have 78 GiB.
PART_BYTES = 8 * 1024 * 1024


def in_parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Regroup chunks into parts of PART_BYTES, the last one shorter. At least one: an upload needs a part."""
    buffer = bytearray()
    yielded = False
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= PART_BYTES:
            yield bytes(memoryview(buffer)[:PART_BYTES])
            del buffer[:PART_BYTES]
            yielded = True
    if buffer or not yielded:
        yield bytes(buffer)
