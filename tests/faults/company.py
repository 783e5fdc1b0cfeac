"""A company at a site: two chatbots, and requests about their chatters that several threads file at once."""

import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from tests.faults import site_checks
from tests.faults.catalogue import FAULTS
from tests.faults.site import Site
from tests.operated import wait_until
from tests.oracle import evidence, filing, holding, sending
from tests.oracle.checks import Checks
from tests.oracle.client_state import ClientState, Known
from tests.oracle.following import follow, follow_to_end, look_at_whole_ones
from tests.oracle.model import Conversation, Person, Request, now

_THREADS = 2
_MESSAGES = 3
# How long a fault lasts before it is mended, unless it is to outlast a limit.
_LASTS_SECONDS = 4.0
# The number of conversations without an erasure that are checked over the API. All rows are checked.
_LOOKS = 20

# As many as no test could send.
_STUFF = """
WITH stuffed AS (
    UPDATE conversations_conversation SET message_count = message_count + %(each)s WHERE id = ANY(%(numbers)s)
    RETURNING id, chatbot_id
)
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT s.chatbot_id, s.id, 'stuffed-' || n, 'user', 'text', 'message ' || n || repeat(' and more', 10), now()
  FROM stuffed s CROSS JOIN generate_series(1, %(each)s) AS n
"""


@dataclass
class Company:
    """Two chatbots: `ours` gets requests, `neighbour` gets none."""

    site: Site
    known: Known
    ours: ClientState
    neighbour: ClientState
    chance: Random

    # --- People ------------------------------------------------------------------------------------------

    def person(self, *, conversations: int = 1) -> Person:
        """Invent a chatter and store their conversations."""
        person = self.ours.new_person()
        self._store(self.ours, person, conversations)
        return person

    def _store(self, state: ClientState, person: Person, conversations: int) -> None:
        began = now() - timedelta(days=self.chance.randrange(1, 60), seconds=self.chance.randrange(80_000))
        for hour in range(conversations):
            sending.store(state, person.value, began + timedelta(hours=hour), messages=_MESSAGES)

    def conversations_of(self, *people: Person) -> list[Conversation]:
        return [each for person in people for each in self.ours.conversations_of(person.value)]

    def numbers_of(self, *people: Person) -> list[int]:
        return [each.number for each in self.conversations_of(*people) if each.number is not None]

    def upload(self, person: Person) -> None:
        """Send files of a chatter's first conversation until one is known to be stored."""
        conversation = self.conversations_of(person)[0]
        while not conversation.files:
            sending.upload(self.ours, conversation)
            time.sleep(0.1)

    def join(self, host: Person, guest: Person) -> None:
        conversation = self.conversations_of(host)[0]
        sending.send(self.ours, [sending.prepared(self.ours, conversation, guest.value)])

    def add_messages(self, person: Person, messages_each: int) -> None:
        """Add many messages to each conversation of a chatter, past the API."""
        self.site.sql(_STUFF, {"each": messages_each, "numbers": self.numbers_of(person)})
        for conversation in self.conversations_of(person):
            conversation.stuffed += messages_each

    # --- Requests ----------------------------------------------------------------------------------------

    def delete(self, person: Person, **options: Any) -> Request:
        """File the deletion of a chatter, with their exports. `options` are of the call."""
        return filing.file(self.ours, filing.deletion_of(self.ours, person.value, "erase_exports"), **options)

    def export(self, person: Person, *flags: str, **options: Any) -> Request:
        """File an export of a chatter. `options` are of the call, and `flags` those that are true."""
        return filing.file(self.ours, filing.export_of(self.ours, person.value, *flags), **options)

    def filed(self, kind: str) -> list[Request]:
        return [request for request in self.ours.filed.values() if request.kind == kind]

    def delete_under_hold(self, person: Person) -> None:
        """File the deletion of a chatter under a legal hold, which is released once the requests are followed."""
        assert holding.delete_under_hold(self.ours, person.value, "erase_exports")

    def release_holds(self) -> None:
        """Wait until the deletions under a hold wait for it, and release the holds."""
        kept = [one for one in self.ours.filed.values() if one.hold]

        def are_on_hold() -> bool:
            follow(self.ours, most=1000)
            return {one.status for one in kept} <= {"on_hold"}

        wait_until(are_on_hold, "deletions wait for legal holds")
        for request in kept:
            holding.release(self.site, self.ours, request)

    def forget(self, request: Request) -> None:
        """Forget a request that a restored database has lost."""
        self.known.model.forget(request)
        del self.ours.filed[request.id]
        for requests in (self.ours.open, self.ours.unsettled):
            requests.pop(request, None)

    def begin_round(self, *, to_erase: int, to_export: int) -> "Round":
        """Store people without requests, and return a round of requests about others.

        One of the people to be erased has a file, another shares a conversation with a person who stays. The
        neighbour has a chatter with the same UCI value as an erased one.
        """
        erased = [self.person() for _ in range(to_erase)]
        exported = [self.person() for _ in range(to_export)]
        kept = self.person()
        self.upload(erased[0])
        self.upload(kept)
        self.join(erased[1], kept)
        self._store(self.neighbour, erased[0], 1)
        return Round(self, erased, exported)

    # --- Faults, and what must hold afterwards -----------------------------------------------------------

    @contextmanager
    def fault(self, name: str, excuses: Collection[str] = ()) -> Iterator[None]:
        """Record a fault, which explains missing answers and logged errors."""
        self.known.violations.outages.begin(name, excuses)
        try:
            yield
        finally:
            self.known.violations.outages.end()

    def suffer(self, name: str, *, seconds: float = _LASTS_SECONDS) -> None:
        """Cause a fault of the catalogue, and mend it after some time."""
        fault = FAULTS[name]
        with self.fault(name, fault.excuses):
            fault.cause(self.site, self.chance)
            try:
                if fault.lasts:
                    time.sleep(max(seconds, fault.least))
            finally:
                fault.mend(self.site)

    def follow(self, *, seconds: float = 180.0) -> None:
        """Wait until all requests have ended, for `seconds` at most, and check their results."""
        self.release_holds()
        follow_to_end(self.ours, seconds=seconds)

    def left(self) -> set[Request]:
        """Poll all open requests, and return those that are still open."""
        follow(self.ours, most=1000)
        return set(self.ours.open)

    def wrong(self, *, seconds: float = 180.0, is_restored: bool = False) -> list[str]:
        """Wait until all requests have ended, and return the new violations of data ever sent to the site.

        A restored database rightly lacks some objects and uploads, and repeats erasures.
        """
        self.follow(seconds=seconds)
        for state in (self.ours, self.neighbour):
            look_at_whole_ones(state, _LOOKS)
        with suppress(TimeoutError):  # missing programs are reported below
            self.site.wait_for_all()
        callers = {state.bot: state.caller for state in (self.ours, self.neighbour)}
        found = evidence.gather(self.site, callers)
        checks = Checks(self.known.model, found, callbacks=(), outages=self.known.violations.outages)
        wrong = [*checks.all(), *site_checks.of_site(self.site, found)]
        wrong += [(one.kind, one.told) for one in self.known.violations.news()]
        explained = {"orphan", "open upload", "late"} if is_restored else set()
        told = [f"{kind}: {what}" for kind, what in wrong if kind not in explained]
        new = [one for one in told if one not in self.known.told]
        self.known.told.update(told)
        return new


@dataclass
class Round:
    """Requests about people, which are filed by threads while `during` does something else."""

    company: Company
    erased: list[Person]
    exported: list[Person]

    def run(self, during: Callable[[], None] = lambda: None) -> None:
        """File a third of the requests, then the others while `during` runs. Raises the error of a thread."""
        people = [*self.erased, *self.exported]
        self.company.chance.shuffle(people)
        third = len(people) // 3
        for person in people[:third]:
            self._file(person)
        with ThreadPoolExecutor(_THREADS) as pool:
            filed = [pool.submit(self._file, person) for person in people[third:]]
            during()
        for each in filed:
            each.result()

    def _file(self, person: Person) -> None:
        (self.company.delete if person in self.erased else self.company.export)(person)


def found(site: Site, known: Known, seed: int, slug: str = "acme") -> Company:
    clients = site.create_chatbots(slug, f"{slug}-neighbour")
    ours, neighbour = (
        known.state(client, f"{seed} {slug} {number}", longest_pause=0.5) for number, client in enumerate(clients)
    )
    return Company(site, known, ours, neighbour, Random(f"{seed} {slug}"))
