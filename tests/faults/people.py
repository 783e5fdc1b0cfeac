"""Persons whose conversations are planted, every string of which is unique, and what became of them."""

import random
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.faults.site import UCI, Site
from tests.oracle.http import Client, until_known

Document = dict[str, Any]

# Each planted string holds one of these, by which all of them are found in a text at once.
_TOKEN = re.compile(r"zq[0-9a-f]{12}")


def word(random: random.Random) -> str:
    """Return a new word, which is nowhere else."""
    return f"zq{random.getrandbits(48):012x}"


def words_in(text: str) -> set[str]:
    """Return all planted words in a text."""
    return set(_TOKEN.findall(text))


@dataclass(eq=False)
class Person:
    """Somebody who chatted with a chatbot, and what was filed about them.

    `is_erased` says what must be true in the end: that all of these conversations are gone, or that all are whole.
    """

    name: str
    slug: str
    uci: str
    documents: list[Document] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)  # the platform's id of a conversation -> our number
    files: dict[str, bytes] = field(default_factory=dict)  # by its name
    deletions: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    is_erased: bool = False
    # Messages, and conversations, that were stored past the API.
    stuffed: int = 0
    copied: int = 0

    def words(self) -> set[str]:
        """Return the planted words of all conversations and files."""
        return words_in(f"{self.uci} {self.documents}") | {
            found for name, content in self.files.items() for found in words_in(f"{name} {content.decode()}")
        }

    def conversations(self) -> int:
        return len(self.numbers) + self.copied

    def messages(self) -> int:
        return sum(len(document["messages"]) for document in self.documents) + self.stuffed


def invent(random: random.Random, name: str, slug: str, *, conversations: int = 1, messages: int = 3) -> Person:
    """Return a person with so many conversations, of so many messages each, that are not stored yet."""
    person = Person(name, slug, f"member-{word(random)}")
    began = datetime.now(UTC) - timedelta(days=random.randrange(1, 60), seconds=random.randrange(80_000))
    for _ in range(conversations):
        person.documents.append(_talk(random, person.uci, began, messages))
        began += timedelta(hours=1)
    return person


def _talk(random: random.Random, uci: str, began: datetime, messages: int) -> Document:
    name = f"c-{word(random)}"
    return {
        "id": name,
        "channel": random.choice(["widget", "whatsapp", "messenger", "other"]),
        "language": "en",
        "user_name": f"Person {word(random)}",
        "started_at": began.isoformat(),
        "custom_variables": {UCI: uci, "pass": f"pass {word(random)}"},
        "csat": {"score": 8, "vote": "positive", "comment": f"liked {word(random)}"},
        "messages": [
            {
                "id": f"{name}-m{number}",
                "sender": ("user", "bot")[number % 2],
                "kind": "text",
                "text": f"says {word(random)}",
                "sent_at": (began + timedelta(seconds=number)).isoformat(),
            }
            for number in range(messages)
        ],
    }


def store(client: Client, *people: Person) -> None:
    """Send the conversations of people, again and again until it is known that they are stored."""
    documents = {document["id"]: person for person in people for document in person.documents}
    body = [document for person in people for document in person.documents]
    answer = until_known(lambda: client.post("conversations", body))
    for result in answer.body["results"]:
        if result["error"]:
            raise ValueError(f"A conversation was refused: {result['error']['code']}.")
        documents[result["id"]].numbers[result["id"]] = result["number"]


# As many as no test could send.
_STUFF = """
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT c.chatbot_id, c.id, 'stuffed-' || n, 'user', 'text', 'message ' || n || repeat(' and more', 10), now()
  FROM conversations_conversation c CROSS JOIN generate_series(1, %s) AS n WHERE c.id = ANY(%s)
"""


def stuff(site: Site, person: Person, messages_each: int) -> None:
    """Add many messages to each stored conversation of a person, past the API."""
    site.sql(_STUFF, [messages_each, list(person.numbers.values())])
    person.stuffed += messages_each * len(person.numbers)


def join(client: Client, host: Person, guest: Person) -> None:
    """Have another person take part in the first conversation of `host`, whose it stays."""
    document = host.documents[0]
    joined = document | {"custom_variables": {UCI: guest.uci}}
    until_known(lambda: client.post("conversations", [joined]))


def upload(random: random.Random, client: Client, person: Person) -> None:
    """Send a file of the first conversation of a person."""
    name, content = f"{word(random)}.txt", f"a file of {word(random)}".encode()
    number = person.numbers[person.documents[0]["id"]]
    # It may be stored twice where an answer is lost: a file has no id of its own.
    answer = until_known(lambda: client.upload(number, name, content))
    if answer.status != 201:
        raise ValueError(f"An upload was answered {answer.status}.")
    person.files[name] = content


def about(person: Person) -> dict[str, str]:
    """Return how a request names a person."""
    return {"unique_chatter_identifier_key": UCI, "unique_chatter_identifier_value": person.uci}
