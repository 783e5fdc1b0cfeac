"""The drill's service, its people, and the clients' calls. All are invented.

The calls, and their expected results, are in the oracle's model: each text has a planted word.
"""

import inspect
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from scripts.demo_story import Story, require
from tests.faults.site import Site
from tests.operated import SCOPES, wait_until
from tests.oracle import filing, holding
from tests.oracle.caller import Client
from tests.oracle.client_state import ClientState, Known
from tests.oracle.model import FINAL, Conversation, Expected, Person, Request, now
from tests.oracle.sending import Sent, note, prepared, send, upload

FERRIES, CLINIC, BAKERY, ORCHARD = "tern-ferries", "juniper-clinic", "harbour-bakery", "hill-orchard"
# The cluster.
WORKERS = "cluster-1"
P = ParamSpec("P")


class Log(Story):
    """The story, with the minute and second since its clock was set."""

    def restart_clock(self) -> None:
        self._began = time.monotonic()

    def fact(self, text: str) -> None:
        minutes, seconds = divmod(int(self.elapsed()), 60)
        super().fact(f"{minutes:02}:{seconds:02}  {text}")

    def elapsed(self) -> float:
        return time.monotonic() - self._began


def told(do: Callable[Concatenate["Scene", P], object]) -> Callable[Concatenate["Scene", P], None]:
    """Print the step's docstring and result, once it has succeeded."""

    @wraps(do)
    def tell(scene: "Scene", /, *args: P.args, **options: P.kwargs) -> None:
        more = do(scene, *args, **options)
        text = " ".join(inspect.cleandoc(do.__doc__ or "").split())
        scene.story.fact(f"{text.removesuffix('.')}: {more}" if more else text)

    return tell


@dataclass
class Chatter:
    """A chatter of a chatbot. The same `person` in another chatbot is a chatter with the same value."""

    slug: str
    person: Person
    conversations: list[Conversation] = field(default_factory=list)


class Scene:
    """The stored data and the requests, by name of the person."""

    def __init__(self, service: Site, story: Log, known: Known) -> None:
        self.service = service
        self.story = story
        self.known = known
        self.model, self.violations = known.model, known.violations
        self.states: dict[str, ClientState] = {}
        self.people: dict[str, Chatter] = {}
        self.requests: dict[str, Request] = {}
        # Each document that was stored, those of after the backup from `backed_up` on.
        self.sent: list[Sent] = []
        self.backed_up = 0
        self.leaked: Client | None = None
        self.lost_numbers: dict[str, int] = {}  # table -> the number of a row that is lost
        self._backup: dict[Conversation, dict[str, Any]] = {}
        self._backed_up_at = now()

    def copied(self, service: Site) -> "Scene":
        """Return the same people at a copy of the service, whose tokens are the same."""
        copied = Scene(service, self.story, Known(self.model.branch()))
        copied.people = self.people
        for slug in self.states:
            copied.use(self.client(slug).at(service.address))
        return copied

    # --- What clients are, and send ------------------------------------------------------------------

    def chatbot(self, slug: str, *words: str) -> None:
        self.use(self.service.create_chatbot(slug, *words, timeout=30))

    def let_leak(self, slug: str) -> None:
        """Let the token of a chatbot leak, and create another, which is used from now on."""
        self.leaked = self.client(slug)
        scopes = [word for scope in SCOPES for word in ("--scope", scope)]
        key = ("create_api_key", slug, "--type", "token", "--label", "new", "--json", *scopes)
        token = self.service.manage(*key).document["secret"]
        self.use(Client(self.service.address, slug, secret=self.leaked.secret, token=token, timeout=30))

    @property
    def leaked_prefix(self) -> str:
        return self.leaked.token.split("_")[1] if self.leaked else ""

    def use(self, client: Client) -> None:
        """Let a chatbot's client call with these keys, with the state of the model."""
        state = self.known.state(client, "drill")
        ours = [conversation for conversation in self.model.conversations if conversation.bot == client.slug]
        state.conversations = {conversation.id: conversation for conversation in ours}
        state.alive = dict.fromkeys(conversation for conversation in ours if conversation.number is not None)
        state.filed = {request.id: request for request in self.model.filed if request.bot == client.slug}
        self.states[client.slug] = state

    def client(self, slug: str) -> Client:
        return self.states[slug].caller.client

    def person(self, *names: str, slug: str, conversations: int = 1, days_ago: float = 2.0, like: str = "") -> None:
        """Add people who have chatted, each with a value of their own or `like` another's."""
        for name in names:
            self.people[name] = Chatter(slug, self.people[like].person if like else self.model.person())
            for _ in range(conversations):
                self.says(name, days_ago)

    def says(self, name: str, days_ago: float = 2.0) -> Conversation:
        chatter = self.people[name]
        conversation = self.states[chatter.slug].new_conversation(now() - timedelta(days=days_ago))
        chatter.conversations.append(conversation)
        self.send(conversation, name)
        return conversation

    def send(self, conversation: Conversation, name: str) -> None:
        """Store more messages of a conversation, from this person."""
        state = self.states[conversation.bot]
        self.sent.append(prepared(state, conversation, self.people[name].person.value, sent_at=conversation.began))
        send(state, self.sent[-1:])

    def repeat(self, name: str) -> None:
        """Send the first document of a person again, which changes nothing."""
        [first, *_] = (sent for sent in self.sent if sent.conversation is self.people[name].conversations[0])
        self.again(first)
        self.sent.append(first)

    def again(self, *documents: Sent) -> str:
        """Send documents again, and return the counts of the answers, which must match the model."""
        answers = Counter(self._again(sent) for sent in documents)
        return ", ".join(f"{number} {answer}" for answer, number in sorted(answers.items()))

    def _again(self, sent: Sent) -> str:
        conversation = sent.conversation
        if self.model.expected(conversation) is Expected.GONE:
            # By its id; one that was lost before its chatter's deletion was carried out, by its chatter.
            is_of_jon = conversation in self.people["jon"].conversations[1:]
            expected = "chatter_erased" if is_of_jon else "conversation_deleted"
        elif conversation.number is None:
            expected = "created"
        else:
            expected = "unchanged" if sent.texts.keys() <= conversation.texts.keys() else "updated"
        state = self.states[conversation.bot]
        [result] = state.caller.post("document again", "conversations", sent.body).body["results"]
        answer: str = result["error"]["code"] if result["error"] else result["outcome"]
        require(answer == expected, f"{conversation.id}, sent again, is answered {answer}, not {expected}.")
        if not result["error"]:
            note(state, sent, result)
        return answer

    def upload(self, name: str) -> None:
        conversation = self.people[name].conversations[0]
        upload(self.states[conversation.bot], conversation)
        require(conversation.files, "A file was not stored.")

    # --- What they file ------------------------------------------------------------------------------

    def file(self, name: str, kind: str, *conversations: Conversation, **flags: bool) -> None:
        """File the deletion or export of a person, or the deletion of some of their conversations."""
        chatter = self.people[name]
        state, value = self.states[chatter.slug], chatter.person.value
        if conversations:
            request = filing.deletion_by_ids(state, conversations, *flags)
        else:
            request = (filing.deletion_of if kind == "deletion" else filing.export_of)(state, value, *flags)
        self.requests[name] = filing.file(state, request)

    def file_under_hold(self, name: str) -> None:
        """Place a legal hold on a person, and file their deletion."""
        chatter = self.people[name]
        request = holding.delete_under_hold(self.states[chatter.slug], chatter.person.value)
        require(request is not None, f"An erasure of {name} is under way.")
        self.requests[name] = cast("Request", request)

    def release(self, *names: str) -> None:
        for name in names:
            request = self.requests[name]
            holding.release(self.service, self.states[request.bot], request)

    def redact(self, *names: str) -> None:
        """File the redaction of a message of each person."""
        for name in names:
            conversation = self.people[name].conversations[0]
            message = min(conversation.texts)
            filing.redact(self.states[conversation.bot], conversation, message)
            self.requests[name] = conversation.redacted[message]

    def carry_out(self, name: str, kind: str, *conversations: Conversation, **flags: bool) -> None:
        self.file(name, kind, *conversations, **flags)
        self.reaches(name, "completed")

    def reaches(self, *names: str) -> dict[str, Any]:
        """Wait until the requests of these people have the status that is the last argument."""
        *people, status = names
        shown: dict[str, Any] = {}
        for name in people:
            request = self.requests[name]

            def has_settled(request: Request = request) -> bool:
                shown.update(self.client(request.bot).get(f"requests/{request.id}").body)
                return shown["status"] in FINAL | {"failed", "on_hold"}

            wait_until(has_settled, f"the request of {name} is over, or on hold")
            request.status, request.ended_at = shown["status"], now()
            require(request.status == status, f"The request of {name} is {request.status}, not {status}.")
        return shown

    def waiting(self) -> set[str]:
        """Return the ids of the requests that wait for a decision."""
        return {request.id for request in self.model.filed if request.status == "on_hold"}

    # --- What is lost --------------------------------------------------------------------------------

    def is_backed_up(self) -> None:
        """Record that a backup is taken of the data stored now."""
        self._backup, self._backed_up_at = self.model.stored(), now()
        self.backed_up = len(self.sent)

    def is_lost(self, *names: str) -> None:
        """Record that only the backup is left, and the data that the ledger brings back.

        It brings back no export, no redaction that was not approved, nothing of a chatbot that is not in the backup,
        and not the requests of these people.
        """
        self.model.put_back(self._backup)
        named = {self.requests[name] for name in names}
        for request in self.model.filed:
            is_of_since = request.asked_at > self._backed_up_at
            is_undecided = request.kind == "redaction" and request.status == "on_hold"
            is_lost = request in named or request.bot == BAKERY
            if is_lost or (is_of_since and (request.kind == "export" or is_undecided)):
                self.model.forget(request)
                for conversation in request.possibly:
                    kept = {message: by for message, by in conversation.redacted.items() if by is not request}
                    conversation.redacted = kept
        self.states.pop(BAKERY, None)
        for state in list(self.states.values()):
            self.use(state.caller.client)
