"""A story is a list of rules, written as lines of words, that stay sensible when others are left out.

say BOT CONVERSATION CHATTER BEGAN DAY      a document with one more message; `-` is no chatter, and no beginning
arrive BOT CONVERSATION CHATTER BEGAN DAY   a document with a session of this chatter's
identify|sign|forge BOT CONVERSATION CHATTER    by a call, by a token, by a wrong token
upload BOT CONVERSATION
delete|export REQUEST BOT CHATTER FLAG...
delete_ids|export_ids REQUEST BOT CONVERSATION,... FLAG...
retain REQUEST BOT                  a run of another day, for the period or for one of 90 days that ends at once
period REQUEST BOT DAYS             the period of retention is set, or ended (-); the request is its first run
eyes BOT on|off                     deletions need a second person's approval
redesignate BOT                     another variable is the Unique Chatter Identifier for a moment
redact|select REQUEST BOT CONVERSATION PLACE|comment|both    one of its messages, the CSAT comment, or the first of
                                       each, by a key or by staff: that waits
start REQUEST                       by staff, what they have filed and waits
demand BOT any|platform|verified    how reliable an identity an export needs
bucket BOT client|broken|hosted|other   where exports go: to the client's own, to none, to the service's, or to the
                                       other one of these than now
write REQUEST reference|callback_url TEXT       what it contains once it is filed
note REQUEST DECISION TEXT          of staff, who decide
cancel|approve|reject|retry REQUEST     by a key
officer REQUEST                     approved by another user
extend|answer REQUEST               its deadline, or the person whom it concerns
keep|keep_ids HOLD BOT CHATTER|CONVERSATION,...     a legal hold; keep_all HOLD BOT is one on the chatbot
let_go HOLD                         it is released; free releases all
limit REQUEST                       it may erase what no hold covers
backup                              of the database, without the bucket
restore [sudden]                    of the last backup; the ledger is replayed, and clients send all again
days BOT                            the extracts of two days are made
work|sweep|look WORKER [STEPS]      a worker drains, sweeps, or makes look-ups that are due, or goes on; it stops
                                    after so many steps, or, after `begun`, where a request has begun
kill WORKER                         where it has stopped
refuse WHAT WHICH remove|write denied|busy
mend                                the storage is well again
hour, week REQUEST, leases          time passes: for what waits, for an export, for claims
"""

from collections.abc import Callable
from random import Random
from typing import Any

Rule = tuple[Any, ...]
Story = list[Rule]

# The turns of a worker, which can stop after some steps.
TURNS = {"work", "sweep", "look"}
FILED = {"delete", "export", "delete_ids", "export_ids"}
# How many words of a rule are not optional.
_FIXED = dict.fromkeys(TURNS, 2) | {"restore": 1} | dict.fromkeys(FILED, 4)


def story(text: str) -> Story:
    """Read rules: one a line, or before each semicolon."""
    return [tuple(map(_value, rule.split())) for rule in text.replace("\n", ";").split(";") if rule.strip()]


def _value(word: str) -> str | int | None:
    return None if word == "-" else int(word) if word.isdecimal() else word


def printed(rules: Story) -> str:
    return "\n".join(" ".join("-" if word is None else str(word) for word in rule) for rule in rules)


# --- How one is made up ------------------------------------------------------------------------------------

# What may happen in a story is drawn first, so that stories differ in kind.
_TRAITS = (
    {"days": 0.6, "files": 0.7, "late": 0.35, "ids": 0.4, "exports": 0.7, "neighbour": 0.3, "faults": 0.8}
    | {"stops": 0.6, "holds": 0.3, "age": 0.35, "redactions": 0.35, "identities": 0.35, "demands": 0.5}
    | {"lookups": 1 / 3, "dan": 0.3}
)
_NEEDS = {"demands": "exports", "lookups": "identities"}

# What happens by turns, by the trait that it needs, each with its weight. `{p}` is a person, the same throughout a
# line, `{p2}` another drawing; so are a conversation `{c}`, a new request `{r}`, and the others of `Author._drawn`.
# `{c:.0}` is drawn, and not written. A rule with `?` is left out half of the time.
_WAYS: dict[str, list[tuple[float, str]]] = {
    "": [
        *[(4, "{delete}"), (4, "work {w}"), (2, "hour"), (1, "sweep {w}"), (1, "say acme {c} {p} - {day}")],
        # Two deletions, of one person or of two, and something that is in the way of the first or of both.
        (7, "{c:.0}; ?{refusal}; {delete_c}; {work}; ?mend; ?{refusal2}; {delete_c2}; {work2}; ?{retry}"),
    ],
    "exports": [(4, "{export}"), (0.7, "week {old_export}")],
    "demands": [(2, "demand acme {least}"), (2, "identify acme {c} {of_c}")],
    "files": [(1, "upload acme {c}")],
    "days": [(1, "days acme")],
    "age": [(4, "retain {r} acme; ?{work}")],
    "redactions": [(4, "{redact} {r} acme {c} {place}; ?start {r}; ?{work}")],
    # A chatter is identified in a conversation of others or of an unknown one, before or after a deletion.
    "identities": [
        (2, "?forge acme {anon} {p}; {identify} acme {anon} {p}; {delete_p}"),
        (3, "{delete_p}; {work}; {identify} acme {anon} {p}"),
    ],
    # A chatter is identified before a deletion, after it, or during it.
    "lookups": [
        (3, "arrive acme {v} {p} {now} {day}; {look}; ?{look2}; {delete_p}; ?{work}; ?{look3}"),
        (3, "arrive acme {v} {p} {now} {day}; {delete_p}; ?{work}; {look}; ?{look2}"),
    ],
    "late": [(3, "say acme {anew} {p} {began} {day}")],
    "faults": [(4, "{refusal}; ?{delete}"), (2, "mend"), (4, "{retry}")],
    "stops": [(5, "{stop}"), (1, "kill {w}"), (1, "leases")],
    "holds": [(3, "{decision} {old}"), (1, "?extend {old}; ?answer {old}")],
}

# What words are drawn from.
_CHOICES = """
    day 0 1 2; place 0 1 2 comment both; days - - 180 365; then long lately; now now now now now soon lately;
    began - - long lately now soon; about ann bob cid c1 c2; pair c1 c2 c1,c2; how denied busy;
    least any platform verified verified; redact redact select; identify identify sign;
    officer officer officer approve; decision cancel approve approve reject; noted cancel approve reject retry
"""
_WORDS = {name: words for name, *words in map(str.split, _CHOICES.split(";"))}

# What else is put into some stories, in one piece or with whatever else comes between: its share, its beginning,
# and the ways in which it may go on.
_EPISODES: list[tuple[float, str, list[str]]] = [
    # Requests whose texts nothing but an erasure can take.
    (
        0.2,
        "export {r} acme {p}; note {r} cancel {p2}; export_ids {r2} acme {pair}; note {r2} cancel {p3}",
        ["export_ids {r3} acme {pair}; work w1; redact {r4} acme c1 0; delete {r5} acme {p4}; work w1"],
    ),
    # Exports into the client's own bucket, and what meets them; some fail, or are hosted again.
    (
        0.3,
        "?bucket acme broken; ?export {r} acme {p} {shared}; ?{tries}; ?note {r} retry ann; bucket acme client",
        [
            """?export {r2} acme {p} {shared}; export_ids {r3} acme c1; work w1; ?bucket acme hosted;
            ?delete {r4} acme {p} {erase}; ?delete_ids {r5} acme c1; ?redact {r6} acme {c} 0; work w1"""
        ],
    ),
    # Words and a file belong to an erased chatter, and the storage refuses to remove the file.
    (
        0.2,
        "delete {r} acme ann; work w1; say acme late bob lately 1; upload acme late",
        ["refuse file late remove {how}; say acme late ann - 0; sweep w1; ?mend; ?sweep w1"],
    ),
    # A finished export loses a message, while a deletion of the same chatter waits, is done, or comes later.
    (
        0.2,
        """say acme red {p} lately 1; say acme green {p} lately 1; export {r} acme {p} include_shared; work w1
        ?refuse export {r} write {how}""",
        [
            """eyes acme on; delete {r2} acme {p} {erase}; work w1; eyes acme off; redact {r3} acme red 0; work w1
            {officer} {r2}; work w1""",
            "redact {r3} acme red 0; ?work w1; delete {r2} acme {p} {erase}; work w1",
            "delete {r2} acme {p} {erase}; ?work w1; redact {r3} acme red 0; work w1",
            # Half of the export cannot be made again.
            "delete_ids {r2} acme green; work w1; redact {r3} acme red 0; work w1",
        ],
    ),
    # Retention is set, carried out, and changed or ended before, meanwhile or afterwards.
    (
        0.15,
        "say acme old1 ann ages 200; say acme old2 ann ages 200",
        [
            "period {r} acme 90; {hour}; ?retain {r2} acme; {hour}; ?say acme old1 ann - 0",
            "period {r2} acme 365; period {r} acme 90; {hour}; period {r3} acme {days}",
            """period {r} acme 90; ?refuse ledger - write {how}; {hour}; period {r2} acme {days}; mend; {hour}
            retry {r}; {hour}; ?say acme old1 ann - 0""",
            "period {r} acme 90; period {r2} acme {days}; {hour}",
            # Off and on again: the new first run waits.
            "period {r} acme 90; {hour}; period {r2} acme -; period {r3} acme 90; {hour}",
            # A slice fails, and what it has closed is erased whatever comes.
            """upload acme old1; refuse file old1 remove {how}; period {r} acme 90; {hour}; {hour}; {hour}; {hour}
            {hour}; period {r2} acme {days}; mend; retry {r}; {hour}""",
        ],
    ),
    # A legal hold before a deletion or while it waits or works, and a part that is erased all the same.
    (
        0.25,
        "",
        [
            "{keep}; {delete_k}; {work}; ?limit {old}; {work2}; let_go h1",
            "{delete_k}; {work}; {keep}; {work2}; let_go h1",
            "{keep}; retain {r} acme; {work}; {delete_k}; {work2}; limit {old}; {work}; let_go h1; {work2}",
            "{keep}; redact {r} acme c1 0; {work}; let_go h1; {work2}",
        ],
    ),
    (0.15, "eyes acme on", ["{officer} {old}; work w1; ?eyes acme off"]),
    (0.1, "", ["redesignate acme"]),
    (0.25, "backup", ["restore", "restore {sudden}; restore {sudden2}"]),
]


class Author:
    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        choice, luck = self._random.choice, self._luck
        has = {trait for trait, share in _TRAITS.items() if luck(share)}
        self._has = has = {trait for trait in has if _NEEDS.get(trait, trait) in has}
        self._people = ["ann", "bob", "cid", "dan"][: 3 + ("dan" in has)]
        self._names = [f"c{number}" for number in range(1, choice([1, 2, 2, 3, 4]) + 1)]
        # In most windows there were two.
        self._of = {name: self._random.sample(self._people, choice([1, 2, 2, 2, 3])) for name in self._names}
        self._visitors = ["v1", "v2"] if "lookups" in has else []
        self._requests: list[tuple[str, str]] = []

    def story(self) -> Story:
        rules = self._beginning()
        ways = [way for trait, some in _WAYS.items() if not trait or trait in self._has for way in some]
        for _ in range(self._random.randint(3, 8)):
            [way] = self._random.choices([way for _, way in ways], [weight for weight, _ in ways])
            rules += self._written(way)
        for share, first, ways_on in _EPISODES:
            then = self._random.choice(ways_on)
            # Another identifier stops the look-ups of who chatted.
            if self._luck(share) and not (then.startswith("redesignate") and self._visitors):
                self._insert(rules, self._written(f"{first}; {then}"))
        if self._luck(0.35):
            rules = self._with_texts(rules)
        return rules

    def _beginning(self) -> Story:
        lines = []
        for name, people in self._of.items():
            is_old = "age" in self._has and self._luck(0.6)
            began = "ages" if is_old else "{then}"
            for person in people:
                lines.append(f"say acme {name} {person} {began} {'200' if is_old else '{day}'}")
                began = "-"
            lines += [f"upload acme {name}"] * ("files" in self._has and self._luck(0.6))
            lines += [f"?identify acme {name} {people[0]}"] * ("demands" in self._has)
        lines += ["?demand acme verified"] * ("demands" in self._has)
        lines += ["say acme anon - {then} {day}"] * ("identities" in self._has)
        lines += [f"arrive acme {visitor} {{p}} {{now}} {{day}}" for visitor in self._visitors]
        lines += ["say neighbour c1 ann lately 1; upload neighbour c1"] * ("neighbour" in self._has)
        lines += ["days acme"] * ("days" in self._has) + ["{export}; work {w}"] * ("exports" in self._has)
        return [rule for line in lines for rule in self._written(line)]

    def _luck(self, share: float) -> bool:
        return self._random.random() < share

    def _insert(self, rules: Story, more: Story) -> None:
        """Insert these rules in their order, one after another or with whatever else comes between."""
        is_together = self._luck(0.5)
        place = self._random.randint(0, len(rules)) if is_together else 0
        for rule in more:
            place = place if is_together else self._random.randint(place, len(rules))
            rules.insert(place, rule)
            place += 1

    def _with_texts(self, rules: Story) -> Story:
        """Let requests have references and addresses that contain a chatter, and staff write notes."""
        names = [rule[1] for rule in rules if rule[0] in FILED | {"redact"}]
        lines = [f"write {name} {what} {{about}}" for name in names for what in ("reference", "callback_url")]
        written = [rule for line in lines if self._luck(0.6) for rule in self._written(line)]
        for name in names:
            if self._luck(0.5):
                self._insert(rules, self._written(f"note {name} {{noted}} {{about}}"))
        return written + rules

    # --- What is drawn ---------------------------------------------------------------------------------------

    def _written(self, line: str) -> Story:
        chosen = [rule.strip() for rule in line.replace("\n", ";").split(";")]
        chosen = [rule.removeprefix("?") for rule in chosen if not rule.startswith("?") or self._luck(0.5)]
        return story("; ".join(chosen).format_map(_Drawn(self._drawn)))

    def _drawn(self, what: str, known: dict[str, str]) -> str:
        """Draw a word, or rules; `known` are those of the same line."""
        if what in _WORDS:
            return self._random.choice(_WORDS[what])
        choice, has = self._random.choice, self._has
        of = self._of[known["c"]] if known.get("c") in self._of else []
        draws: dict[str, Callable[[], Any]] = {
            "p": lambda: choice(self._people),
            "c": lambda: choice(self._names),
            "of_c": lambda: choice(of),
            "r": lambda: self._request(what),
            "old": self._known_request,
            "old_export": lambda: self._known_request("export"),
            "w": lambda: choice(["w1", "w2"] if "stops" in has else ["w1"]),
            "v": lambda: choice(self._visitors),
            "anon": lambda: choice([*self._names, "anon", *self._visitors]),
            "anew": lambda: choice([*self._names, "new", "new"]),
            "sudden": lambda: choice(["", "", "", "sudden"]),
            "shared": lambda: choice(["", "include_shared"]),
            "erase": lambda: "erase_exports" if self._luck(0.45) else "",
            "hour": lambda: f"hour; work w1 {choice(['', '', int(2 ** self._random.uniform(1, 7))])}",
            "tries": lambda: choice([1, 5]) * "hour; work w1; ",
            "delete": lambda: self._file("delete", choice(self._people)),
            "delete_p": lambda: self._file("delete", known["p"]),
            "delete_c": lambda: self._file("delete", choice(of)),
            "delete_k": lambda: self._file("delete", choice(self._people)),
            "keep": lambda: choice(["keep h1 acme ann", "keep_ids h1 acme c1", "keep_all h1 acme"]),
            "export": lambda: self._file("export", choice(self._people)),
            "stop": self._stop,
            "work": lambda: self._stop() if "stops" in has and self._luck(0.4) else f"work {draws['w']()}",
            "look": lambda: self._look(draws["w"]()),
            "refusal": lambda: self._refusal(known.get("c") or choice(self._names)) if "faults" in has else "",
            "retry": lambda: f"retry {self._known_request()}" if "faults" in has else "",
        }
        return str(draws[what]())

    def _request(self, kind: str) -> str:
        self._requests.append((f"r{len(self._requests) + 1}", kind))
        return self._requests[-1][0]

    def _known_request(self, kind: str = "") -> str:
        return self._random.choice([name for name, of in self._requests if of == kind or not kind] or ["r1"])

    def _file(self, kind: str, person: str) -> str:
        of_exports = ["include_shared", "include_files", "excel_semicolon", "zip", "pages"]
        flags = ["erase_exports"] if kind == "delete" else of_exports
        chosen = " ".join(flag for flag in flags if self._luck(0.4))
        name = self._request(kind)
        if "ids" in self._has and self._luck(0.3):
            names = self._random.sample(self._names, min(len(self._names), self._random.choice([1, 1, 2])))
            return f"{kind}_ids {name} acme {','.join(sorted(names))} {chosen}"
        bot = "neighbour" if "neighbour" in self._has and self._luck(0.1) else "acme"
        return f"{kind} {name} {bot} {person} {chosen}"

    def _stop(self) -> str:
        kind = self._random.choice(["work"] * 5 + ["sweep"])
        return f"{kind} {self._random.choice(['w1', 'w2'])} {int(2 ** self._random.uniform(1, 7.5))}"

    def _look(self, worker: str) -> str:
        if not ("stops" in self._has and self._luck(0.5)):
            return f"look {worker}"
        steps = int(2 ** self._random.uniform(1, 5))
        return f"look w2 {steps}; kill w2; leases" if self._luck(0.3) else f"look {worker} {steps}"

    def _refusal(self, name: str) -> str:
        kinds = ["ledger", "uploads"] + ["file"] * 4 * ("files" in self._has) + ["days"] * 4 * ("days" in self._has)
        what = self._random.choice(kinds + ["export"] * 3 * ("exports" in self._has))
        which = {"file": name, "export": self._known_request("export"), "days": "acme"}
        does = "write" if what in {"days", "ledger"} or self._luck(0.1) else "remove"
        return f"refuse {what} {which.get(what, '-')} {does} {self._random.choice(['denied', 'busy'])}"


class _Drawn(dict[str, str]):
    """The words of one line, each drawn where it stands first."""

    def __init__(self, draw: Callable[[str, dict[str, str]], str]) -> None:
        super().__init__()
        self._draw = draw

    def __missing__(self, name: str) -> str:
        self[name] = self._draw(name.rstrip("123456789"), self)
        return self[name]


# --- How one is shortened ----------------------------------------------------------------------------------


def shortened(rules: Story, fails: Callable[[Story], bool]) -> Story:
    """Return a story that fails too and of which nothing can be left out."""

    def tried(shorter: Story) -> Story:
        return shorter if shorter != rules and fails(shorter) else rules

    # All of one conversation, request, worker or kind of rule at once: most of a story is beside the point.
    for word in sorted({word for rule in rules for word in rule if isinstance(word, str)}):
        rules = tried([rule for rule in rules if word not in rule])
    size = max(1, len(rules) // 4)
    while size:
        before = rules
        # From the end on, where fewest depend on them.
        for start in range(len(rules) - size, -size, -size):
            rules = tried(rules[: max(start, 0)] + rules[max(start, 0) + size :])
        size = size // 2 if rules == before else size
    for place, rule in enumerate(rules):
        for last in range(len(rule), _FIXED.get(rule[0], len(rule)), -1):
            plainer = rules[place][: last - 1] + rules[place][last:]
            rules = tried([*rules[:place], plainer, *rules[place + 1 :]])
    return rules
