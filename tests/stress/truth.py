"""The model of a story: the oracle's, with the times of calls and answers.

Of two concurrent calls the order is certain only if one was answered before the other began. From this follows, when
all is over, what each request must have erased, and what it may have erased (`Truth.judge`).
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.oracle.evidence import ObjectVersion
from tests.oracle.model import COMMENT, ERASING, Conversation, Model, Request, now
from tests.oracle.words import Word, Words, found_in

RETAINED_FOR = timedelta(days=90)
# The fields of each document about its conversation, and the fields that none has.
_FACTS = {"channel": "widget", "push": False, "agent_handover": False} | dict.fromkeys(
    ("language", "score", "csat_score", "csat_vote")
)
# In the name of an export that was filed again: nothing is certain about its scope.
AGAIN = " again"


@dataclass
class Span:
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
    """The demand of a chatbot's exports from then on."""

    bot: str = ""
    least: str = ""


@dataclass(eq=False)
class ModelConversation(Conversation):
    """A conversation. `named` are `people`, and the chatters that closed it because a document or an identity named
    them. `claimed` counts the calls that identify a chatter; `refused` are the erased ones of these that closed
    nothing. `asked` are the values that the client's server returned; it surely was if there is a `session` and no
    chatter was identified otherwise. `is_barred`: what had erased it had ended when the database was lost."""

    STORED = (
        *(*Conversation.STORED, "is_sent", "named", "refused", "may_be_refused", "asked", "session"),
        *("arrivals", "sessions", "vouched"),
    )

    is_sent: bool = False  # also while the answer is not there yet
    asked_at: datetime | None = None  # `began` is known from then on
    last_at: datetime | None = None
    named: set[str] = field(default_factory=set)
    claimed: Counter[str] = field(default_factory=Counter)
    refused: set[str] = field(default_factory=set)
    may_be_refused: bool = False
    asked: set[str] = field(default_factory=set)
    # Documents with a session, answered or not; and since when a document of a chatter's session is surely stored.
    arrivals: int = 0
    sessions: dict[str, datetime] = field(default_factory=dict)
    # The chatters that the client's server has identified: since when it may have, and surely had.
    vouched: dict[str, Span] = field(default_factory=dict)

    @property
    def may_be_in_doubt(self) -> bool:
        """Return whether it may be looked up again, or may have been without an answer."""
        return self.arrivals > 1 or bool(self.arrivals and self.claimed)

    def names(self, chatter: str) -> None:
        """Record that a chatter was identified, and is one of its people."""
        for names in (self.tried, self.named, self.people):
            names.add(chatter)

    def __str__(self) -> str:
        return f"{self.bot}/{self.id}"


Conversations = frozenset[ModelConversation]


@dataclass
class Hold(Span):
    """A legal hold on a chatter, on conversations, or on a chatbot: in force from one call to the end of another."""

    bot: str = ""
    value: str = ""
    ids: tuple[str, ...] = ()
    released_at: datetime | None = None

    def may_cover(self, entry: ModelConversation) -> bool:
        if entry.bot != self.bot:
            return False
        if self.value:
            return self.value in entry.tried or self.value in entry.claimed or self.value in entry.asked
        return not self.ids or entry.id in self.ids


@dataclass(eq=False, kw_only=True)
class FiledRequest(Request):
    """A request, whose key is its name in the story. `certain` are the conversations that were surely in its scope
    when it was filed; `held` what was in the file of an export when it was seen first."""

    certain: Conversations
    received_at: datetime | None = None
    held: Conversations | None = None
    object_key: str | None = None
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
    written: list[Text] = field(default_factory=list)
    # The deletions that had begun when the file of an export was seen to be gone.
    gone_with: frozenset[str] | None = None
    left_out: int = 0
    # Of a redaction: the id of its message, or the COMMENT, or both, each with the word that is its text.
    redacts: dict[str, str] = field(default_factory=dict)
    is_by_staff: bool = False
    # Of a retention run: what it erases is older than this, without what it may not erase any more, since it has
    # ended or its period has. `days`: its period, if that is in force.
    older_than: datetime | None = None
    days: int | None = None
    spared: set[ModelConversation] = field(default_factory=set)
    # Of a deletion: since when it may leave out conversations under a hold, and which it may have left out.
    limited_at: datetime | None = None
    withheld: set[ModelConversation] = field(default_factory=set)
    # When it ended first; a restore may have it carried out again.
    done_at: datetime | None = None

    @property
    def name(self) -> str:
        return self.key

    @property
    def is_hosted_export(self) -> bool:
        return self.kind == "export" and self.status == "completed" and not self.is_delivered

    def __str__(self) -> str:
        subject = self.value or "+".join(self.ids)
        return f"{self.name} ({' '.join([self.kind, f'{self.bot}/{subject}', *sorted(self.flags)])})"


class Truth(Model):
    """`named` are its requests, those of staff among them, by their names."""

    def __init__(self) -> None:
        super().__init__(Words())
        self._places: dict[tuple[str, str], ModelConversation] = {}
        self.named: dict[str, FiledRequest] = {}
        self.demands: list[Demand] = []
        self.holds: dict[str, Hold] = {}

    def at(self, bot: str, name: str) -> ModelConversation:
        """Return a conversation, which is invented at its first use."""
        with self._lock:
            if (bot, name) not in self._places:
                entry = ModelConversation(bot, len(self._places), name, name, now())
                entry.facts = _FACTS | {one: self.word(entry) for one in ("user_name", "csat_comment")}
                self._places[bot, name] = entry
                self.conversations.append(entry)
            return self._places[bot, name]

    def word(self, entry: Conversation) -> str:
        return self.words.of_conversation(entry.index)

    def of_words(self, words: Iterable[Word]) -> Conversations:
        entries = self.entries
        return frozenset(entries[word.number] for word in words)

    def held_in(self, found: ObjectVersion) -> Conversations:
        """Return the conversations of which an object holds anything."""
        return self.of_words(found_in(found.body))

    def ask(
        self, name: str, kind: str, bot: str, *, value: str = "", ids: tuple[str, ...] = (), flags: Iterable[str] = ()
    ) -> FiledRequest:
        """Record a request that is about to be filed."""
        known = [entry for entry in self.entries if entry.number is not None and entry.bot == bot]
        certain = frozenset(entry for entry in known if (value in entry.people if value else entry.id in ids))
        one = FiledRequest(bot, kind, name, value, ids, frozenset(flags), certain=certain)
        one.texts = {entry.id: dict(entry.texts) for entry in certain}
        self.named[name] = one
        self.file(one)
        return one

    def ask_redaction(self, name: str, bot: str, conversation: str, place: int | str) -> FiledRequest | None:
        """Record that a message of a conversation is about to be redacted, its comment, or both, if it has any."""
        entry = self.at(bot, conversation)
        if name in self.named or entry.number is None or not entry.texts:
            return None
        one = self.ask(name, "redaction", bot, ids=(conversation,))
        if place != "comment":
            message = sorted(entry.texts)[(place if isinstance(place, int) else 0) % len(entry.texts)]
            one.redacts[message] = entry.texts[message]
        if isinstance(place, str):
            one.redacts[COMMENT] = entry.facts[COMMENT]
        return one

    def drop(self, one: FiledRequest) -> None:
        del self.named[one.name]
        self.forget(one)

    def decided(self, one: FiledRequest, decision: str) -> None:
        """Note that a request may be cancelled now, by each of its names: an export can answer for an equal one."""
        for each in self.named.values():
            if each.id == one.id:
                each.may_be_cancelled |= decision in {"cancel", "reject"}

    @property
    def entries(self) -> list[ModelConversation]:
        return list(self._places.values())

    def of(self, *kinds: str) -> list[FiledRequest]:
        return [one for one in list(self.named.values()) if one.kind in kinds and one.id]

    def repeat(self, removed: FiledRequest, *, request_id: str, received_at: datetime) -> FiledRequest:
        """Add the export that was filed in place of one that a redaction has removed, and return it."""
        name = f"{removed.name}{AGAIN}"
        one = self.ask(name, "export", removed.bot, value=removed.value, ids=removed.ids, flags=removed.flags)
        one.id, one.asked_at, one.received_at, one.texts = request_id, received_at, received_at, {}
        one.written = [replace(text, at=now()) for text in removed.written if text.what != "note"]
        return one

    def continue_(self, first: FiledRequest, *, request_id: str, received_at: datetime) -> FiledRequest:
        """Add the deletion that continues one which left out conversations under a hold, and return it."""
        first.withheld = {entry for entry in self.entries if self.may_be_held(entry, since=first.limited_at)}
        one = self.ask(f"{first.name} rest", "deletion", first.bot, value=first.value, ids=first.ids)
        one.flags, one.id, one.received_at, one.texts = first.flags, request_id, received_at, {}
        one.certain = first.certain & first.withheld
        one.asked_at, first.certain = first.asked_at, first.certain - first.withheld
        one.written = [replace(text, at=now()) for text in first.written if text.what != "note"]
        return one

    # --- What follows ------------------------------------------------------------------------------------

    def may_be_held(self, entry: ModelConversation, *, since: datetime | None) -> bool:
        """Return whether a hold may have covered this conversation since then."""
        holds = [one for one in list(self.holds.values()) if one.may_cover(entry)]
        return any(not (one.released_at and since and one.released_at < since) for one in holds)

    def may_be_kept(self, entry: ModelConversation) -> bool:
        """Return whether an export by this conversation's id, or a hold, may keep an identity from closing it."""
        exports = (one for one in list(self.named.values()) if one.kind == "export" and one.bot == entry.bot)
        return any(entry.id in one.ids for one in exports) or self.may_be_held(entry, since=None)

    def accounts(self, one: FiledRequest, entry: ModelConversation) -> bool:
        """Return whether this deletion or retention run may have erased this conversation."""
        if one.is_withdrawn or entry.bot != one.bot:
            return False
        if one.kind == "retention":
            assert one.older_than
            return entry.last_at is not None and entry.last_at < one.older_than and entry not in one.spared
        is_new = bool(one.done_at and entry.asked_at and entry.asked_at > one.done_at)
        if not one.value:
            return entry.id in one.ids and not is_new
        return one.value in entry.tried and not (is_new and one.done_at and entry.began > one.done_at)

    def is_accounted_for(self, entry: ModelConversation) -> bool:
        return entry.is_barred or any(self.accounts(one, entry) for one in self.of(*ERASING))

    def must_be_gone(self, deletion: FiledRequest, entry: ModelConversation) -> bool:
        """Return whether a completed deletion must have erased this conversation, at the latest after a sweep."""
        if entry in deletion.certain:
            return True
        if entry in deletion.withheld:
            return False
        if not deletion.value or entry.bot != deletion.bot or entry.number is None:
            return False
        assert deletion.received_at
        return deletion.value in entry.named and entry.began < deletion.received_at

    def judge(self, *, stay_failed: Collection[str] = ()) -> None:
        """Record, when all is over, what each request must have erased or held, and what it may have.

        `stay_failed` are the names of those that cannot be retried any more.
        """
        for one in self.of(*ERASING):
            is_sure = one.kind == "deletion" and one.status == "completed"
            one.surely = {entry for entry in self.entries if is_sure and self.must_be_gone(one, entry)}
            may = {entry for entry in self.entries if self.accounts(one, entry)}
            one.possibly = {entry for entry in may if entry not in one.surely}
        for one in self.of("export"):
            ours = [entry for entry in self.entries if entry.bot == one.bot]
            one.possibly = {entry for entry in ours if one.value in entry.tried or entry.id in one.ids}
            one.surely = {entry for entry in one.possibly if entry in (one.held or ())}
        for one in list(self.named.values()):
            one.is_aged = one.aged_at is not None
            one.may_stay_failed = one.name in stay_failed
            # What a replay only records has had its event in the life that was lost.
            one.is_replayed |= one.done_at != one.ended_at
        for one in sorted(self.of("redaction"), key=lambda one: one.status == "completed"):
            entry = self.at(one.bot, *one.ids)
            for what, text in one.redacts.items():
                entry.redacted[what] = one
                if what != COMMENT:
                    entry.tried_texts.setdefault(what, text)
        for entry in self.entries:
            # No answer shows that a looked-up identity was refused, nor whether an export kept the conversation.
            is_known = not (entry.asked or entry.may_be_refused) or bool(entry.refused)
            entry.is_refused = bool(entry.refused) if is_known else None

    def demanded(self, export: FiledRequest) -> set[str]:
        """Return the demands that a completed export's chatbot may have had at its snapshot."""
        ours = [one for one in list(self.demands) if one.bot == export.bot]
        before = [one for one in ours if one.answered_at and one.answered_at <= export.asked_at]
        latest = max((one.asked_at for one in before), default=None)
        found = {one.least for one in before if latest and one.answered_at and one.answered_at >= latest}
        assert export.ended_at
        during = [one for one in ours if one not in before and one.asked_at <= export.ended_at]
        return (found or {"any"}) | {one.least for one in during}

    def may_be_removed(self, export: Request, erasures: Iterable[Request]) -> bool:
        """Return whether a redaction or a deletion may have removed the file of an export; in its grace few may."""
        assert isinstance(export, FiledRequest)
        if export.held is None:
            return True
        is_fresh = export.aged_at is None
        for one in self.of("deletion"):
            has_begun = export.gone_with is None or one.name in export.gone_with
            if has_begun and not (is_fresh and "erase_exports" not in one.flags) and self._may_remove(one, export):
                return True
        redacting = [one for one in self.of("redaction") if not (is_fresh and one.name in export.kept_from)]
        return any(self.at(one.bot, *one.ids) in export.held for one in redacting if not one.is_withdrawn)

    def _may_remove(self, deletion: FiledRequest, export: FiledRequest) -> bool:
        if deletion.is_withdrawn:
            return False
        is_later = deletion.ended_at is not None and export.asked_at > deletion.ended_at
        of_ids = deletion.bot == export.bot and bool(set(deletion.ids) & set(export.ids))
        is_own = deletion.is_of_chatter(export) if deletion.value and export.value else of_ids
        return (is_own and not is_later) or any(self.accounts(deletion, entry) for entry in export.held or ())
