"""What the erasure ledger in a bucket says."""

from collections.abc import Iterator

from common.storage import ObjectStorage
from compliance.ledger import content, objects
from compliance.ledger.content import Line


def lines_of(storage: ObjectStorage, *kinds: str) -> list[Line]:
    """Return the lines of all objects, of these kinds or of all, in the order of writing."""
    read = [content.unseal(storage.read(key), key=key).lines for key in keys_of(storage)]
    return [line for lines in read for line in lines if not kinds or line["kind"] in kinds]


def keys_of(storage: ObjectStorage) -> Iterator[str]:
    return storage.keys(objects.PREFIX)
