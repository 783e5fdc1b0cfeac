"""Write the change log. Its data is of closed vocabulary: no field can carry what a person said or is."""

from collections.abc import Mapping
from uuid import UUID

from chatbots.models import ChangeLogEntry

Data = Mapping[str, str | int | bool | None]

# Event -> the keys its data may have. Values are codes, counts, ids and names of settings, never content.
VOCABULARY: dict[str, frozenset[str]] = {
    "chatbot.created": frozenset(),
    "chatbot.changed": frozenset({"setting", "value"}),
    "membership.set": frozenset({"user", "role"}),
    "membership.removed": frozenset({"user"}),
    "variable.created": frozenset({"variable", "category"}),
    "variable.designated_uci": frozenset({"variable"}),
    "bucket.set": frozenset({"hosting"}),
    "apikey.created": frozenset({"prefix", "type"}),
    "apikey.revoked": frozenset({"prefix"}),
    "request.accepted": frozenset({"kind", "origin"}),
    "request.held": frozenset({"reason"}),
    "request.released": frozenset({"reason"}),
    "request.approved": frozenset(),
    "request.rejected": frozenset(),
    "request.cancelled": frozenset(),
    "request.started": frozenset({"conversations"}),
    "request.given_back": frozenset({"code", "attempts"}),
    "request.failed": frozenset({"code", "attempts"}),
    "request.retried": frozenset(),
    "request.completed": frozenset({"result", "conversations", "messages", "files", "exports"}),
    "request.late_data_erased": frozenset({"conversations", "messages", "files"}),
}


def entry(
    event: str, *, chatbot_id: int, actor: str, request_id: UUID | None = None, data: Data | None = None
) -> ChangeLogEntry:
    """Build an entry, unsaved (for a bulk insert). Raises ValueError for an unknown event or key."""
    data = data or {}
    if event not in VOCABULARY or not data.keys() <= VOCABULARY[event]:
        raise ValueError(f"The change log knows no event {event!r} with {sorted(data)}: declare it in VOCABULARY.")
    return ChangeLogEntry(chatbot_id=chatbot_id, request_id=request_id, event=event, actor=actor, data=dict(data))


def record(
    event: str, *, chatbot_id: int, actor: str, request_id: UUID | None = None, data: Data | None = None
) -> None:
    """Append one entry, in the caller's transaction."""
    entry(event, chatbot_id=chatbot_id, actor=actor, request_id=request_id, data=data).save(force_insert=True)


def record_all(entries: list[ChangeLogEntry]) -> None:
    """Append many entries in one statement, in the caller's transaction."""
    ChangeLogEntry.objects.bulk_create(entries)
