"""The state of a client: its own chatters and their conversations, each of which only one thread uses.

So the order of the answers about each is known. Chatters of all clients are in one database.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, TypeVar

from tests.oracle.caller import Caller, Client, Traffic
from tests.oracle.model import Conversation, Model, Person, Request, now
from tests.oracle.violations import Violations
from tests.oracle.words import Words

UCI = "member_id"
T = TypeVar("T")


@dataclass(frozen=True)
class IdentityKey:
    """An identity key of a chatbot, as `create_api_key` prints it."""

    secret: str
    kid: str
    audience: str

    def token(self, conversation: str, value: str) -> str:
        """Return a token that identifies the chatter of a conversation (docs/clients/identity-tokens.md)."""
        issued_at = int(time.time()) - 5
        claims = {"sub": value, "uci_key": UCI, "aud": self.audience, "iat": issued_at, "exp": issued_at + 3600}
        header = {"alg": "HS256", "kid": self.kid}
        parts = (json.dumps(part).encode() for part in (header, claims | {"conversation_id": conversation}))
        signed = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
        mac = hmac.digest(self.secret.encode(), signed.encode(), hashlib.sha256)
        return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@dataclass
class ClientState:
    """`alive` are conversations that are stored, and which no request is about to erase. `waiting` are those whose
    chatter is still looked up. `erased_at` is the time when a chatter's deletion was seen completed. `sessions`
    are the data of the client's resolver: values by session."""

    model: Model
    caller: Caller
    violations: Violations
    chance: Random
    identity_key: IdentityKey | None = None
    sessions: dict[str, str] = field(default_factory=dict)
    # Reads a file of the client's own bucket by its key; None where it is not there.
    read: Callable[[str], bytes | None] = lambda _: None
    people: list[Person] = field(default_factory=list)
    conversations: dict[str, Conversation] = field(default_factory=dict)
    # By order of their beginning. The values say nothing.
    alive: dict[Conversation, None] = field(default_factory=dict)
    waiting: dict[Conversation, None] = field(default_factory=dict)
    filed: dict[str, Request] = field(default_factory=dict)
    open: dict[Request, None] = field(default_factory=dict)
    erased_at: dict[str, datetime] = field(default_factory=dict)
    # Over, and not yet looked at.
    unsettled: dict[Request, None] = field(default_factory=dict)

    @property
    def bot(self) -> str:
        return self.caller.bot

    def new_person(self) -> Person:
        person = self.model.person()
        self.people.append(person)
        return person

    def new_conversation(self, began: datetime | None = None) -> Conversation:
        conversation = self.model.conversation(self.bot, began or now())
        self.conversations[conversation.id] = conversation
        return conversation

    def word(self, conversation: Conversation) -> str:
        return self.model.words.of_conversation(conversation.index)

    def naming(self, value: str) -> dict[str, Any]:
        return {"unique_chatter_identifier_key": UCI, "unique_chatter_identifier_value": value}

    def shown(self, one: Conversation | Request) -> Any:
        """Return a conversation, or a request, as the API shows it."""
        if isinstance(one, Request):
            return self.caller.get("one request", f"requests/{one.id}").body
        return self.caller.get("one conversation", f"conversations/{one.number}").body

    def conversations_of(self, value: str) -> list[Conversation]:
        """Return the conversations that may be stored with this value."""
        found = list(self.conversations.values())
        return [conversation for conversation in found if value in conversation.tried and conversation.documents]

    def open_erasures(self, *, value: str = "", conversation: Conversation | None = None) -> list[Request]:
        """Return the deletions under way of this chatter, or that may be about this conversation."""

        def is_about(request: Request) -> bool:
            if value and request.value == value:
                return True
            held = request.surely | request.possibly
            return conversation is not None and (conversation in held or conversation.id in request.ids)

        return [request for request in list(self.open) if request.erases and is_about(request)]

    def free_people(self) -> list[Person]:
        """Return the chatters with conversations and without a deletion under way."""
        going = {request.value for request in self.open if request.erases}
        named = {value for conversation in self.alive for value in conversation.people}
        return [person for person in self.people if person.value in named - going]

    def may_join(self, person: Person, conversation: Conversation) -> bool:
        """Return whether this chatter can be added to this conversation without an erasure under way."""
        if self.open_erasures(value=person.value) or self.open_erasures(conversation=conversation):
            return False
        erased_at = self.erased_at.get(person.value)
        return erased_at is None or erased_at < conversation.began

    def reopen(self, conversations: Iterable[Conversation]) -> None:
        """Let conversations live again whose deletion was withdrawn, unless another erases them."""
        filed = list(self.filed.values())
        for conversation in conversations:
            is_stored = conversation.number is not None and conversation.people
            if is_stored and not any(self.model.erasures_of(conversation, filed)):
                self.alive[conversation] = None

    def meets(self, conversation: Conversation, value: str) -> list[Request]:
        """Record that a document is being sent, and return the erasures under way that it may meet.

        A later export may hold it.
        """
        for request in list(self.open):
            is_named = bool(value and request.value == value) or conversation.id in request.ids
            if is_named and conversation not in request.surely:
                request.possibly.add(conversation)
        return [*self.open_erasures(value=value), *self.open_erasures(conversation=conversation)]

    def pick(self, things: Collection[T]) -> T | None:
        return self.chance.choice(list(things)) if things else None

    def report(self, kind: str, what: object, request: Request | None = None) -> None:
        """Note a violation of something of this chatbot."""
        self.violations.add(kind, f"{self.bot}: {what}{f' ({request})' if request else ''}")


@dataclass
class Known:
    """The record of everything that any client has sent to a service."""

    model: Model = field(default_factory=lambda: Model(Words()))
    violations: Violations = field(default_factory=Violations)
    traffic: Traffic = field(default_factory=Traffic)
    # What was told of rows and objects, which stay as they are: each is told once.
    told: set[str] = field(default_factory=set)

    def state(self, client: Client, seed: str, *, longest_pause: float = 2.0, **of: Any) -> ClientState:
        """Return the state for one thread of a client. `longest_pause` is the longest wait before a repetition."""
        caller = Caller(client, self.violations, self.traffic, longest_pause=longest_pause)
        return ClientState(self.model, caller, self.violations, Random(seed), **of)


def shown_values(conversation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the UCI values that the log shows of a conversation."""
    for identifier in conversation["unique_chatter_identifiers"]:
        yield identifier["value"]
