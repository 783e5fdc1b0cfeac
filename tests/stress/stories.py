"""A story is a list of rules: plain tuples that stay sensible when others are left out.

("say", bot, conversation, chatter or None, when it began or None, day)     a document with one more message
("identify" | "sign" | "forge", bot, conversation, chatter)     by a call, by a token, by a wrong token
("arrive", bot, conversation, chatter, when it began, day)     a document with a session of this chatter's
("upload", bot, conversation)
("delete" | "export", request, bot, chatter, flags)
("delete_ids" | "export_ids", request, bot, conversations, flags)
("retain", request, bot)            a run of another day, for the period or for one of 90 days that ends at once
("period", request, bot, days or None)      the period of retention is set; the request is its first run, if any
("eyes", bot, True or False)        deletions need a second person's approval
("redesignate", bot)                another variable is the Unique Chatter Identifier for a moment
("redact" | "select", request, bot, conversation, place)    one of its messages, by a key or by staff: that waits
("start", request)                  by staff, what they have filed and waits
("demand", bot, how reliable an identity an export needs)
("bucket", bot, "client" | "broken" | "hosted")     where exports go: to the client's own, to none, to the service's
("write", request, "reference" | "callback_url", what it contains)      once the request is filed
("note", request, decision, what it contains)      of staff, who decide
("cancel" | "approve" | "reject" | "retry", request)     by a key
("officer", request)                approved by somebody else
("backup",)                         of the database, without the bucket
("restore", "" | "sudden")          of the last backup; the ledger is replayed, and clients send all again
("days", bot)                       the extracts of two days are made
("work", worker, steps or None)     a worker drains, or goes on; it stops after so many steps, or, after "begun",
                                    where a request has begun
("sweep", worker, steps or None)    as that, with a sweep
("look", worker, steps or None)     as that, with the look-ups of sessions that are due
("kill", worker)                    where it has stopped
("refuse", what, which, "remove" | "write", "denied" | "busy")
("mend",)                           the storage is well again
("hour",) ("week", request) ("leases",)     time passes: for what waits, for an export, for claims
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Rule = tuple[Any, ...]
Story = list[Rule]

_BEGINNINGS = [None, None, "long ago", "lately", "now", "soon"]
_HOWS = ["denied", "busy"]
# What a worker does that can stop after some steps.
TURNS = {"work", "sweep", "look"}
# Days ago: longer than the period of a retention run.
AGES = 200


class Author:
    """Makes up a story. What may happen in it is drawn first, so that stories differ in kind."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._people = ["ann", "bob", "cid"] + ["dan"] * self._luck(0.3)
        self._names = [f"c{number}" for number in range(1, self._random.choice([1, 2, 2, 3, 4]) + 1)]
        # In most windows there were two.
        self._of = {name: self._several_people() for name in self._names}
        self._requests: list[tuple[str, str]] = []
        self._has_days, self._has_files, self._has_late = self._luck(0.6), self._luck(0.7), self._luck(0.35)
        self._has_ids, self._has_exports, self._has_neighbour = self._luck(0.4), self._luck(0.7), self._luck(0.3)
        self._has_faults, self._has_stops, self._has_holds = self._luck(0.8), self._luck(0.6), self._luck(0.3)
        self._has_age, self._has_redactions = self._luck(0.35), self._luck(0.35)
        self._has_identities = self._luck(0.35)
        self._has_demands = self._has_exports and self._luck(0.5)
        self._has_lookups = self._has_identities and self._luck(1 / 3)
        self._visitors = ["v1", "v2"] if self._has_lookups else []

    def story(self) -> Story:
        rules = list(self._beginning())
        ways = self._ways()
        for _ in range(self._random.randint(4, 10)):
            [way] = self._random.choices([way for _, way in ways], [weight for weight, _ in ways])
            rules += way()
        return rules

    def _luck(self, share: float) -> bool:
        return self._random.random() < share

    def _several_people(self) -> list[str]:
        return self._random.sample(self._people, self._random.choice([1, 2, 2, 2, 3]))

    def _beginning(self) -> Iterator[Rule]:
        for name in self._names:
            is_old = self._has_age and self._luck(0.6)
            began: str | None = "ages ago" if is_old else self._random.choice(["long ago", "lately"])
            for person in self._of[name]:
                yield ("say", "acme", name, person, began, AGES if is_old else self._day())
                began = None
            if self._has_files and self._luck(0.6):
                yield ("upload", "acme", name)
            if self._has_demands and self._luck(0.5):
                yield ("identify", "acme", name, self._of[name][0])
        if self._has_demands and self._luck(0.5):
            yield ("demand", "acme", "verified")
        if self._has_identities:
            yield ("say", "acme", "anon", None, self._random.choice(["long ago", "lately"]), self._day())
        yield from map(self._arrive, self._visitors)
        if self._has_neighbour:
            yield ("say", "neighbour", "c1", "ann", "lately", 1)
            yield ("upload", "neighbour", "c1")
        if self._has_days:
            yield ("days", "acme")
        if self._has_exports:
            yield from self._export()
            yield ("work", self._worker(), None)

    def _ways(self) -> list[tuple[float, Callable[[], Story]]]:
        ways: list[tuple[float, Callable[[], Story]]] = [
            (4, self._delete),
            (7, self._meet),
            (4, lambda: [("work", self._worker(), None)]),
            (2, lambda: [("hour",)]),
            (1, lambda: [("sweep", self._worker(), None)]),
            (1, lambda: [("say", "acme", self._name(), self._person(), None, self._day())]),
        ]
        if self._has_exports:
            ways += [(4, self._export), (0.7, lambda: [("week", self._request("export"))])]
            ways += [(2 * self._has_demands, self._demand), (2 * self._has_demands, self._vouch)]
        if self._has_files:
            ways += [(1, lambda: [("upload", "acme", self._name())])]
        if self._has_days:
            ways += [(1, lambda: [("days", "acme")])]
        ways += [(4, self._retain)] * self._has_age
        ways += [(4, self._redact)] * self._has_redactions
        ways += [(5, self._identify)] * self._has_identities
        ways += [(6, self._look_up)] * self._has_lookups
        if self._has_late:
            ways += [(3, self._late)]
        if self._has_faults:
            ways += [(4, self._refuse), (2, lambda: [("mend",)]), (4, self._retry)]
        if self._has_stops:
            ways += [(5, self._work_a_little), (1, lambda: [("kill", self._worker())]), (1, lambda: [("leases",)])]
        if self._has_holds:
            decisions = ["cancel", "approve", "approve", "reject"]
            ways += [(3, lambda: [(self._random.choice(decisions), self._request())])]
        return ways

    def _delete(self, person: str | None = None) -> Story:
        flags = ("erase_exports",) if self._luck(0.45) else ()
        return self._file("delete", flags, person)

    def _export(self) -> Story:
        flags = [flag for flag in ("include_shared", "include_files") if self._luck(0.35)]
        return self._file("export", tuple(flags))

    def _file(self, kind: str, flags: tuple[str, ...], person: str | None = None) -> Story:
        name = f"r{len(self._requests) + 1}"
        self._requests.append((name, kind))
        then = self._work() if self._luck(0.6) else []
        if self._has_ids and self._luck(0.3):
            names = self._random.sample(self._names, min(len(self._names), self._random.choice([1, 1, 2])))
            return [(f"{kind}_ids", name, "acme", tuple(sorted(names)), flags), *then]
        bot = "neighbour" if self._has_neighbour and self._luck(0.1) else "acme"
        return [(kind, name, bot, person or self._person(), flags), *then]

    def _demand(self) -> Story:
        return [("demand", "acme", self._random.choice(["any", "platform", "verified", "verified"]))]

    def _vouch(self) -> Story:
        name = self._name()
        return [("identify", "acme", name, self._random.choice(self._of[name]))]

    def _retain(self) -> Story:
        name = f"r{len(self._requests) + 1}"
        self._requests.append((name, "retain"))
        return [("retain", name, "acme"), *(self._work() if self._luck(0.6) else [])]

    def _redact(self) -> Story:
        name = f"r{len(self._requests) + 1}"
        self._requests.append((name, "redact"))
        kind = self._random.choice(["redact", "select"])
        rules: Story = [(kind, name, "acme", self._name(), self._random.randint(0, 2))]
        rules += [("start", name)] if self._luck(0.3) else []
        return [*rules, *(self._work() if self._luck(0.6) else [])]

    def _identify(self) -> Story:
        """Somebody is named in a window of others or of nobody, before or after a deletion."""
        name = self._random.choice([*self._names, "anon", *self._visitors])
        strangers = [person for person in self._people if person not in self._of.get(name, [])]
        person = self._random.choice(strangers or self._people)
        forged = [("forge", "acme", name, person)] if self._luck(0.3) else []
        rule = (self._random.choice(["identify", "sign"]), "acme", name, person)
        return (
            [*forged, rule, *self._delete(person)]
            if self._luck(0.4)
            else [*self._delete(person), *self._work(), rule]
        )

    def _arrive(self, visitor: str) -> Rule:
        began = self._random.choice(["now", "now", "now", "now", "soon", "lately"])
        return ("arrive", "acme", visitor, self._person(), began, self._day())

    def _look_up(self) -> Story:
        """Somebody is found out before a deletion, after it, or while it is worked on."""
        arrival = self._arrive(self._random.choice(self._visitors))
        looks = self._look() if self._luck(0.5) else [*self._look(), *self._look()]
        deletes = self._delete(arrival[3]) + (self._work() if self._luck(0.5) else [])
        after: Story = [arrival, *looks, *deletes] if self._luck(0.5) else [arrival, *deletes, *looks]
        return [*after, *self._look()] if self._luck(0.4) else after

    def _look(self) -> Story:
        steps = int(2 ** self._random.uniform(1, 5)) if self._has_stops and self._luck(0.5) else None
        killed: Story = [("kill", "w2"), ("leases",)] if steps and self._luck(0.3) else []
        return [("look", "w2" if killed else self._worker(), steps), *killed]

    def _meet(self) -> Story:
        """Two deletions, of one person or of two, and something that is in the way of the first or of both."""
        name = self._name()
        people = self._of[name]
        first, second = self._random.sample(people, 2) if len(people) > 1 and self._luck(0.6) else people[:1] * 2
        rules = self._refusal(name) if self._has_faults and self._luck(0.8) else []
        rules += [*self._delete(first), *self._work()]
        if self._has_faults and self._luck(0.4):
            rules += [("mend",), *self._refusal(name)]
        rules += [*self._delete(second), *self._work()]
        if self._has_faults and self._luck(0.5):
            rules += self._retry()
        return rules

    def _retry(self) -> Story:
        then: Story = [("mend",)] if self._luck(0.3) else []
        return [*then, ("retry", self._request()), *(self._work() if self._luck(0.5) else [])]

    def _late(self) -> Story:
        name = self._random.choice([*self._names, "new", "new"])
        began = self._random.choice(_BEGINNINGS)
        return [("say", "acme", name, self._person(), began, self._day())]

    def _refuse(self) -> Story:
        return [*self._refusal(), *(self._delete() if self._luck(0.5) else [])]

    def _refusal(self, name: str = "") -> Story:
        kinds = ["ledger", "uploads"] + ["file"] * 4 * self._has_files + ["days"] * 4 * self._has_days
        what = self._random.choice(kinds + ["export"] * 3 * self._has_exports)
        which = {
            "file": lambda: name or self._name(),
            "export": lambda: self._request("export"),
            "days": lambda: "acme",
        }
        does = "write" if what in {"days", "ledger"} or self._luck(0.1) else "remove"
        return [("refuse", what, which[what]() if what in which else "", does, self._random.choice(_HOWS))]

    def _work(self) -> Story:
        return self._work_a_little() if self._has_stops and self._luck(0.4) else [("work", self._worker(), None)]

    def _work_a_little(self) -> Story:
        kind = self._random.choice(["work"] * 5 + ["sweep"])
        return [(kind, self._worker(), int(2 ** self._random.uniform(1, 7.5)))]

    def _worker(self) -> str:
        return self._random.choice(["w1", "w2"] if self._has_stops else ["w1"])

    def _day(self) -> int:
        """Return how many days ago something is said."""
        return self._random.choice([0, 1, 2])

    def _name(self) -> str:
        return self._random.choice(self._names)

    def _person(self) -> str:
        return self._random.choice(self._people)

    def _request(self, kind: str = "") -> str:
        names = [name for name, of in self._requests if of == kind or not kind]
        return self._random.choice(names) if names else "r1"


def printed(story: Story) -> str:
    """Return a story as text that `eval` takes."""
    return "[\n" + "".join(f"    {rule!r},\n" for rule in story) + "]"


def shortened(story: Story, fails: Callable[[Story], bool]) -> Story:
    """Return a story that fails too and of which nothing can be left out. `fails` may raise StopIteration."""
    try:
        # All of one conversation, request, worker or kind of rule at once: most of a story is beside the point.
        for word in sorted({word for rule in story for word in rule if isinstance(word, str) and word}):
            shorter = [rule for rule in story if word not in rule]
            if shorter != story and _try(story, shorter, fails):
                story = shorter
        size = max(1, len(story) // 4)
        while True:
            smaller = _without(story, size, fails)
            if smaller == story and size == 1:
                return _simplified(story, fails)
            story, size = smaller, max(1, size // 2) if smaller == story else size
    except _OutOfTime as end:
        return end.story


class _OutOfTime(Exception):
    def __init__(self, story: Story) -> None:
        self.story = story


def _without(story: Story, size: int, fails: Callable[[Story], bool]) -> Story:
    """Leave out so many rules in a row, wherever it still fails; from the end on, where fewest depend on them."""
    start = len(story) - size
    while start > -size:
        shorter = story[: max(start, 0)] + story[max(start, 0) + size :]
        if shorter != story and _try(story, shorter, fails):
            story = shorter
        start -= size
    return story


def _simplified(story: Story, fails: Callable[[Story], bool]) -> Story:
    for place, rule in enumerate(story):
        for plainer in _plainer(rule):
            other = [*story[:place], plainer, *story[place + 1 :]]
            if _try(story, other, fails):
                story = other
                break
    return story


def _plainer(rule: Rule) -> Iterator[Rule]:
    if rule[0] in TURNS and rule[2] is not None:
        yield (*rule[:2], None)
    if rule[0] == "restore" and rule[1]:
        yield ("restore", "")
    if rule[-1] and isinstance(rule[-1], tuple):
        yield (*rule[:-1], ())
        yield from ((*rule[:-1], (flag,)) for flag in rule[-1] if len(rule[-1]) > 1)


def _try(story: Story, other: Story, fails: Callable[[Story], bool]) -> bool:
    try:
        return fails(other)
    except StopIteration:
        raise _OutOfTime(story) from None
