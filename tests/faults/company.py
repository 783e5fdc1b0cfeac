"""A company at a site: people, and requests about them that are filed by several threads at once."""

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults import invariants
from tests.faults.people import Person, about, invent, join, store, upload, word
from tests.faults.site import Site
from tests.oracle.http import Client, until_known

_THREADS = 2


@dataclass
class Company:
    """Two chatbots of a site, and everybody who ever chatted with them.

    `neighbour` is the chatbot of which nobody asks for anything.
    """

    site: Site
    client: Client
    neighbour: Client
    random: random.Random
    people: list[Person] = field(default_factory=list)

    @property
    def clients(self) -> dict[str, Client]:
        return {each.slug: each for each in (self.client, self.neighbour)}

    def person(self, name: str, *, conversations: int = 1, messages: int = 3) -> Person:
        """Invent somebody and store their conversations."""
        found = invent(self.random, name, self.client.slug, conversations=conversations, messages=messages)
        store(self.client, found)
        self.people.append(found)
        return found

    def begin_round(self, name: str, *, to_erase: int, to_export: int) -> "Round":
        """Store people of whom nobody asks for anything, and return a round of requests about others.

        One of those to be erased has a file, another shares a conversation with somebody who stays. The neighbour has
        somebody with the same UCI value as one who is erased.
        """
        erased = [self.person(f"{name}, to be erased {number}") for number in range(to_erase)]
        exported = [self.person(f"{name}, to be exported {number}") for number in range(to_export)]
        kept = self.person(f"{name}, kept")
        upload(self.random, self.client, erased[0])
        upload(self.random, self.client, kept)
        join(self.client, erased[1], kept)
        namesake = invent(self.random, f"{name}, namesake", self.neighbour.slug)
        namesake.uci = erased[0].uci
        for document in namesake.documents:
            document["custom_variables"]["member_id"] = namesake.uci
        store(self.neighbour, namesake)
        self.people.append(namesake)
        return Round(self, erased, exported)

    def delete(self, person: Person, **options: Any) -> str:
        """File the deletion of somebody, and return its id. `options` are of the call."""
        person.deletions.append(self._file("data-deletion", person, {"erase_exports": True, **options}))
        person.is_erased = True
        return person.deletions[-1]

    def export(self, person: Person, **options: Any) -> str:
        """File an export of somebody, and return its id. `options` are of the call."""
        person.exports.append(self._file("data-export", person, options))
        return person.exports[-1]

    def _file(self, path: str, person: Person, options: Mapping[str, Any]) -> str:
        """File a request, and repeat the call until it is known which it is."""
        key = word(random.Random())
        answer = until_known(lambda: self.client.file(path, {**about(person), **options}, key=key))
        assert answer.status == 200, f"{path} was answered {answer.status}"
        request: str = answer.body["request_id"]
        return request

    def wrong(self, *, seconds: float = 180.0, is_restored: bool = False) -> list[str]:
        """Wait until all requests have ended, and return what is wrong."""
        requests = [request for person in self.people for request in (*person.deletions, *person.exports)]
        return invariants.wait_for_ends(self.site, requests, seconds=seconds) or invariants.all_looks(
            self.site, self.clients, self.people, is_restored=is_restored
        )


@dataclass
class Round:
    """Requests about people, which are filed by threads while `during` does something else."""

    company: Company
    erased: list[Person]
    exported: list[Person]
    _filed: int = 0
    _failures: list[BaseException] = field(default_factory=list)

    def run(self, during: Callable[[], None]) -> None:
        """File a third of the requests, then the others while `during` runs. Raises what a thread has raised."""
        everybody = [*self.erased, *self.exported]
        self.company.random.shuffle(everybody)
        third = len(everybody) // 3
        for person in everybody[:third]:
            self._file(person)
        rest = everybody[third:]
        threads = [
            threading.Thread(target=self._file_all, args=(rest[number::_THREADS],)) for number in range(_THREADS)
        ]
        for thread in threads:
            thread.start()
        try:
            during()
        finally:
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _file_all(self, people: list[Person]) -> None:
        try:
            for person in people:
                self._file(person)
        except BaseException as failure:
            self._failures.append(failure)

    def _file(self, person: Person) -> None:
        if person in self.erased:
            self.company.delete(person)
        else:
            self.company.export(person)


def found(site: Site, seed: int, slug: str = "acme") -> Company:
    """Create the chatbots of a company, whose words no other company has."""
    ours, theirs = site.create_chatbots(slug, f"{slug}-neighbour")
    return Company(site, ours, theirs, random.Random(f"{seed} {slug}"))
