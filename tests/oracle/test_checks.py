"""The soak must be able to fail: each kind of violation is planted in a clean ending, and must be found."""

import base64
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.oracle.checks import Checks
from tests.oracle.evidence import Count
from tests.oracle.model import Request
from tests.oracle.outages import Outage, Outages
from tests.oracle.scene import (
    BOT,
    DAY_KEY,
    KEY,
    MONTH,
    NOON,
    Scene,
    a_scene,
    at_client,
    csv_of,
    in_forgotten_file,
    line_of,
    message_of,
    of_another_bot,
    remove_without_reason,
    repeat_for_another,
    revive,
    word_of,
)
from tests.oracle.violations import Violations
from tests.oracle.whole import midnight_of


@pytest.fixture
def scene() -> Scene:
    return a_scene()


def test_finds_nothing_where_all_is_as_promised(scene: Scene) -> None:
    assert scene.kinds() == set()


_LOGGED = """\
2026-11-27 15:54:24,825 INFO compliance.worker claim.taken claim=439
2026-11-27 15:54:25,825 ERROR compliance.worker claim.failed claim=439
  File "compliance/work/claims.py", line 142, in transaction
{}: SQLSTATE {}
2026-11-27 15:54:26,825 INFO compliance.worker claim.taken claim=440
"""


PLANTED: dict[str, tuple[str, Callable[[Scene], object]]] = {
    "a row left": ("row left", lambda s: s.conversation(s.gone, texts={"m": ("text", "hello")})),
    "a value left": ("row left", lambda s: s.conversation(s.gone, values=["x"])),
    "a word in another table": (
        "word left in rows",
        lambda s: s.in_table("django_session", word_of(s.gone)),
    ),
    "a word of the living in the queue": (
        "word left in rows",
        lambda s: s.in_table("django_q_ormq", word_of(s.whole)),
    ),
    "a word of the living in the change log": (
        "word left in rows",
        lambda s: s.in_table("chatbots_changelogentry", word_of(s.whole)),
    ),
    "a value in a request that is over": (
        "word left in rows",
        lambda s: s.in_table("compliance_compliancerequest", s.export.value),
    ),
    "a word in Base64": (
        "word left in rows",
        lambda s: s.in_table("conversations_message", base64.b64encode(f"of {word_of(s.gone)}".encode()).decode()),
    ),
    "a word in a compressed session": (
        "word left in rows",
        lambda s: s.in_table(
            "django_session", "." + base64.urlsafe_b64encode(zlib.compress(word_of(s.whole).encode())).decode()
        ),
    ),
    "a word in bytes": (
        "word left in rows",
        lambda s: s.in_table("conversations_message", "\\\\x" + word_of(s.gone).encode().hex()),
    ),
    "a word of the living in the ledger": (
        "word left in an object",
        lambda s: s.add("erasure_ledger/2026/1.jsonl", word_of(s.whole)),
    ),
    "a value in the queue": (
        "word left in rows",
        lambda s: s.in_table("django_q_ormq", s.deletion.value),
    ),
    "a key without its file": (
        "word left in rows",
        lambda s: s.in_table("compliance_exportfile", f"acme/{s.deletion.value}/2"),
    ),
    "an upload left": ("word left in an object", lambda s: s.add("uploads/1", word_of(s.gone))),
    "an extract with the erased": (
        "word left in an object",
        lambda s: s.add(DAY_KEY, word_of(s.gone)),
    ),
    "an extract with somebody of another chatbot": (
        "word left in an object",
        lambda s: s.add(DAY_KEY, word_of(of_another_bot(s))),
    ),
    "an extract that is empty": ("extract", lambda s: s.put(DAY_KEY, csv_of())),
    "an extract with another text": ("extract", lambda s: s.put(DAY_KEY, csv_of(line_of(s.whole, text="other")))),
    "an extract with a message of another day": (
        "extract",
        lambda s: s.whole.sent_at.update({message_of(s.whole): NOON + timedelta(days=1)}),
    ),
    "half an extract": ("extract", lambda s: s.put(DAY_KEY, csv_of(line_of(s.whole))[:-9])),
    "an extract that was not rebuilt": (
        "not ended",
        lambda s: s.evidence.extracts.append(s.evidence.extracts.pop()._replace(state="stale")),
    ),
    "a word in a log": (
        "personal in a log",
        lambda s: s.evidence.logs.update({"web.log": f"INFO {word_of(s.whole)}"}),
    ),
    "an error in a log": (
        "error logged",
        lambda s: s.evidence.logs.update({"web.log": _LOGGED.format("KeyError", "?").replace("SQLSTATE ?", "'a'")}),
    ),
    "a deadlock in a log": (
        "error logged",
        lambda s: s.evidence.logs.update({"cluster.log": _LOGGED.format("OperationalError", "40P01")}),
    ),
    "a doubled completion": ("ended twice", lambda s: s.evidence.events.append(("d", "request.completed"))),
    "a completion that is not logged": ("ended twice", lambda s: s.evidence.events.pop()),
    "a request forgotten": ("forgotten request", lambda s: s.evidence.requests.pop("d")),
    "a request filed twice": (
        "doubled filing",
        lambda s: s.evidence.requests.update({"f": s.evidence.requests["d"]._replace(id="f", conversations=0)}),
    ),
    "a request that never ends": ("not ended", lambda s: s.row(s.deletion, status="processing")),
    "a request that took too long": (
        "late",
        lambda s: s.row(s.deletion, ended_at=NOON + timedelta(seconds=130)),
    ),
    "a request that was completed and is not": ("ended twice", lambda s: s.row(s.deletion, status="accepted")),
    "a neighbour gone": ("neighbour", lambda s: s.conversation(s.whole, is_deleted=True)),
    "a neighbour's message gone": ("neighbour", lambda s: s.conversation(s.whole, texts={})),
    "a neighbour's message changed": (
        "neighbour",
        lambda s: s.conversation(s.whole, texts={message_of(s.whole): ("text", "other")}),
    ),
    "a neighbour without row": ("lost conversation", lambda s: s.evidence.conversations.pop(2)),
    "a neighbour with a foreign message": (
        "neighbour",
        lambda s: s.evidence.conversations[2].texts.update({"m": ("text", "who said that?")}),
    ),
    "a neighbour with another name": ("neighbour", lambda s: s.facts(s.whole, user_name="somebody")),
    "a neighbour without its comment": ("neighbour", lambda s: s.facts(s.whole, csat_comment=None)),
    "a neighbour with another language": ("neighbour", lambda s: s.facts(s.whole, language="fr")),
    "a neighbour without its variables": ("neighbour", lambda s: s.facts(s.whole, variables={})),
    "a neighbour with another score": ("neighbour", lambda s: s.facts(s.whole, score=1)),
    "a neighbour's beginning reduced to its day": (
        "neighbour",
        lambda s: s.conversation(s.whole, began=midnight_of(s.whole)),
    ),
    "a neighbour's file changed": ("neighbour", lambda s: s.put("uploads/2", b"another")),
    "a neighbour's file without its object": ("neighbour", lambda s: s.put("uploads/2", b"")),
    "a neighbour's file gone": ("neighbour", lambda s: s.conversation(s.whole, files={})),
    "a neighbour redacted": (
        "neighbour",
        lambda s: s.conversation(s.whole, texts={message_of(s.whole): ("redacted", "")}),
    ),
    "an erased one with another channel": ("kept", lambda s: s.facts(s.gone, channel="other")),
    "an erased one without its score": ("kept", lambda s: s.facts(s.gone, score=None)),
    "an erased one that knows nothing of its file": ("kept", lambda s: s.conversation(s.gone, has_file_upload=False)),
    "an erased one with its beginning": ("kept", lambda s: s.conversation(s.gone, began=s.gone.began)),
    "an erased one with its language": ("kept", lambda s: s.facts(s.gone, language="en")),
    "an erased one with a variable": ("kept", lambda s: s.facts(s.gone, variables={"pass": "x"})),
    "a look-up left": ("row left", lambda s: s.evidence.lookups.update({1: "pending"})),
    "an erased chatter who is back": ("row left", revive),
    "a conversation that nobody has sent": (
        "row left",
        lambda s: s.evidence.conversations.update({5: s.evidence.conversations[2]._replace(number=5, id="x")}),
    ),
    "a neighbour's identity gone": ("identity", lambda s: s.conversation(s.whole, values=[])),
    "a foreign line in an export": ("foreign line", lambda s: s.add(KEY, word_of(s.gone))),
    "an orphaned object": (
        "orphan",
        lambda s: s.add(KEY.replace("120000", "120001"), "left by a worker that was killed"),
    ),
    "an export lost": ("lost export", lambda s: s.evidence.objects.versions.clear()),
    "an export emptied": ("export", lambda s: s.put(KEY, b"")),
    "an export cut off": ("export", lambda s: s.put(KEY, csv_of())),
    "a copy of a file that was changed": (
        "export",
        lambda s: s.add(KEY.replace(".csv", "_files/7"), b"another"),
    ),
    "an export in the client's bucket emptied": ("export", lambda s: at_client(s, b"")),
    "a foreign line in the client's bucket": (
        "foreign line",
        lambda s: at_client(s, csv_of(line_of(of_another_bot(s)))),
    ),
    "an export lost in the client's bucket": (
        "lost export",
        lambda s: at_client(s, None),
    ),
    "somebody of another chatbot in a forgotten file of the client's": (
        "foreign line",
        lambda s: in_forgotten_file(s, of_another_bot(s)),
    ),
    "a foreign line in a repeated export": ("foreign line", repeat_for_another),
    "an export removed by a redaction of before": (
        "lost export",
        lambda s: remove_without_reason(s, Request(BOT, "redaction", "k9", id="r", status="completed")),
    ),
    "an export removed by a deletion of before": (
        "lost export",
        lambda s: remove_without_reason(
            s,
            Request(
                BOT, "deletion", "k9", value=s.export.value, flags=frozenset({"erase_exports"}), status="completed"
            ),
        ),
    ),
    "an export removed without reason": ("lost export", lambda s: s.row(s.export, key=None)),
    "a callback lost": ("lost callback", lambda s: s.evidence.taken.pop("d")),
    "a callback under two ids": ("doubled callback", lambda s: s.evidence.taken["d"]["request.completed"].add("c2")),
    "a callback of another end": (
        "wrong callback",
        lambda s: s.evidence.taken["d"].update({"request.cancelled": {"c3"}}),
    ),
    "a callback of nobody's request": ("wrong callback", lambda s: s.evidence.taken.update({"x": {}})),
    "a conversation billed twice": ("counts", lambda s: s.evidence.usage.update({BOT: {MONTH: Count(3, 1)}})),
    "a conversation billed in another month": (
        "counts",
        lambda s: s.evidence.usage.update({BOT: {MONTH: Count(1, 1), ("2026-10", "widget"): Count(1, 0)}}),
    ),
    "a conversation billed through another channel": (
        "counts",
        lambda s: s.evidence.usage.update({BOT: {MONTH: Count(1, 1), ("2026-11", "other"): Count(1, 0)}}),
    ),
    "an erased conversation not counted": ("counts", lambda s: s.row(s.deletion, conversations=0)),
    "an erased message counted twice": ("counts", lambda s: s.row(s.deletion, messages=2)),
    "a file counted that was never there": ("counts", lambda s: s.row(s.deletion, files=2)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_finds_what_is_planted(scene: Scene, name: str) -> None:
    kind, plant = PLANTED[name]
    plant(scene)
    assert kind in scene.kinds()


def test_finds_an_export_that_a_deletion_had_to_remove(scene: Scene) -> None:
    one = Request(BOT, "deletion", "k3", value=scene.export.value, flags=frozenset({"erase_exports"}), id="d2")
    one.status = "completed"
    scene.model.file(one)
    assert "export left" in scene.kinds()


def test_finds_the_text_of_a_redacted_message(scene: Scene) -> None:
    [message] = scene.whole.texts
    scene.whole.redacted[message] = Request(BOT, "redaction", "k4", id="r", status="completed")
    found = list(Checks(scene.model, scene.evidence, callbacks=[BOT]).all())
    assert {(kind, what.partition(" ")[0]) for kind, what in found} == {
        ("redaction", "acme:"),  # the row
        ("redaction", "the"),  # the export
        ("extract", "acme:"),
        ("word left in an object", "an"),
    }


def test_finds_who_was_named_and_is_not_known(scene: Scene) -> None:
    scene.whole.session, scene.whole.people = "session", set()
    scene.conversation(scene.whole, values=[])
    ending = Checks(scene.model, scene.evidence, sessions=["session"], callbacks=[BOT])
    assert "identity" in {kind for kind, _ in ending.all()}
    unasked = Checks(scene.model, scene.evidence, callbacks=[BOT])
    assert "identity" not in {kind for kind, _ in unasked.all()}


def test_knows_what_a_fault_explains(scene: Scene) -> None:
    scene.row(scene.deletion, ended_at=NOON + timedelta(seconds=130))
    outages = Outages()
    outages.over.append(Outage("S3 silent", NOON, NOON + timedelta(seconds=20)))
    assert list(Checks(scene.model, scene.evidence, callbacks=[BOT], outages=outages).all()) == []


@pytest.mark.parametrize(
    ("fault", "ago", "is_explained"),
    [
        ("PostgreSQL restarted", 90, True),
        ("PostgreSQL restarted", 130, False),
        ("S3 silent", 1, False),
        ("tasks lost", 1, False),
    ],
)
def test_knows_after_which_fault_the_database_may_be_lost(
    scene: Scene, fault: str, ago: int, is_explained: bool
) -> None:
    scene.evidence.logs["cluster.log"] = _LOGGED.format("OperationalError", "57P01")
    over = datetime(2026, 11, 27, 15, 54, 25, tzinfo=UTC) - timedelta(seconds=ago)
    outages = Outages()
    outages.over.append(Outage(fault, over - timedelta(seconds=5), over))
    found = Checks(scene.model, scene.evidence, callbacks=[BOT], outages=outages).all()
    assert ("error logged" not in {kind for kind, _ in found}) is is_explained


def test_knows_the_times_of_a_wrong_clock(scene: Scene) -> None:
    scene.evidence.logs["cluster.log"] = "2026-11-27 12:20:00,000 CRITICAL compliance cluster.ends guard=1"
    right = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    for fault, kinds in (("clock of a cluster ahead", set()), ("S3 silent", {"error logged"})):
        outages = Outages()
        outages.over.append(Outage(fault, right, right + timedelta(seconds=5)))
        found = Checks(scene.model, scene.evidence, callbacks=[BOT], outages=outages).all()
        assert {kind for kind, _ in found} == kinds


def test_allows_the_export_within_its_grace(scene: Scene) -> None:
    later = scene.model.file(Request(BOT, "deletion", "k3", value=scene.export.value, surely={scene.whole}, id="d2"))
    assert scene.kinds() == {"forgotten request"}
    later.status = "completed"
    ending = Checks(scene.model, scene.evidence, callbacks=[BOT])
    kinds = {kind for kind, _ in ending.all()}
    assert "export left" not in kinds
    assert ending.comparison.met["exports that outlive what they hold"] == 1


def test_allows_either_fate_of_what_arrived_while_a_deletion_was_under_way(scene: Scene) -> None:
    scene.deletion.surely, scene.deletion.possibly = set(), {scene.gone}
    assert scene.kinds() == set()
    scene.conversation(scene.gone, texts={"m": ("text", "hello")})
    assert "row left" in scene.kinds()  # but not half of it


def test_what_is_found_is_told_once_while_the_run_goes_on() -> None:
    violations = Violations()
    violations.add("counts", "one too many")
    violations.add("counts", "one too many")
    assert [one.told for one in violations.news()] == ["one too many"]
    violations.add("memory", "it grows")
    assert [one.told for one in violations.news()] == ["it grows"]
    assert len(violations.kept) == 2
