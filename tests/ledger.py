"""What the erasure ledger in a bucket says, and what a look at it notices."""

from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from common.storage import ObjectStorage
from compliance.ledger import content, objects, service, tripwire
from compliance.ledger.content import Header, Line
from compliance.models import LedgerObject, Occurrence, Service

LINE = {"kind": "withdrawn", "request": str(uuid4()), "chatbot": str(uuid4()), "status": "cancelled", "at": None}


def lines_of(storage: ObjectStorage, *kinds: str) -> list[Line]:
    """Return the lines of all objects, of these kinds or of all, in the order of writing."""
    read = [content.unseal(storage.read(key), key=key).lines for key in keys_of(storage)]
    return [line for lines in read for line in lines if not kinds or line["kind"] in kinds]


def keys_of(storage: ObjectStorage) -> Iterator[str]:
    return storage.keys(objects.PREFIX)


def header(ours: Service, *, age: timedelta = timedelta(), **changes: Any) -> Header:
    """Return the header of an object that a life of this service wrote; `age` is its time before now."""
    at = timezone.now().astimezone(UTC) - age
    key = f"{objects.PREFIX}{ours.service_id}/{at:%Y/%m/%d/%H%M%S}-{uuid4()}.jsonl"
    return Header(**{"key": key, "service_id": ours.service_id, "incarnation": ours.incarnation, "at": at} | changes)


def put(storage: ObjectStorage, header: Header, *, key: str = "", is_known: bool = False) -> str:
    storage.put(key or header.key, content.seal(header, [LINE]), content_type=objects.CONTENT_TYPE)
    if is_known:
        LedgerObject.objects.create(key=header.key, at=header.at, written_at=header.at)
    return header.key


def recovered() -> None:
    """Have the database believe that it was recovered from a backup, or promoted: on another timeline."""
    Service.objects.update(timeline=77)


def state() -> str:
    """Return the service's state after a look."""
    tripwire.check()
    return str(service.state())


def noted(name: Occurrence.Name) -> int:
    return sum(Occurrence.objects.filter(name=name).values_list("times", flat=True))
