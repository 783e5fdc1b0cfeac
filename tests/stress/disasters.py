"""What is drawn into a story that is made up already: a backup and restores, and what officers change.

By a source of chance of its own, so that the stories without any stay as they are.
"""

from collections.abc import Callable
from itertools import count
from random import Random

from tests.stress.stories import AGES, Story

_WITH_RESTORES, _WITH_CHANGES_ALONE = 0.25, 0.1


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
