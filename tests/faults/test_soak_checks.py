"""The soak must be able to fail: each kind of violation is planted in a clean ending, and must be found."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.faults.objects import Stored
from tests.faults.soak import evidence
from tests.faults.soak.checks import Ending
from tests.faults.soak.evidence import Evidence, Request
from tests.faults.soak.model import Filed, Model, Talk, is_allowed, now
from tests.faults.soak.transcripts import faults_of
from tests.faults.soak.words import Words

BOT = "acme"
KEY = "acme/chatter_data_exports/somebody/20261127_120000_conversation_export.csv"


@dataclass
class Scene:
    """Somebody who was erased, with a request that says so, and somebody who was exported and is whole."""

    model: Model
    evidence: Evidence
    gone: Talk
    whole: Talk
    deletion: Filed
    export: Filed

    def kinds(self) -> set[str]:
        return {kind for kind, _ in Ending(self.model, self.evidence, callbacks=[BOT]).all()}

    def row(self, request: Filed, **changes: object) -> None:
        """Change the row of a request."""
        self.evidence.requests[request.id] = self.evidence.requests[request.id]._replace(**changes)

    def talk(self, talk: Talk, **changes: object) -> None:
        """Change the rows of a conversation."""
        number = talk.number or 0
        self.evidence.talks[number] = self.evidence.talks[number]._replace(**changes)

    def add(self, key: str, body: str) -> None:
        """Add an object."""
        self.evidence.objects.versions.append(Stored(key, "1", body.encode()))


@pytest.fixture
def scene() -> Scene:
    model = Model(Words())
    talks = []
    for number in (1, 2):
        person, talk = model.person(), model.talk(BOT, now())
        message, word = (model.words.of_conversation(talk.index) for _ in range(2))
        talk.number, talk.people, talk.tried = number, {person.value}, {person.value}
        talk.texts = talk.tried_texts = {message: word}
        talk.documents = [{}]
        talks.append(talk)
    gone, whole = talks
    deletion = model.file(
        Filed(BOT, "deletion", "k1", value=min(gone.people), surely={gone}, id="d", status="completed")
    )
    export = model.file(
        Filed(BOT, "export", "k2", value=min(whole.people), surely={whole}, id="e", status="completed")
    )
    export.ended = model.tick()
    found = Evidence(
        talks={
            1: evidence.Stored(BOT, 1, None, True, {}, [], []),
            2: evidence.Stored(
                BOT, 2, whole.id, False, {m: ("text", t) for m, t in whole.texts.items()}, [], list(whole.people)
            ),
        },
        requests={
            "d": Request("d", BOT, "deletion", "completed", "", "", 1, 1, 0, None, "", None, False),
            "e": Request("e", BOT, "export", "completed", "", "", 1, 1, 0, KEY, "hosted", "today", False),
        },
        events=[("d", "request.completed"), ("e", "request.completed")],
        taken={one: {"request.completed": {f"c-{one}"}} for one in ("d", "e")},
        usage={BOT: (2, 1)},
    )
    scene = Scene(model, found, gone, whole, deletion, export)
    scene.add(KEY, f"{whole.id} {' '.join(whole.texts.values())} {export.value}")
    return scene


def test_finds_nothing_where_all_is_as_promised(scene: Scene) -> None:
    assert scene.kinds() == set()


def _word(talk: Talk) -> str:
    return next(iter(talk.texts.values()))


PLANTED: dict[str, tuple[str, Callable[[Scene], object]]] = {
    "a row left": ("row left", lambda s: s.talk(s.gone, texts={"m": ("text", "hello")})),
    "a value left": ("row left", lambda s: s.talk(s.gone, values=["x"])),
    "a word in another table": (
        "word left in rows",
        lambda s: s.evidence.tables.append(("django_session", f"1\t{_word(s.gone)}")),
    ),
    "a value in the queue": (
        "word left in rows",
        lambda s: s.evidence.tables.append(("django_q_ormq", f"1\t{s.deletion.value}")),
    ),
    "a key without its file": (
        "word left in rows",
        lambda s: s.evidence.tables.append(("compliance_exportfile", f"1\tacme/{s.deletion.value}/2")),
    ),
    "an upload left": ("word left in an object", lambda s: s.add("uploads/1", _word(s.gone))),
    "an extract with the erased": (
        "word left in an object",
        lambda s: s.add("acme/daily_conversations_extracts/2026-11-26_conversations_extract.csv", _word(s.gone)),
    ),
    "a word in a log": ("personal in a log", lambda s: s.evidence.logs.update({"web.log": f"INFO {_word(s.whole)}"})),
    "a doubled completion": ("ended twice", lambda s: s.evidence.events.append(("d", "request.completed"))),
    "a completion that is not logged": ("ended twice", lambda s: s.evidence.events.pop()),
    "a request forgotten": ("forgotten request", lambda s: s.evidence.requests.pop("d")),
    "a request filed twice": (
        "doubled filing",
        lambda s: s.evidence.requests.update({"f": s.evidence.requests["d"]._replace(id="f", conversations=0)}),
    ),
    "a request that never ends": ("not ended", lambda s: s.row(s.deletion, status="processing")),
    "a request that was completed and is not": ("ended twice", lambda s: s.row(s.deletion, status="accepted")),
    "a neighbour gone": ("neighbour", lambda s: s.talk(s.whole, is_deleted=True)),
    "a neighbour's message gone": ("neighbour", lambda s: s.talk(s.whole, texts={})),
    "a neighbour's message changed": (
        "neighbour",
        lambda s: s.talk(s.whole, texts={next(iter(s.whole.texts)): ("text", "other")}),
    ),
    "a neighbour without row": ("lost conversation", lambda s: s.evidence.talks.pop(2)),
    "a neighbour with a foreign message": (
        "neighbour",
        lambda s: s.evidence.talks[2].texts.update({"m": ("text", "who said that?")}),
    ),
    "a neighbour's identity gone": ("identity", lambda s: s.talk(s.whole, values=[])),
    "a foreign line in an export": ("foreign line", lambda s: s.add(KEY, _word(s.gone))),
    "an orphaned object": (
        "orphan",
        lambda s: s.add(KEY.replace("120000", "120001"), "left by a worker that was killed"),
    ),
    "an export lost": ("lost export", lambda s: s.evidence.objects.versions.clear()),
    "an export removed without reason": ("lost export", lambda s: s.row(s.export, key=None)),
    "a callback lost": ("lost callback", lambda s: s.evidence.taken.pop("d")),
    "a callback under two ids": ("doubled callback", lambda s: s.evidence.taken["d"]["request.completed"].add("c2")),
    "a callback of another end": (
        "wrong callback",
        lambda s: s.evidence.taken["d"].update({"request.cancelled": {"c3"}}),
    ),
    "a callback of nobody's request": ("wrong callback", lambda s: s.evidence.taken.update({"x": {}})),
    "a conversation billed twice": ("counts", lambda s: s.evidence.usage.update({BOT: (3, 1)})),
    "an erased conversation not counted": ("counts", lambda s: s.row(s.deletion, conversations=0)),
    "an erased message counted twice": ("counts", lambda s: s.row(s.deletion, messages=2)),
    "a file counted that was never there": ("counts", lambda s: s.row(s.deletion, files=1)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_finds_what_is_planted(scene: Scene, name: str) -> None:
    kind, plant = PLANTED[name]
    plant(scene)
    assert kind in scene.kinds()


def test_finds_an_export_that_a_deletion_had_to_remove(scene: Scene) -> None:
    one = Filed(BOT, "deletion", "k3", value=scene.export.value, flags=frozenset({"erase_exports"}), id="d2")
    one.status = "completed"
    scene.model.file(one)
    assert "export left" in scene.kinds()


def test_finds_the_text_of_a_redacted_message(scene: Scene) -> None:
    [message] = scene.whole.texts
    scene.whole.redacted[message] = Filed(BOT, "redaction", "k4", id="r", status="completed")
    found = list(Ending(scene.model, scene.evidence, callbacks=[BOT]).all())
    assert {kind for kind, _ in found} == {"redaction"}
    assert {what.partition(" ")[0] for _, what in found} == {"acme:", "the"}  # the row, and the export


def test_finds_who_was_named_and_is_not_known(scene: Scene) -> None:
    scene.whole.session, scene.whole.people = "session", set()
    scene.talk(scene.whole, values=[])
    ending = Ending(scene.model, scene.evidence, sessions=["session"], callbacks=[BOT])
    assert "identity" in {kind for kind, _ in ending.all()}
    scene.evidence.lookups[2] = "pending"
    ending = Ending(scene.model, scene.evidence, sessions=["session"], callbacks=[BOT])
    assert "identity" not in {kind for kind, _ in ending.all()}


def test_allows_either_fate_of_what_arrived_while_a_deletion_was_under_way(scene: Scene) -> None:
    scene.deletion.surely, scene.deletion.possibly = set(), {scene.gone}
    assert scene.kinds() == set()
    scene.talk(scene.gone, texts={"m": ("text", "hello")})
    assert "row left" in scene.kinds()  # but not half of it


@pytest.mark.parametrize(
    ("kind", "seen", "after", "expected"),
    [
        ("deletion", ["accepted"], "completed", True),
        ("deletion", ["accepted", "on_hold"], "accepted", True),
        ("deletion", ["accepted", "processing"], "accepted", True),
        ("deletion", ["accepted", "processing"], "cancelled", False),
        ("deletion", ["accepted", "processing", "failed"], "on_hold", False),
        ("export", ["accepted", "processing"], "cancelled", True),
        ("export", ["accepted", "failed"], "accepted", True),
        ("export", ["completed"], "accepted", False),
        ("export", ["cancelled"], "completed", False),
    ],
)
def test_knows_which_status_may_follow(kind: str, seen: list[str], after: str, expected: bool) -> None:
    one = Filed(BOT, kind, "k", statuses=seen, status=seen[-1])
    assert is_allowed(one, after) is expected


# --- The file of an export ------------------------------------------------------------------------------

_HEADER = ("conversation_id", "user_name", "csat_comment", "uci_value", "message_id", "message_kind", "text")
_NAMES = (*_HEADER, "file_id", "file_name")


def _csv(*lines: dict[str, str]) -> bytes:
    rows = [_NAMES, *([line.get(name, "") for name in _NAMES] for line in lines)]
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows).encode()


def _faults(scene: Scene, raw: bytes, **shown: object) -> list[str]:
    said = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), "rows": 1} | shown
    scene.export.texts = {scene.whole.id: dict(scene.whole.texts)}
    talks = {talk.id: talk for talk in scene.model.talks}
    return list(faults_of(scene.export, raw, said, talks))


def _line(talk: Talk, **changes: str) -> dict[str, str]:
    [(message, text)] = talk.texts.items()
    return {"conversation_id": talk.id, "message_id": message, "text": text, "message_kind": "text"} | changes


def test_accepts_an_export_that_holds_what_was_sent(scene: Scene) -> None:
    assert _faults(scene, _csv(_line(scene.whole))) == []


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        (lambda s: [_line(s.whole), _line(s.gone)], "a foreign line"),
        (lambda s: [_line(s.whole), _line(s.whole)], "a doubled line"),
        (lambda s: [_line(s.whole, text="other")], "a wrong text"),
        (lambda s: [_line(s.whole, text="", message_kind="redacted")], "a wrong text"),
        (lambda s: [], "a missing line"),
    ],
)
def test_finds_a_wrong_line_of_an_export(
    scene: Scene, planted: Callable[[Scene], list[dict[str, str]]], expected: str
) -> None:
    lines = planted(scene)
    assert [one.partition(":")[0] for one in _faults(scene, _csv(*lines), rows=len(lines))] == [expected]


def test_finds_half_an_export_and_one_that_is_not_as_it_was_told(scene: Scene) -> None:
    raw = _csv(_line(scene.whole))
    assert any("no whole CSV" in one for one in _faults(scene, raw[:-9]))
    assert any("sha256" in one for one in _faults(scene, raw, sha256="0"))
    assert any("rows" in one for one in _faults(scene, raw, rows=2))
