"""The drill's people, and what becomes of them after the backup was taken. All are invented.

Each string of theirs is unique, so that a search finds it wherever it is kept, and finds nothing else.
"""

import copy
import secrets
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from scripts import demo_conversations as sample
from scripts.demo_client import Client
from scripts.demo_conversations import Document
from scripts.demo_story import require
from scripts.drill_site import PATIENCE, Log, Service, wait_until

FERRIES, CLINIC, BAKERY, ORCHARD = "tern-ferries", "juniper-clinic", "harbour-bakery", "hill-orchard"
UCI = "member_id"
PHOTO = "a photo of "

_SCOPES = (
    *("deletions:write", "exports:write", "requests:read", "conversations:write", "conversations:read"),
    *("messages:redact", "requests:approve"),
)


@dataclass
class Person:
    """Somebody who chatted with a chatbot."""

    name: str
    slug: str
    uci: str
    documents: list[Document] = field(default_factory=list)

    def say(self, days_ago: float = 2.0) -> Document:
        """Add a conversation, and return its document."""
        began = datetime.now(UTC) - timedelta(days=days_ago)
        name = f"{self.slug}-{self.name}-{secrets.token_hex(5)}"
        lines = [("user", "asks about the timetable"), ("bot", "answers"), ("user", "says thank you")]
        document: Document = {
            "id": name,
            "channel": "widget",
            "language": "en",
            "user_name": f"{self.name.title()} {secrets.token_hex(5)}",
            "started_at": began.isoformat(),
            "custom_variables": {UCI: self.uci, "pass": f"pass of {self.name} {secrets.token_hex(5)}"},
            "csat": {"score": 8, "vote": "positive", "comment": f"{self.name} liked {secrets.token_hex(5)}"},
            "messages": [
                {
                    "id": f"{name}-m{number}",
                    "sender": sender,
                    "kind": "text",
                    "text": f"{self.name} {what}, {secrets.token_hex(5)}",
                    "sent_at": (began + timedelta(milliseconds=number)).isoformat(),
                }
                for number, (sender, what) in enumerate(lines, start=1)
            ],
        }
        self.documents.append(document)
        return document

    def strings(self) -> set[str]:
        """Return everything personal in their conversations. Not the UCI value, which another can have elsewhere."""
        return sample.traces(self.documents) - {self.uci}


@dataclass
class Scene:
    """What was stored, filed and done, by name of the person."""

    service: Service
    story: Log
    clients: dict[str, Client] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)  # the platform's id of a conversation -> our number
    leaked_prefix: str = ""
    leaked: Client | None = None
    photo: str = ""
    shared: Document = field(default_factory=dict)
    redacted: set[str] = field(default_factory=set)
    came_back: Document = field(default_factory=dict)
    # What clients sent since the backup: the chatbot, the document as sent, and the answer when it comes again.
    sent: list[tuple[str, Document, str]] = field(default_factory=list)
    lost_numbers: dict[str, int] = field(default_factory=dict)  # table -> the number of a row that is lost

    def use_tokens(self) -> None:
        """Call this scene's service with tokens that were created in another: it is a copy of that one's."""
        self.clients = {
            slug: Client(self.service.url, slug, secret="", token=token) for slug, token in self.tokens.items()
        }

    def chatbot(self, slug: str, *words: str) -> None:
        """Create a chatbot and a token for it."""
        variables = ("--variable", f"custom:{UCI}", "--variable", "custom:pass", "--uci", UCI)
        name = slug.replace("-", " ").title()
        self.service.manage(
            "create_chatbot", slug, "--name", name, *variables, "--enable-compliance", "--hosted-bucket", *words
        )
        _, self.clients[slug] = self.token(slug)

    def token(self, slug: str) -> tuple[str, Client]:
        """Create a token, and return its prefix and a client that uses it."""
        scopes = [word for scope in _SCOPES for word in ("--scope", scope)]
        label = ("--type", "token", "--label", "drill", *scopes, "--json")
        key = self.service.manage("create_api_key", slug, *label).document
        self.tokens[slug] = key["secret"]
        return key["prefix"], Client(self.service.url, slug, secret="", token=key["secret"])

    def person(
        self,
        name: str,
        slug: str,
        *,
        conversations: int = 1,
        days_ago: float = 2.0,
        uci: str = "",
        again: str = "created",
    ) -> Person:
        """Add somebody who has chatted, and store their conversations."""
        person = self.people[name] = Person(name, slug, uci or f"{name}-{secrets.token_hex(4)}")
        for _ in range(conversations):
            person.say(days_ago)
        self.send(slug, *person.documents, again=again)
        return person

    def numbers_of(self, name: str) -> set[int]:
        """Return the numbers of a person's conversations."""
        return {self.numbers[document["id"]] for document in self.people[name].documents}

    def send(self, slug: str, *documents: Document, again: str = "created") -> None:
        """Store conversations. `again`: what a client that sends them again after the restore is answered."""
        for result in self.answers(slug, *documents):
            require(result["error"] is None, f"A conversation was refused: {result['error']}.")
            self.numbers[result["id"]] = result["number"]
        self.sent += [(slug, copy.deepcopy(document), again) for document in documents]

    def answers(self, slug: str, *documents: Document) -> list[dict[str, Any]]:
        answer = self.clients[slug].post("conversations", list(documents))
        require(answer.status == 200, f"Intake answered {answer.status}.")
        results: list[dict[str, Any]] = answer.body["results"]
        return results

    def file(self, name: str, path: str, **body: Any) -> str:
        """File a request about a person, and return its id."""
        person = self.people[name]
        about = (
            {}
            if "conversation_ids" in body
            else {"unique_chatter_identifier_key": UCI, "unique_chatter_identifier_value": person.uci}
        )
        answer = self.clients[person.slug].post(path, about | body)
        require(answer.status == 200, f"{path} of {name} was answered {answer.status}: {answer.body}.")
        request_id: str = answer.body["request_id"]
        self.requests[name] = request_id
        return request_id

    def redact(self, name: str) -> str:
        """File a redaction of the first message of a person, and return its text."""
        person = self.people[name]
        message: Document = person.documents[0]["messages"][0]
        answer = self.clients[person.slug].post(
            f"conversations/{self.numbers[person.documents[0]['id']]}/messages/redact",
            {"ids": [message["id"]], "reason": "payment_data"},
        )
        require(answer.status == 200, f"The redaction was answered {answer.status}.")
        self.requests[name] = answer.body["request_id"]
        text: str = message["text"]
        return text

    def carry_out(self, name: str, path: str, **body: Any) -> None:
        self.file(name, path, **body)
        self.reaches(name, "completed")

    def reaches(self, name: str, status: str) -> dict[str, Any]:
        """Wait until a person's request has this status."""
        client = self.clients[self.people[name].slug]
        said = client.follow(self.requests[name], seconds=PATIENCE)
        require(said.get("status") == status, f"The request of {name} is {said.get('status')}, not {status}.")
        return said

    def upload(self, name: str) -> str:
        """Store a file that came with the first conversation of a person, and return what it holds."""
        person = self.people[name]
        photo = f"{PHOTO}{name} {secrets.token_hex(5)}"
        lines = (
            "--drill",
            'Content-Disposition: form-data; name="file"; filename="photo.txt"',
            "Content-Type: text/plain",
            "",
            photo,
            "--drill--",
            "",
        )
        number = self.numbers[person.documents[0]["id"]]
        request = urllib.request.Request(  # noqa: S310  an http address
            f"{self.service.url}/api/v1/chatbots/{person.slug}/conversations/{number}/files",
            "\r\n".join(lines).encode(),
            {
                "Authorization": f"Bearer {self.tokens[person.slug]}",
                "Content-Type": "multipart/form-data; boundary=drill",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  as above
            require(answer.status == 201, f"The upload was answered {answer.status}.")
        return photo

    def journalled(self) -> None:
        """Wait until workers have written to the ledger what was accepted and withdrawn."""
        seconds = wait_until(lambda: not self._unwritten(), "the journal is written")
        self.story.fact(f"Everything accepted so far is in the ledger, in the bucket ({seconds:.0f} s)")

    def _unwritten(self) -> int:
        [(waiting,)] = self.service.database.sql("SELECT count(*) FROM compliance_journalentry")
        return int(waiting)


def before_the_backup(scene: Scene) -> None:
    """Two chatbots, their people, and what they had asked for already."""
    scene.chatbot(FERRIES)
    scene.chatbot(CLINIC)
    scene.service.manage("set_chatbot", CLINIC, "--four-eyes")
    for name in ("ada", "ben"):
        scene.person(name, FERRIES, conversations=2)
    for name in ("eve", "finn", "gita", "ida", "jon", "kai", "kim", "lena", "olga", "otto"):
        scene.person(name, FERRIES)
    scene.person("hal", FERRIES, days_ago=200)
    for name in ("cleo", "dora", "emil", "gus", "nora"):
        scene.person(name, CLINIC)
    # As one company's number 1 and another's.
    scene.person("adas-namesake", CLINIC, uci=scene.people["ada"].uci)
    # Ada and Kim used one window.
    ada, kim = scene.people["ada"], scene.people["kim"]
    scene.shared = ada.say()
    scene.send(FERRIES, scene.shared)
    scene.send(FERRIES, scene.shared | {"custom_variables": {UCI: kim.uci}})
    scene.photo = scene.upload("ada")
    scene.leaked_prefix, scene.leaked = scene.token(FERRIES)
    _, scene.clients[FERRIES] = scene.token(FERRIES)
    scene.story.fact(
        f"Two chatbots, {FERRIES} and {CLINIC}, which has four eyes; {len(scene.people)} people, "
        f"{len(scene.numbers)} conversations, one of them of two people, and a file"
    )
    scene.carry_out("finn", "data-export")
    scene.carry_out("lena", "data-deletion")
    returned = scene.people["lena"].say(0)
    scene.people["lena"].documents = [returned]
    scene.send(FERRIES, returned)
    scene.file("cleo", "data-deletion")
    scene.reaches("cleo", "on_hold")
    days = [str((datetime.now(UTC) - timedelta(days=ago)).date()) for ago in (3, 1)]
    scene.service.manage("daily_extract", FERRIES, "--from", days[0], "--to", days[1])
    scene.story.fact(
        "Finn has an export, and there are daily extracts. Lena was erased and came back. Cleo's deletion waits for "
        "its approval"
    )
    scene.journalled()
    scene.service.stop("workers")
    scene.file("olga", "data-deletion")
    scene.story.fact("Olga's deletion is accepted, and not begun when the backup is taken")


def after_the_backup(scene: Scene) -> None:
    """What the backup does not know."""
    manage, client = scene.service.manage, scene.clients
    scene.sent.clear()
    scene.service.start_workers()
    _send_more(scene)
    scene.reaches("olga", "completed")
    scene.carry_out("ada", "data-deletion", erase_exports=True)
    scene.came_back = Person("ada", FERRIES, scene.people["ada"].uci).say(0)
    scene.send(FERRIES, scene.came_back)
    first, _, third = (document["id"] for document in scene.people["ben"].documents)
    scene.carry_out("ben", "data-deletion", conversation_ids=[first, third])
    scene.carry_out("wim", "data-deletion")
    scene.story.fact(
        "Olga, Ada and Wim are erased; Ada comes back. Two of Ben's conversations are erased, by their ids: one of "
        "before the backup, one of after it"
    )
    cancelled = client[CLINIC].post(f"requests/{scene.requests['cleo']}/cancel", {})
    require(cancelled.status == 200, f"Cancelling was answered {cancelled.status}.")
    for name in ("gus", "dora", "emil"):
        scene.file(name, "data-deletion")
        scene.reaches(name, "on_hold")
    nora = scene.people["nora"]
    by_staff = manage("request_deletion", CLINIC, UCI, nora.uci, "--json", ends=(0, 4)).document
    scene.requests["nora"] = by_staff["request_id"]
    scene.reaches("nora", "on_hold")
    manage("reject_request", scene.requests["gus"])
    manage("approve_request", scene.requests["emil"])
    scene.reaches("emil", "completed")
    scene.story.fact(
        "Cleo's deletion is cancelled, that of Gus rejected; Dora's waits for approval, and Nora's, which staff have "
        "filed; Emil's got it and is done"
    )
    scene.redacted = {scene.redact("eve"), scene.redact("vera")}
    scene.reaches("eve", "completed")
    scene.reaches("vera", "completed")
    scene.send(FERRIES, scene.people["eve"].documents[0], again="unchanged")
    scene.redact("ugo")
    scene.reaches("ugo", "on_hold")
    scene.carry_out("gita", "data-export")
    manage("revoke_api_key", scene.leaked_prefix)
    scene.story.fact(
        "A message of Eve is redacted, and one of Vera, who came after the backup; one of Ugo's waits for approval. "
        "Gita gets an export, and a token that leaked is revoked"
    )
    _apply_retention(scene)
    scene.chatbot(BAKERY, "--variable", "custom:table")
    # With the same value as Ida of the ferries, and as somebody who comes later.
    scene.person("mia", BAKERY, uci=scene.people["ida"].uci)
    scene.carry_out("mia", "data-deletion")
    scene.lost_numbers = {
        table: scene.service.database.sql(f"SELECT min(id) FROM {table} WHERE {which} = %s", [value])[0][0]  # noqa: S608
        for table, which, value in (
            ("chatbots_chatbot", "slug", BAKERY),
            ("chatbots_variable", "chatbot_id", _number_of(scene, BAKERY)),
            ("conversations_conversation", "chatbot_id", _number_of(scene, BAKERY)),
        )
    }
    scene.story.fact(f"A new chatbot, {BAKERY}, has a person, Mia, who is erased")
    # So that it waits for its turn when the database is lost.
    manage("set_chatbot", FERRIES, "--grace-minutes", "30")
    scene.file("jon", "data-deletion")
    for name in ("otto", "pia"):
        documents = scene.people[name].documents
        scene.file(name, "data-deletion", conversation_ids=[document["id"] for document in documents])
    scene.story.fact(
        "Jon's deletion is accepted, and by the ids of their conversations those of Otto and Pia; they can be "
        "cancelled for half an hour before they are carried out"
    )
    scene.journalled()
    scene.service.stop("workers")
    scene.file("kai", "data-deletion")
    scene.story.fact("Kai's deletion is accepted, and no worker has time to write it to the ledger")


def _send_more(scene: Scene) -> None:
    """Conversations that the backup does not have, in full or in part."""
    people = scene.people
    for name, again in (("ben", "conversation_deleted"), ("otto", "conversation_deleted"), ("jon", "chatter_erased")):
        scene.send(FERRIES, people[name].say(), again=again)
    for name in ("pia", "wim"):
        scene.person(name, FERRIES, again="conversation_deleted")
    scene.person("hedy", FERRIES, days_ago=200, again="conversation_deleted")
    for name in ("tess", "vera"):
        scene.person(name, FERRIES)
    scene.upload("tess")
    scene.person("ugo", CLINIC)
    ida = people["ida"].documents[0]
    first = ida["messages"][0]
    scene.send(FERRIES, ida, again="unchanged")
    ida["messages"].append(first | {"id": f"{ida['id']}-later", "text": f"ida asks more, {secrets.token_hex(5)}"})
    scene.send(FERRIES, ida, again="updated")
    scene.story.fact(f"Clients send {len(scene.sent)} documents: of new conversations, and of some that are known")


def _number_of(scene: Scene, slug: str) -> int:
    [(number,)] = scene.service.database.sql("SELECT id FROM chatbots_chatbot WHERE slug = %s", [slug])
    return int(number)


def _apply_retention(scene: Scene) -> None:
    """Have what is older than 90 days erased, without the 24 hours that a first run waits."""
    words = (FERRIES, "90")
    counted = scene.service.manage("set_retention", *words, ends=(3,))
    number = counted.out.strip().rpartition(" ")[2]
    scene.service.manage("set_retention", *words, "--confirm", number)
    [(request_id,)] = scene.service.database.sql(
        "UPDATE compliance_compliancerequest SET not_before = now() WHERE kind = 'retention' RETURNING id"
    )
    scene.requests["hal"] = str(request_id)
    seconds = wait_until(lambda: _status(scene, "hal") == "completed", "the retention run ends")
    scene.story.fact(f"A retention run erases what is older than 90 days: {number} conversations ({seconds:.0f} s)")


def _status(scene: Scene, name: str) -> str:
    answer = scene.clients[FERRIES].get(f"requests/{scene.requests[name]}")
    return str(answer.body.get("status"))
