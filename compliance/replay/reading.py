"""Read the objects of the ledger that this database does not know, and refuse those that are not authentic."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import islice
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

from pydantic import AwareDatetime as Time
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

from chatbots.buckets import hosted_storage
from chatbots.models import Variable
from compliance.ledger import objects
from compliance.ledger.content import Fault, InvalidLedgerObject, LedgerContent
from compliance.models import LedgerObject, Redaction, Service

_KEYS_AT_ONCE = 1_000
_LOOKED_FOR = 10

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Refused(NamedTuple):
    """An object that is not believed. Nothing of it was used.

    `key` is escaped as Python does: whoever wrote the object may have put a line break into it.
    """

    key: str
    fault: Fault


class _OfRequest(BaseModel):
    request: UUID
    chatbot: UUID


class _Filed(_OfRequest):
    received_at: Time
    requested_at: Time | None = None
    due_at: Time
    filed_by: str | None = None
    approved_by: str | None = None


class _Named(_Filed):
    variable: UUID | None
    variable_name: str | None = None
    variable_category: Variable.Category | None = None
    chatter: Digest | None
    erase_exports: bool


class _OfMessages(BaseModel):
    conversation: Digest | Literal[""]
    messages: list[Digest]
    reason: Redaction.Reason


class _Accepted(_Named):
    kind: Literal["accepted", "intended"]
    request_kind: Literal["deletion", "export"]
    conversations: list[Digest] | None


class _AcceptedRedaction(_Named, _OfMessages):
    kind: Literal["accepted", "intended"]
    request_kind: Literal["redaction"]


class _Withdrawn(_OfRequest):
    kind: Literal["withdrawn"]
    status: Literal["cancelled", "rejected"]
    at: Time


class _Exact(_Named):
    kind: Literal["exact"]
    named: list[Digest] | None
    cutoff_at: Time
    conversations: list[Digest]


class _Redacted(_Named, _OfMessages):
    kind: Literal["redacted"]


class _Retention(_Filed):
    """A line of the former format has `up_to`, the last number that was examined, in place of the conversations."""

    kind: Literal["retention"]
    older_than: Time
    up_to: int | None = None
    conversations: list[Digest] = []
    day: date
    retention_days: int
    announced: int | None = None
    previous_days: int | None = None


class _KeyRevoked(BaseModel):
    kind: Literal["key_revoked"]
    chatbot: UUID
    key: Annotated[str, StringConstraints(min_length=1)]
    revoked_at: Time


_LINES: TypeAdapter[object] = TypeAdapter(
    list[
        Annotated[_Accepted | _AcceptedRedaction, Field(discriminator="request_kind")]
        | _Withdrawn
        | _Exact
        | _Redacted
        | _Retention
        | _KeyRevoked
    ]
)


def keys(*, since: datetime | None = None) -> Iterator[str]:
    """Yield the keys in this service's folder that no row names, in the order of writing. Raises StorageError.

    With `since` all from then on, but for those that a copy of the database has written (`tripwire`).
    """
    folder = objects.folder()
    every = objects.keys(folder, after=f"{folder}{since.astimezone(UTC):%Y/%m/%d}" if since else "")
    while some := list(islice(every, _KEYS_AT_ONCE)):
        rows = LedgerObject.objects.filter(key__in=some)
        if since:
            rows = rows.filter(request_ids=[], key_prefixes=[])
        known = set(rows.values_list("key", flat=True))
        yield from (key for key in some if key not in known)


def is_ledger_gone() -> bool:
    """Return whether the bucket has none of the objects that this database knows of. Raises StorageError.

    Then it is another bucket, or it was lost as well. Looks at the newest and the oldest of them.
    """
    known = LedgerObject.objects.filter(written_at__isnull=False, at__gt=objects.last_kept()).order_by("at")
    keys = [
        *known.reverse().values_list("key", flat=True)[:_LOOKED_FOR],
        *known.values_list("key", flat=True)[:_LOOKED_FOR],
    ]
    return bool(keys) and not any(hosted_storage().exists(key) for key in dict.fromkeys(keys))


def read(key: str, service: Service) -> LedgerContent | Refused:
    """Return the object at a key if it is an authentic one of this service, of whatever incarnation.

    Raises StorageError.
    """
    try:
        found = objects.read(key, service_id=service.service_id)
        _check(found)
    except InvalidLedgerObject as error:
        return Refused(repr(key)[1:-1], error.fault)
    return found


def _check(found: LedgerContent) -> None:
    """Refuse an object with a line that this version does not know. Raises InvalidLedgerObject."""
    try:
        _LINES.validate_python(found.lines)
    except ValidationError:
        raise InvalidLedgerObject(Fault.UNREADABLE) from None
