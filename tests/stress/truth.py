"""The model: what was sent, uploaded and requested, as the callers of the service know it.

Of what happens side by side only that is held to be certain which was answered before the other was asked.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

# A chatbot's name and the platform's id of a conversation.
Place = tuple[str, str]

_PLANTED = re.compile(rb"planted\.(\w+)\.(\w+)\.(\w+)")

DELETIONS = {"delete", "delete_ids"}
EXPORTS = {"export", "export_ids"}
RETAINED_FOR = timedelta(days=90)
ENDED_WITHOUT = {"cancelled", "rejected"}
# In the name of an export that was filed again: of what was certain then, nothing is known.
AGAIN = " again"
FINAL = {"completed", "cancelled", "rejected"}


def now() -> datetime:
    # PostgreSQL runs on this machine: its clock is ours.
    return datetime.now(UTC)


def planted(place: Place, what: str) -> str:
    """Return a text of a conversation that is found again wherever it is copied to."""
    return f"planted.{place[0]}.{place[1]}.{what}"


def found_in(data: bytes) -> set[str]:
    """Return the planted texts that are in this."""
    return {match[0].decode() for match in _PLANTED.finditer(data)}


def places_of(texts: Iterable[str]) -> set[Place]:
    """Return the conversations of these planted texts."""
    return {(bot, name) for _, bot, name, _ in (text.split(".") for text in texts)}


@dataclass
class Span:
    """When something was asked, and when it was answered."""

    asked_at: datetime
    answered_at: datetime | None = None


@dataclass(frozen=True)
class Text:
    """A text on a request, which is `what` and contains a chatter or an id. It surely is there since `at`."""

    what: str
    text: str
    of: str
    at: datetime


@dataclass
class Demand(Span):
    """What a chatbot's exports demand from then on."""

    bot: str = ""
    least: str = ""


@dataclass
class ModelConversation:
    """A conversation. `people` are those whom a stored document or an identity named; `named` also those by whom it
    was closed, since a document or an identity named them; `tried` also those of other documents, with an answer or
    without. `claimed` counts the calls that identify somebody; `refused` are the erased ones of these who closed
    nothing. `asked` are those whom the client's server named when it was asked; it surely is if `is_looked_up` and
    nobody was named otherwise."""

    place: Place
    number: int | None = None
    is_sent: bool = False  # also while the answer is not there yet
    began: datetime | None = None
    asked_at: datetime | None = None
    last_at: datetime | None = None
    people: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    claimed: Counter[str] = field(default_factory=Counter)
    refused: set[str] = field(default_factory=set)
    may_be_refused: bool = False
    asked: set[str] = field(default_factory=set)
    is_looked_up: bool = False
    # Documents with a session, answered or not; and since when a document of a chatter's session is surely stored.
    arrivals: int = 0
    sessions: dict[str, datetime] = field(default_factory=dict)
    # What had erased it had ended when the database was lost: nothing of it may ever be here again.
    is_promised: bool = False
    messages: set[str] = field(default_factory=set)
    files: list[str] = field(default_factory=list)
    failed_uploads: int = 0
    # For whose identity the client's server vouched: from when on it may have, and surely had.
    vouched: dict[str, "Span"] = field(default_factory=dict)

    @property
    def may_be_in_doubt(self) -> bool:
        """Return whether it may be looked up again, or may have been without an answer."""
        return self.arrivals > 1 or bool(self.arrivals and self.claimed)


@dataclass
class Filed:
    """A request. `certain` are the conversations that were surely in its scope when it was filed; `held` what was in
    the file of an export when it was seen first."""

    name: str
    kind: str
    bot: str
    chatter: str | None
    ids: tuple[str, ...]
    flags: frozenset[str]
    number: int
    asked_at: datetime
    certain: frozenset[Place]
    id: UUID | None = None
    received_at: datetime | None = None
    status: str = ""
    completed_at: datetime | None = None
    held: frozenset[Place] | None = None
    key: str | None = None
    aged_at: datetime | None = None
    has_begun: bool = False
    has_failed: bool = False
    is_marked: bool = False
    # Of an export: the redactions that may not remove it in its grace.
    kept_from: set[str] = field(default_factory=set)
    # Of an export that was filed again: the deletions that wait for it.
    awaited_by: set[str] = field(default_factory=set)
    # Of a completed export: it is in the client's own bucket.
    is_delivered: bool = False
    texts: list[Text] = field(default_factory=list)
    # The deletions that had begun when the file of an export was seen to be gone.
    gone_with: frozenset[str] | None = None
    left_out: int = 0
    # Of a redaction: the text of its message.
    text: str = ""
    # Of a retention run: what it erases is older than this, without what it may not erase any more, since it has
    # ended or its period has. `days`: its period, if that is in force.
    older_than: datetime | None = None
    days: int | None = None
    spared: set[Place] = field(default_factory=set)
    # When it ended first; a restore may have it carried out again.
    done_at: datetime | None = None
    # After a restore: this database did not know it; it does not know it still.
    is_replayed: bool = False
    is_absent: bool = False

    @property
    def is_deletion(self) -> bool:
        return self.kind in DELETIONS

    @property
    def is_export(self) -> bool:
        return self.kind in EXPORTS

    @property
    def is_hosted_export(self) -> bool:
        return self.is_export and self.status == "completed" and not self.is_delivered

    def __str__(self) -> str:
        whom = self.chatter or "+".join(self.ids)
        return f"{self.name} ({' '.join([self.kind, f'{self.bot}/{whom}', *sorted(self.flags)])})"


def is_of_chatter(one: Filed, other: Filed) -> bool:
    """Return whether both are about one chatter."""
    return one.chatter is not None and (one.bot, one.chatter) == (other.bot, other.chatter)


@dataclass
class Truth:
    conversations: dict[Place, ModelConversation] = field(default_factory=dict)
    filed: dict[str, Filed] = field(default_factory=dict)
    demands: list[Demand] = field(default_factory=list)

    def conversation(self, place: Place) -> ModelConversation:
        return self.conversations.setdefault(place, ModelConversation(place))

    def file(
        self, name: str, kind: str, bot: str, *, chatter: str | None, ids: tuple[str, ...], flags: Iterable[str]
    ) -> Filed:
        known = {
            each.place
            for each in list(self.conversations.values())
            if each.number is not None and each.place[0] == bot
        }
        if chatter is None:
            certain = known & {(bot, one) for one in ids}
        else:
            certain = {place for place in known if chatter in self.conversations[place].people}
        number = len(self.filed)
        one = Filed(name, kind, bot, chatter, ids, frozenset(flags), number, now(), frozenset(certain))
        self.filed[name] = one
        return one

    @property
    def deletions(self) -> list[Filed]:
        return [one for one in list(self.filed.values()) if one.is_deletion and one.id]

    @property
    def exports(self) -> list[Filed]:
        return [one for one in list(self.filed.values()) if one.is_export and one.id]

    @property
    def erasures(self) -> list[Filed]:
        """Deletions and retention runs."""
        return [one for one in list(self.filed.values()) if (one.is_deletion or one.kind == "retain") and one.id]

    @property
    def retentions(self) -> list[Filed]:
        return [one for one in self.erasures if not one.is_deletion]

    @property
    def promised(self) -> list[ModelConversation]:
        return [entry for entry in list(self.conversations.values()) if entry.is_promised]

    def may_be_kept(self, place: Place) -> bool:
        """Return whether an export may wait for this conversation by its id: then naming somebody closes nothing."""
        exports = [one for one in list(self.filed.values()) if one.kind == "export_ids" and one.bot == place[0]]
        return any(place[1] in one.ids for one in exports)

    @property
    def redactions(self) -> list[Filed]:
        return [one for one in list(self.filed.values()) if one.text and one.id]

    def accounts(self, deletion: Filed, entry: ModelConversation) -> bool:
        """Return whether this deletion or retention run may have erased this conversation."""
        if deletion.status in ENDED_WITHOUT or entry.place[0] != deletion.bot:
            return False
        if deletion.kind == "retain":
            assert deletion.older_than
            is_due = entry.last_at is not None and entry.last_at < deletion.older_than
            return is_due and entry.place not in deletion.spared
        is_new = bool(deletion.done_at and entry.asked_at and entry.asked_at > deletion.done_at)
        if deletion.chatter is None:
            return entry.place[1] in deletion.ids and not is_new
        began_after = bool(deletion.done_at and entry.began and entry.began > deletion.done_at)
        return deletion.chatter in entry.tried and not (is_new and began_after)

    def must_be_gone(self, deletion: Filed, entry: ModelConversation) -> bool:
        """Return whether a completed deletion must have erased this conversation, at the latest after a sweep."""
        if entry.place in deletion.certain:
            return True
        if deletion.chatter is None or entry.place[0] != deletion.bot or entry.number is None:
            return False
        assert deletion.received_at
        return deletion.chatter in entry.named and entry.began is not None and entry.began < deletion.received_at

    def repeat(self, removed: Filed, *, request_id: UUID, received_at: datetime) -> Filed:
        """Add the export that was filed in place of one that a redaction has removed, and return it."""
        name = f"{removed.name}{AGAIN}"
        one = replace(
            self.file(name, removed.kind, removed.bot, chatter=removed.chatter, ids=removed.ids, flags=removed.flags),
            asked_at=received_at,
            received_at=received_at,
            id=request_id,
            texts=[replace(text, at=now()) for text in removed.texts if text.what != "note"],
        )
        self.filed[name] = one
        return one

    def demanded(self, export: Filed) -> set[str]:
        """Return what a completed export's chatbot may have demanded at its snapshot."""
        ours = [one for one in list(self.demands) if one.bot == export.bot]
        before = [one for one in ours if one.answered_at and one.answered_at <= export.asked_at]
        latest = max((one.asked_at for one in before), default=None)
        found = {one.least for one in before if latest and one.answered_at and one.answered_at >= latest}
        during = [one for one in ours if one not in before]
        assert export.completed_at
        return (found or {"any"}) | {one.least for one in during if one.asked_at <= export.completed_at}

    def is_own(self, deletion: Filed, export: Filed) -> bool:
        """Return whether the export is about the chatters of the deletion."""
        if deletion.bot != export.bot:
            return False
        if deletion.chatter is not None and export.chatter is not None:
            return deletion.chatter == export.chatter
        return bool(set(deletion.ids) & set(export.ids))


def id_of(text: str) -> str:
    """Return the id of a message: it stays when the text is redacted."""
    return text.rpartition(".")[2]
