"""What is drawn into a story that is made up already, by sources of chance of their own.

Texts on requests, delivered exports, late files, and redactions that meet exports and deletions; a backup and
restores, and what officers change.
"""

from collections.abc import Callable
from itertools import count
from random import Random

from tests.stress.stories import AGES, Story

_FILED = {"delete", "export", "delete_ids", "export_ids", "redact"}
_WORK: Story = [("work", "w1", None)]
_WITH_RESTORES, _WITH_CHANGES_ALONE = 0.25, 0.1


def with_extras(story: Story, seed: int) -> Story:
    random = Random(f"extras {seed}")
    rules = list(story)

    def insert(more: Story) -> None:
        """Insert these rules in their order, one after another or with whatever else comes between."""
        is_together = random.random() < 0.5
        place = random.randint(0, len(rules)) if is_together else 0
        for rule in more:
            if not is_together:
                place = random.randint(place, len(rules))
            rules.insert(place, rule)
            place += 1

    if random.random() < 0.35:
        insert(_named(random))
        rules = [*_texts(random, rules), *rules]
        for name in _names(rules):
            if random.random() < 0.5:
                decision = random.choice(["cancel", "approve", "reject", "retry"])
                insert([("note", name, decision, random.choice(["ann", "bob", "c1"]))])
    if random.random() < 0.3:
        insert(_delivered(random))
    if random.random() < 0.2:
        insert(_late_files(random))
    if random.random() < 0.2:
        insert(_redacted(random))
    return rules


def _delivered(random: Random) -> Story:
    """Exports into the client's own bucket, and what meets them; some fail, or are hosted again."""
    person, flags = random.choice(["ann", "bob"]), random.choice([(), ("include_shared",)])
    file: Story = [("export", "x4", "acme", person, flags), ("export_ids", "x5", "acme", ("c1",), ())]
    meet: Story = [
        ("delete", "x6", "acme", person, random.choice([(), ("erase_exports",)])),
        ("delete_ids", "x7", "acme", ("c1",), ()),
        ("redact", "x8", "acme", random.choice(["c1", "c2"]), 0),
    ]
    # It is tried five times.
    tries = random.choice([1, 5]) * [("hour",), *_WORK]
    failing: Story = [
        ("bucket", "acme", "broken"),
        ("export", "x9", "acme", person, flags),
        *tries,
        ("note", "x9", "retry", "ann"),
    ]
    return [
        *(failing if random.random() < 0.4 else []),
        ("bucket", "acme", "client"),
        *random.sample(file, random.choice([1, 2])),
        *_WORK,
        *([("bucket", "acme", "hosted")] if random.random() < 0.4 else []),
        *random.sample(meet, random.choice([1, 2, 3])),
        *_WORK,
    ]


def _late_files(random: Random) -> Story:
    """Words and a file of somebody are of a chatter who was erased, and the storage refuses to remove the file."""
    how = random.choice(["denied", "busy"])
    return [
        ("delete", "x10", "acme", "ann", ()),
        *_WORK,
        ("say", "acme", "late", "bob", "lately", 1),
        ("upload", "acme", "late"),
        ("refuse", "file", "late", "remove", how),
        ("say", "acme", "late", "ann", None, 0),
        ("sweep", "w1", None),
        *random.choice([[], [("mend",), ("sweep", "w1", None)]]),
    ]


def _redacted(random: Random) -> Story:
    """A finished export loses a message, while a deletion of the same chatter waits, is done, or comes later."""
    person, flags = random.choice(["ann", "bob"]), random.choice([(), ("erase_exports",)])
    redaction: Story = [("redact", "x11", "acme", "red", 0)]
    deletion: Story = [("delete", "x12", "acme", person, flags)]
    held: Story = [("eyes", "acme", True), *deletion, *_WORK, ("eyes", "acme", False), *redaction, *_WORK]
    ways: list[Story] = [
        [*held, random.choice([("officer", "x12"), ("note", "x12", "approve", person)])],
        [*redaction, *deletion],
        [*deletion, *redaction],
        [*redaction, *_WORK, *deletion],
        [*deletion, *_WORK, *redaction],
        # Half of the export cannot be made again.
        [("delete_ids", "x16", "acme", ("green",), ()), *_WORK, *redaction],
    ]
    failing: Story = [("refuse", "export", "x13", "write", random.choice(["denied", "busy"]))]
    return [
        *[("say", "acme", name, person, "lately", 1) for name in ("red", "green")],
        ("export", "x13", "acme", person, ("include_shared",)),
        *_WORK,
        *(failing if random.random() < 0.5 else []),
        *random.choice(ways),
        *_WORK,
    ]


def _names(rules: Story) -> list[str]:
    return [rule[1] for rule in rules if rule[0] in _FILED]


def _named(random: Random) -> Story:
    """Requests by ids, whose texts nothing but an erasure can take, and who is in those conversations."""
    names = tuple(sorted(random.sample(["c1", "c2"], random.choice([1, 2]))))
    return [
        ("export", "x14", "acme", random.choice(["ann", "bob"]), ()),
        ("note", "x14", "cancel", random.choice(["ann", "bob"])),
        ("export_ids", "x15", "acme", names, ()),
        ("note", "x15", "cancel", random.choice(["ann", "bob"])),
        ("export_ids", "x1", "acme", names, ()),
        *_WORK,
        ("redact", "x2", "acme", "c1", 0),
        ("delete", "x3", "acme", random.choice(["ann", "bob"]), ()),
        *_WORK,
    ]


def _texts(random: Random, rules: Story) -> Story:
    return [
        ("write", name, what, random.choice(["ann", "bob", "cid", "c1", "c2"]))
        for name in _names(rules)
        for what in ("reference", "callback_url")
        if random.random() < 0.6
    ]


# --- Restores, and what officers change ---


def with_disasters(story: Story, seed: int) -> Story:
    """Return the story, as it is or with a backup, one or two restores of it, and changes of settings."""
    random = Random(f"disasters {seed}")
    kind = random.random()
    if kind >= _WITH_RESTORES + _WITH_CHANGES_ALONE:
        return story
    names = (f"p{number}" for number in count(1))
    rules = list(story)

    def insert(more: Story, after: int = 0) -> int:
        place = random.randint(after, len(rules))
        rules[place:place] = more
        return place

    # It stops looking up who chatted.
    has_lookups = any(rule[0] == "arrive" for rule in story)
    for change in (_periods, _eyes, *([] if has_lookups else [_redesignation])):
        if random.random() < 0.4:
            # In this order, with whatever else comes between.
            place = 0
            for rule in change(random, lambda: next(names)):
                place = insert([rule], place) + 1
    if kind < _WITH_RESTORES:
        backup = insert([("backup",)])
        for _ in range(random.choice([1, 1, 1, 2])):
            insert([("restore", random.choice(["", "", "", "sudden"]))], backup + 1)
    return rules


def _periods(random: Random, name: Callable[[], str]) -> Story:
    """Retention is set, carried out, and changed or ended before, meanwhile or afterwards."""
    old: Story = [("say", "acme", one, "ann", "ages ago", AGES) for one in random.sample(["old1", "old2"], 2)]
    first = name()
    changed = ("period", name(), "acme", random.choice([None, None, 180, 365]))
    work: Story = [("hour",), ("work", "w1", random.choice([None, None, int(2 ** random.uniform(1, 7))]))]
    refusal: Story = [("refuse", "ledger", "", "write", random.choice(["denied", "busy"]))]
    ways: list[Story] = [
        [("period", first, "acme", 90), *work],
        [("period", first, "acme", 90), *work, ("retain", name(), "acme"), *work],
        [("period", name(), "acme", 365), ("period", first, "acme", 90), *work, changed],
        [("period", first, "acme", 90), *refusal, *work, changed, ("mend",), *work, ("retry", first), *work],
        [("period", first, "acme", 90), changed, *work],
        # Off and on again: the new first run waits.
        [
            ("period", first, "acme", 90),
            *work,
            ("period", name(), "acme", None),
            ("period", name(), "acme", 90),
            *work,
        ],
        # A slice fails, and what it has closed is erased whatever comes.
        [
            ("upload", "acme", "old1"),
            ("refuse", "file", "old1", "remove", random.choice(["denied", "busy"])),
            ("period", first, "acme", 90),
            *work * 5,
            *[changed, ("mend",), ("retry", first), *work],
        ],
    ]
    young: Story = [("say", "acme", "old1", "ann", None, 0)] if random.random() < 0.3 else []
    return [*old, *random.choice(ways), *young]


def _eyes(random: Random, _name: Callable[[], str]) -> Story:
    who = random.choice(["officer", "officer", "approve"])
    opened: Story = [("eyes", "acme", False)] if random.random() < 0.5 else []
    return [("eyes", "acme", True), (who, f"r{random.randint(1, 4)}"), ("work", "w1", None), *opened]


def _redesignation(_random: Random, _name: Callable[[], str]) -> Story:
    return [("redesignate", "acme")]
