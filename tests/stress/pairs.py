"""Each act against each other one, in both orders and at each moment: short stories, made from two lists."""

from itertools import product

from tests.stress.stories import AGES, Story

# `{}` is the name of the request. All meet in the conversation c1, which is old and of two people.
ACTS: dict[str, Story] = {
    "deletion by value": [("delete", "{}", "acme", "ann", ())],
    "deletion by ids": [("delete_ids", "{}", "acme", ("c1",), ("erase_exports",))],
    "redaction": [("redact", "{}", "acme", "c1", 0)],
    "retention run": [("period", "{}", "acme", 90), ("hour",)],
    "export": [("export", "{}", "acme", "ann", ("include_files", "include_shared"))],
    "identify": [("identify", "acme", "c3", "ann"), ("identify", "acme", "c1", "cid")],
    "settings": [
        ("period", "{}", "acme", None),
        ("redesignate", "acme"),
        ("demand", "acme", "verified"),
        ("eyes", "acme", True),
    ],
    "restore": [("restore", "")],
}
# What a worker carries out; the other acts have ended when they are answered.
_WORKED_ON = ("deletion by value", "deletion by ids", "redaction", "retention run", "export")

# What is done between the first act and the second one, and after the second.
_MOMENTS: dict[str, tuple[Story, Story]] = {
    "before the claim": ([], []),
    "after the mark": ([("work", "w1", "begun")], [("work", "w2", None), ("work", "w1", None)]),
    "after a kill": ([("work", "w1", "begun"), ("kill", "w1"), ("leases",)], []),
    "after completion": ([("work", "w1", None)], []),
}

_BEFORE: Story = [
    ("say", "acme", "c1", "ann", "ages ago", AGES),
    ("say", "acme", "c1", "bob", None, AGES),
    ("upload", "acme", "c1"),
    ("say", "acme", "c2", "ann", "lately", 1),
    ("say", "acme", "c3", "bob", "lately", 1),
    ("say", "neighbour", "c1", "ann", "lately", 1),
    ("upload", "neighbour", "c1"),
    ("days", "acme"),
    ("export", "own", "acme", "ann", ("include_files", "include_shared")),
    ("export", "old", "acme", "bob", ("include_shared",)),
    ("work", "w1", None),
    ("week", "old"),
    ("backup",),
]


def pairs() -> dict[str, Story]:
    """Return all stories by their names."""
    found = {}
    for (first, one), (second, other) in product(ACTS.items(), repeat=2):
        for moment, (between, after) in _MOMENTS.items():
            if first in _WORKED_ON or moment == "before the claim":
                story = [*_BEFORE, *_named(one, "r1"), *between, *_named(other, "r2"), *after, ("work", "w1", None)]
                found[f"{first}, {second} {moment}"] = story
    return found


def _named(act: Story, name: str) -> Story:
    return [tuple(name if word == "{}" else word for word in rule) for rule in act]
