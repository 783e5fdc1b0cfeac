"""What one thread of a client works with: its own chatters and their conversations, which no other thread touches.

So each knows in which order its calls were answered. Chatters of all threads and chatbots are in one database.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from tests.faults.soak.receivers import Receivers
from tests.oracle.caller import Caller
from tests.oracle.model import Conversation, Model, Person, Request, now
from tests.oracle.violations import Violations


@dataclass(frozen=True)
class IdentityKey:
    """An identity key of a chatbot, as `create_api_key` prints it."""

    secret: str
    kid: str
    audience: str

    def token(self, conversation: str, value: str, uci: str) -> str:
        """Return a token that says who chatted in a conversation (docs/api.md)."""
        issued_at = int(time.time()) - 5
        claims = {"sub": value, "uci_key": uci, "aud": self.audience, "iat": issued_at, "exp": issued_at + 3600}
        header = {"alg": "HS256", "kid": self.kid}
        parts = (json.dumps(one).encode() for one in (header, claims | {"conversation_id": conversation}))
        signed = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
        mac = hmac.digest(self.secret.encode(), signed.encode(), hashlib.sha256)
        return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@dataclass
class ClientState:
    """`alive` are conversations that are stored, and which no request is about to erase. `waiting` are those whose
    chatter is still looked up. `erased_at` says when a chatter's deletion was seen completed."""

    model: Model
    caller: Caller
    receivers: Receivers
    violations: Violations
    chance: Random
    identity_key: IdentityKey | None = None
    uci: str = "member_id"
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
        one = self.model.person()
        self.people.append(one)
        return one

    def new_conversation(self, began: datetime | None = None) -> Conversation:
        one = self.model.conversation(self.bot, began or now())
        self.conversations[one.id] = one
        return one

    def conversations_of(self, value: str) -> list[Conversation]:
        """Return the conversations that may be stored and name this value."""
        return [one for one in self.conversations.values() if value in one.tried and one.documents]

    def alive_of(self, value: str) -> list[Conversation]:
        return [one for one in self.alive if value in one.people]

    def open_erasures(self, *, value: str = "", conversation: Conversation | None = None) -> list[Request]:
        """Return the deletions under way of this chatter, or that may be about this conversation."""
        return [
            one
            for one in self.open
            if one.erases
            and (
                (value and one.value == value)
                or (
                    conversation is not None
                    and (conversation in one.surely or conversation in one.possibly or conversation.id in one.ids)
                )
            )
        ]

    def free_people(self) -> list[Person]:
        """Return the chatters with conversations, of whom no deletion is under way."""
        going = {one.value for one in self.open if one.erases}
        named = {value for conversation in self.alive for value in conversation.people}
        return [one for one in self.people if one.value in named - going]

    def may_join(self, person: Person, conversation: Conversation) -> bool:
        """Return whether a document may name this chatter in this conversation without meeting an erasure."""
        if self.open_erasures(value=person.value) or self.open_erasures(conversation=conversation):
            return False
        erased_at = self.erased_at.get(person.value)
        return erased_at is None or erased_at < conversation.began

    def close(self, conversations: Iterable[Conversation]) -> None:
        for one in conversations:
            self.alive.pop(one, None)

    def reopen(self, conversations: Iterable[Conversation]) -> None:
        """Let conversations live again whose deletion was withdrawn, unless another erases them."""
        for one in conversations:
            if one.number is not None and one.people and not any(self.model.erasures_of(one, self.filed.values())):
                self.alive[one] = None

    def meets(self, conversation: Conversation, value: str) -> list[Request]:
        """Note that a document is on its way, and return the erasures under way that it may meet.

        A later export may hold it.
        """
        for one in self.open:
            is_about = bool(value and one.value == value) or conversation.id in one.ids or conversation in one.surely
            if is_about and conversation not in one.surely:
                one.possibly.add(conversation)
        return [*self.open_erasures(value=value), *self.open_erasures(conversation=conversation)]

    def pick(self, conversations: Collection[Conversation]) -> Conversation | None:
        return self.chance.choice(list(conversations)) if conversations else None

    @staticmethod
    def wait(seconds: float) -> None:
        time.sleep(seconds)

    def told(self, kind: str, what: object, request: Request | None = None) -> None:
        """Note a violation of something of this chatbot."""
        self.violations.add(kind, f"{self.bot}: {what}{f' ({request})' if request else ''}")


def shown_values(conversation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the UCI values that the log shows of a conversation."""
    for one in conversation["unique_chatter_identifiers"]:
        yield one["value"]
