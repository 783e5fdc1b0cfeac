"""The terms of the inventory: which way a row is reached, and what becomes of each of its fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.db.models import Model


class ReachedBy(StrEnum):
    """How a row is reached from what a request names."""

    ITSELF = "is the conversation"
    CONVERSATION = "by its conversation"
    FILE = "by its conversation, after its object in storage is gone"
    CHATTER = "by variable and keyed digest of the UCI value, or by keyed digests of conversations' ids"
    DAY = "by the days on which the erased messages were sent"
    COPY = "by its conversation; it says where a copy of that one lies, and names nobody"
    REQUEST = "by its request; it names no chatter"
    CALL = "by the keyed digest of a call; it names no chatter"


class Disposition(StrEnum):
    DELETED = "deleted with its row"
    EMPTIED = "set to null"
    DAY = "reduced to its UTC day"
    LEDGER = "kept for ERASURE_LEDGER_DAYS at most, then emptied, or deleted with its row"
    EXPIRES = "deleted with its row when its time is over"
    KEPT = "kept"


Declared = tuple[Disposition, str]


@dataclass(frozen=True)
class Store:
    model: type[Model]
    way: ReachedBy
    fields: Mapping[str, Declared]
    counter: str = ""  # the request's counter that says how many were erased

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    def with_disposition(self, disposition: Disposition) -> tuple[str, ...]:
        """Return the column names of the fields with this disposition."""
        return tuple(
            str(self.model._meta.get_field(name).column)  # type: ignore[union-attr]
            for name, (declared, _) in self.fields.items()
            if declared is disposition
        )
