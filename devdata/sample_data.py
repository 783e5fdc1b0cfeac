"""Sample conversations of three invented companies, as the documents a platform would send.

The n-th conversation of a company is always the same, so a later run produces the same data, or more of it. Times lie
in the 60 days before an anchor. It includes the oddities of real data: people without an identity, two people in one
conversation, formulas, long letters, every channel and kind of message.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from chatbots.models import Variable
from chatbots.operations.chatbots import NewVariable
from conversations.models import Conversation
from devdata.phrases import LANGUAGES, Language

DAYS = 60

_CUSTOM, _USER_CHANNEL, _SYSTEM = Variable.Category.CUSTOM, Variable.Category.USER_CHANNEL, Variable.Category.SYSTEM


@dataclass(frozen=True)
class Company:
    """A client company and its chatbot, with its number of conversations at scale 1."""

    slug: str
    name: str
    timezone: str
    uci: NewVariable
    uci_pattern: str
    others: tuple[NewVariable, ...]
    languages: tuple[str, ...]
    conversations: int

    @property
    def variables(self) -> tuple[NewVariable, ...]:
        return (self.uci, *self.others)

    def uci_value(self, chatter: int) -> str:
        """Return the UCI value of the n-th chatter, counted from 0."""
        return self.uci_pattern.format(10_000 + chatter)


COMPANIES = (
    Company(
        slug="lantern-books",
        name="Lantern Books",
        timezone="Europe/London",
        uci=NewVariable(_CUSTOM, "member_id"),
        uci_pattern="M-{}",
        others=(NewVariable(_USER_CHANNEL, "plan"), NewVariable(_CUSTOM, "shelf"), NewVariable(_SYSTEM, "browser")),
        languages=("en", "en", "en", "fr", "es"),
        conversations=140,
    ),
    Company(
        slug="gleis-sieben",
        name="Gleis Sieben Railways",
        timezone="Europe/Zurich",
        uci=NewVariable(_USER_CHANNEL, "customer_ref"),
        uci_pattern="zrh/{}",
        others=(NewVariable(_USER_CHANNEL, "plan"), NewVariable(_CUSTOM, "travel_class")),
        languages=("de", "de", "fr", "it", "en"),
        conversations=100,
    ),
    Company(
        slug="cedar-kitchen",
        name="Cedar Kitchen | مطبخ الأرز",
        timezone="Asia/Dubai",
        uci=NewVariable(_CUSTOM, "account"),
        uci_pattern="حساب {}",
        others=(NewVariable(_USER_CHANNEL, "plan"), NewVariable(_CUSTOM, "district")),
        languages=("ar", "ar", "he", "hi", "ja", "en"),
        conversations=60,
    ),
)


@dataclass(frozen=True)
class SampleFile:
    """A file that came with a message of a conversation."""

    message_id: str
    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class SampleConversation:
    """One conversation: the documents in which it arrives, as JSON, and the file that came with it, if any."""

    documents: tuple[bytes, ...]
    file: SampleFile | None


@dataclass(frozen=True)
class _Chatter:
    uci_value: str
    language: str
    name: str

    @property
    def phrases(self) -> Language:
        return LANGUAGES[self.language]


def sample_conversations(company: Company, *, count: int, anchor: datetime) -> Iterator[SampleConversation]:
    """Yield the first `count` conversations of a company, one at a time. They end before the day of `anchor`."""
    for number in range(count):
        yield _conversation(company, number, anchor)


def _conversation(company: Company, number: int, anchor: datetime) -> SampleConversation:
    random = Random(f"{company.slug}/{number}")  # noqa: S311  data for a demonstration
    # The first chatters come back often, most others once or twice.
    chatter = _chatter(company, int((number // 2 + 1) * random.random() ** 2))
    transcript = _Transcript(random, chatter, started_at=_moment(random, anchor))
    transcript.run(has_letter=number % 53 == 17, has_file=random.random() < 0.12)
    first: dict[str, Any] = {
        "id": f"{company.slug}-{number:06d}",
        "channel": random.choice(Conversation.Channel.values),
        "language": chatter.language,
        "started_at": transcript.started_at.isoformat(),
        "agent_handover": transcript.has_agent,
        "messages": transcript.messages,
        **_variables(company, random, _identity(random, chatter)),
        **_ratings(random, chatter.phrases),
    }
    if random.random() < 0.8:
        first["user_name"] = chatter.name
    documents = [first]
    if random.random() < 0.05:
        # Another person took over the same window.
        other = _chatter(company, number // 2 + 2)
        documents.append(
            _follow_up_document(company, random, other, first, at=transcript.now + timedelta(minutes=20))
        )
    encoded = tuple(json.dumps(document, ensure_ascii=False).encode() for document in documents)
    return SampleConversation(encoded, transcript.file)


def _chatter(company: Company, index: int) -> _Chatter:
    random = Random(f"{company.slug}/chatter/{index}")  # noqa: S311
    language = company.languages[index % len(company.languages)]
    return _Chatter(company.uci_value(index), language, random.choice(LANGUAGES[language].names))


def _moment(random: Random, anchor: datetime) -> datetime:
    """A moment in the last 60 days before the day of the anchor, mostly in the afternoon (UTC)."""
    day = anchor.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=random.randint(1, DAYS))
    return day + timedelta(seconds=int(random.triangular(0, 86_400 - 3_600, 50_000)))


def _identity(random: Random, chatter: _Chatter) -> str | None:
    """Return the chatter's identity. Some people are unknown, and some integrations then send a placeholder."""
    return random.choices((chatter.uci_value, None, "undefined"), weights=(88, 8, 4))[0]


def _variables(company: Company, random: Random, identity: str | None) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {"custom_variables": {}, "user_channel_variables": {}}
    for variable in company.others:
        if variable.category != _SYSTEM and random.random() < 0.7:
            sections[f"{variable.category}_variables"][variable.name] = random.choice(("basic", "plus", "gold"))
    if identity is not None:
        sections[f"{company.uci.category}_variables"][company.uci.name] = identity
    return sections


def _ratings(random: Random, phrases: Language) -> dict[str, Any]:
    """Return the platform's score, and often the person's own."""
    ratings: dict[str, Any] = {}
    if random.random() < 0.7:
        ratings["score"] = random.randint(10, 100) / 10
    if random.random() < 0.5:
        mood = random.choices((0, 1, 2), weights=(60, 25, 15))[0]
        ratings["csat"] = {
            "score": (random.randint(8, 10), random.randint(5, 7), random.randint(0, 4))[mood],
            "vote": Conversation.CsatVote.values[mood],
        }
        if random.random() < 0.6:
            ratings["csat"]["comment"] = phrases.comments[mood]
    return ratings


def _follow_up_document(
    company: Company, random: Random, chatter: _Chatter, first: dict[str, Any], *, at: datetime
) -> dict[str, Any]:
    """Return a further document of the same conversation, in which another person writes."""
    transcript = _Transcript(random, chatter, started_at=at, first_message=len(first["messages"]) + 1)
    transcript.run()
    return {
        "id": first["id"],
        "messages": transcript.messages,
        f"{company.uci.category}_variables": {company.uci.name: chatter.uci_value},
    }


class _Transcript:
    """Writes the messages of one conversation, a few seconds apart."""

    def __init__(self, random: Random, chatter: _Chatter, *, started_at: datetime, first_message: int = 1) -> None:
        self.random = random
        self.phrases = chatter.phrases
        self.started_at = self.now = started_at
        self.order = f"{random.randint(1000, 9999)}-{random.randint(10, 99)}"
        self.messages: list[dict[str, str]] = []
        self.has_agent = False
        self.file: SampleFile | None = None
        self._next = first_message

    def run(self, *, has_letter: bool = False, has_file: bool = False) -> None:
        random, phrases = self.random, self.phrases
        self._add_message("bot", "event", "conversation_opened")
        if random.random() < 0.15:
            self._add_message("bot", "push", phrases.push)
        self._add_message("bot", "text", phrases.greeting)
        for _ in range(random.randint(1, 3)):
            self._add_exchange()
        if has_letter:
            self._add_message("user", "text", self._long_letter())
        if has_file:
            self._send_file()
        if random.random() < 0.2:
            self._hand_over()
        self._add_message("user", "text", random.choice(phrases.thanks))

    def _add_exchange(self) -> None:
        random, phrases = self.random, self.phrases
        if random.random() < 0.3:
            self._add_message("user", "quick_reply", random.choice(phrases.choices))
        topic = random.randrange(len(phrases.asks))
        self._add_message("user", "text", phrases.asks[topic])
        self._add_message("bot", "text", phrases.answers[topic])

    def _hand_over(self) -> None:
        self.has_agent = True
        self._add_message("bot", "event", "agent_joined")
        for text in self.phrases.agent:
            self._add_message("agent", "text", text)

    def _send_file(self) -> None:
        if self.random.random() < 0.5:
            name, content_type = f"receipt {self.order}.txt", "text/plain; charset=utf-8"
            content = f"Receipt for order {self.order}\nTotal: {self.random.randint(5, 90)}.00\n".encode()
        else:
            name, content_type = "photo 📷.png", "image/png"
            content = png((self.random.randrange(256), self.random.randrange(256), self.random.randrange(256)))
        self._add_message("user", "file", name)
        self.file = SampleFile(self.messages[-1]["id"], name, content_type, content)

    def _long_letter(self) -> str:
        """Return some 20,000 characters: people paste whole letters into a chat."""
        sentences = [*self.phrases.asks, *self.phrases.answers, *self.phrases.thanks]
        letter = ""
        while len(letter) < 20_000:
            letter += self.random.choice(sentences) + self.random.choice((" ", " ", "\n\n"))
        return letter

    def _add_message(self, sender: str, kind: str, text: str) -> None:
        self.now += timedelta(seconds=self.random.randint(2, 90))
        self.messages.append(
            {
                "id": f"m{self._next}",
                "sender": sender,
                "kind": kind,
                "text": text.replace("{order}", self.order),
                "sent_at": self.now.isoformat(),
            }
        )
        self._next += 1


def png(colour: tuple[int, int, int], *, side: int = 24) -> bytes:
    """Return a square PNG picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(colour) * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
