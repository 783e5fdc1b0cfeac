"""The model of the clients: their calls, the answers, and the expected results.

Only calls that were answered before another one began count as ordered. A call without an answer is repeated until
its outcome is known, so a conversation or a request is either stored for certain or not at all.
"""

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, ClassVar

from tests.oracle.words import Words

FINAL = {"completed", "cancelled", "rejected"}
OPEN = {"accepted", "on_hold", "processing", "failed"}
ERASING = {"deletion", "retention"}
# Beside ids of messages: the CSAT comment, which is redacted as they are. The name of its fact.
COMMENT = "csat_comment"
# The fields that a deletion leaves of a conversation (docs/reference/data-map.md).
KEPT = {"channel", "push", "agent_handover", "score", "csat_score", "csat_vote"}


class Expected(Enum):
    """The expected state of a conversation when all requests are final."""

    WHOLE = "whole"
    GONE = "gone"
    EITHER = "either"


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(eq=False)
class Person:
    """A chatter: of one chatbot, or of several with the same value."""

    number: int
    value: str


@dataclass(eq=False)
class Conversation:
    """A conversation. `people` are the values in its stored documents; `tried` also those of documents that were
    refused, or are on their way. `texts` are stored messages by their ids, `tried_texts` all that were ever sent.
    `facts` are the fields of its documents, by the names of the evidence."""

    # Its data in a database, and in a backup.
    STORED: ClassVar[tuple[str, ...]] = ("number", "people", "texts", "files", "documents")

    bot: str
    index: int
    id: str
    name: str
    began: datetime
    number: int | None = None
    people: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    tried_texts: dict[str, str] = field(default_factory=dict)
    sent_at: dict[str, datetime] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    # By the word that is the name, and the beginning of the content; and the SHA-256 of that.
    files: set[str] = field(default_factory=set)
    tried_files: dict[str, str] = field(default_factory=dict)
    # Which messages are redacted, or being redacted, and whether the COMMENT is, by which request.
    redacted: dict[str, "Request"] = field(default_factory=dict)
    documents: list[dict[str, Any]] = field(default_factory=list)
    # Data that was stored past the API: more messages of it, and copies of its row with a message each.
    stuffed: int = 0
    copies: int = 0
    # Its chatter is looked up by a session, and is unknown until the service shows it.
    session: str = ""
    # Its chatter was erased after it began, or before a database was lost: it must not be stored.
    is_barred: bool = False
    # Whether an identity of it was refused, where that is known.
    is_refused: bool | None = None


@dataclass(eq=False)
class Request:
    """A request. Of a deletion `surely` are the conversations that it must erase, `possibly` those that may have
    arrived too late for it. Of an export they are those that its file must hold, and may hold."""

    bot: str
    kind: str
    key: str
    value: str = ""
    ids: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    surely: set[Conversation] = field(default_factory=set)
    possibly: set[Conversation] = field(default_factory=set)
    # The texts that the file of an export must hold, by conversation, as they were at that time.
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    id: str = ""
    status: str = ""
    statuses: list[str] = field(default_factory=list)
    # Before it was filed, and after it was seen to be over.
    asked_at: datetime = field(default_factory=now)
    ended_at: datetime | None = None
    finished_at: str | None = None
    # A withdrawal or rejection was requested.
    may_be_cancelled: bool = False
    # As it was sent, where it may be sent again.
    body: dict[str, Any] = field(default_factory=dict)
    # Its failure cannot be repaired: its selector is deleted.
    may_stay_failed: bool = False
    # The legal hold that keeps the data of a deletion, and whether its release has been asked for.
    hold: str = ""
    is_released: bool = False
    # Of an export: its grace is over, so that its file goes with what it holds.
    is_aged: bool = False
    # After a restore: a replay may have recorded it without its event; or it is not there.
    is_replayed: bool = False
    is_lost: bool = False

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def is_withdrawn(self) -> bool:
        return self.status in {"cancelled", "rejected"}

    def is_of_chatter(self, other: "Request") -> bool:
        return bool(self.value) and (self.bot, self.value) == (other.bot, other.value)

    @property
    def in_order(self) -> list[Conversation]:
        """The conversations that it must erase or hold, in the order of their making."""
        return sorted(self.surely, key=lambda each: each.index)

    @property
    def erases(self) -> bool:
        """Whether it may erase, or may have erased, conversations."""
        return self.kind in ERASING and not self.is_withdrawn

    def __str__(self) -> str:
        subject = self.value or "+".join(self.ids) or "old ones"
        return f"{self.kind} {self.id or self.key} of {self.bot}/{subject} {' '.join(sorted(self.flags))}".strip()


def options_of(flags: Iterable[str]) -> dict[str, Any]:
    """Return the options of a call: each flag is one that is true, or the CSV dialect or formats of an export."""
    options: dict[str, Any] = {}
    for flag in sorted(flags):
        if flag in {"pages", "zip"}:
            options |= {"formats": ["csv", "json", "html"]} | ({"archive": "zip"} if flag == "zip" else {})
        else:
            options |= {"csv_dialect": flag} if flag.startswith("excel_") else {flag: True}
    return options


def is_allowed(one: Request, after: str) -> bool:
    """Return whether a request may be seen in this status now, after any unseen statuses in between."""
    if one.is_final:
        return after == one.status
    has_marked = one.kind in ERASING and "processing" in one.statuses
    return after in OPEN | FINAL and not (has_marked and after in {"on_hold", "cancelled", "rejected"})


class Model:
    """All sent and filed data. Only one thread changes a conversation or a request."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self._lock = threading.Lock()
        self.people: list[Person] = []
        self.conversations: list[Conversation] = []
        self._filed: list[Request] = []
        # The chatbots whose exports have gone to the client's bucket, whatever they do now.
        self.had_clients_bucket: set[str] = set()

    def person(self) -> Person:
        with self._lock:
            number = len(self.people)
            self.people.append(Person(number, self.words.of_person(number)))
            return self.people[-1]

    def conversation(self, bot: str, began: datetime) -> Conversation:
        with self._lock:
            index, of = len(self.conversations), self.words.of_conversation
            self.conversations.append(Conversation(bot, index, of(index), of(index), began))
            return self.conversations[-1]

    def file(self, one: Request) -> Request:
        """Note a request that is about to be asked for."""
        one.asked_at = now()
        with self._lock:
            self._filed.append(one)
        return one

    def forget(self, one: Request) -> None:
        """Forget a filing that another request has answered, or that a loss of the database has taken."""
        with self._lock:
            self._filed.remove(one)

    def stored(self) -> dict[Conversation, dict[str, Any]]:
        """Return the stored data of each conversation now, to `put_back`."""
        return {each: {name: deepcopy(getattr(each, name)) for name in each.STORED} for each in self.conversations}

    def put_back(self, backup: Mapping[Conversation, Mapping[str, Any]]) -> None:
        """Record that the database was restored to the state of the backup. Requests are left unchanged."""
        for each in self.conversations:
            empty = vars(type(each)(each.bot, each.index, each.id, each.name, each.began))
            for name in each.STORED:
                setattr(each, name, deepcopy(backup.get(each, empty)[name]))

    def branch(self) -> "Model":
        """Return a model of a copy of the service: the same conversations, and from now on requests of its own."""
        other = Model(self.words)
        other.people, other.conversations, other._filed = [*self.people], [*self.conversations], self.filed
        return other

    @property
    def filed(self) -> list[Request]:
        with self._lock:
            return list(self._filed)

    # --- What follows ------------------------------------------------------------------------------------

    def erasures_of(self, conversation: Conversation, erasures: Iterable[Request] | None = None) -> Iterator[Request]:
        """Yield the requests that may erase, or have erased, this conversation."""
        for one in self.filed if erasures is None else erasures:
            if (
                one.erases
                and one.bot == conversation.bot
                and (conversation in one.surely or conversation in one.possibly)
            ):
                yield one

    def expected(self, conversation: Conversation, erasures: Collection[Request] | None = None) -> Expected:
        """Return the expected state of a conversation now. It may be either while a request about it is under way."""
        if conversation.is_barred:
            return Expected.GONE
        found = list(self.erasures_of(conversation, erasures))
        if any(one.status == "completed" and conversation in one.surely for one in found):
            return Expected.GONE
        return Expected.EITHER if found else Expected.WHOLE

    def may_be_removed(self, export: Request, erasures: Iterable[Request]) -> bool:
        """Return whether a redaction or a deletion may have removed the file of an export within its grace."""
        held = export.surely | export.possibly
        redactions = {one for conversation in held for one in conversation.redacted.values()}
        removing = (
            one
            for one in erasures
            if "erase_exports" in one.flags
            and one.erases
            and (one.is_of_chatter(export) or not held.isdisjoint(one.surely | one.possibly))
        )
        # What was over before the export was filed has found no file of it.
        return any(not one.ended_at or one.ended_at > export.asked_at for one in (*redactions, *removing))
