"""The oracle must be able to fail: each kind of violation is planted in a clean ending, and must be found."""

import base64
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.oracle import exports
from tests.oracle.conversations import midnight_of
from tests.oracle.evidence import Count
from tests.oracle.model import Request
from tests.oracle.scene import BOT, DAY_KEY, KEY, MONTH, NOON, Scene, a_scene, csv_of, line_of
from tests.oracle.violations import Outage, Outages, Violations


@pytest.fixture
def scene() -> Scene:
    return a_scene()


def test_finds_nothing_where_all_is_as_promised(scene: Scene) -> None:
    assert scene.kinds() == set()


_LOGGED = """\
2026-11-27 15:54:24,825 INFO compliance.worker claim.taken claim=439
2026-11-27 15:54:25,825 ERROR compliance.worker claim.failed claim=439
  File "compliance/work/claims.py", line 142, in transaction
{}
2026-11-27 15:54:26,825 INFO compliance.worker claim.taken claim=440
"""


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _session(text: str) -> str:
    return "." + base64.urlsafe_b64encode(zlib.compress(text.encode())).decode()


def _request(kind: str, **changes: Any) -> Request:
    return Request(BOT, kind, "k9", id="d9", status="completed", **changes)


Plant = Callable[[Scene], object]
PLANTED: dict[str, list[Plant]] = {
    "row left": [
        lambda s: s.conversation(s.gone, texts={"m": ("text", "hello")}),
        lambda s: s.conversation(s.gone, values={"x": "platform"}),
        lambda s: s.conversation(s.gone, lookup="pending"),
        lambda s: s.conversation(s.gone, hidden_files=1),
        lambda s: s.revive(),
        lambda s: s.evidence.conversations.update({5: s.evidence.conversations[2]._replace(number=5, id="x")}),
    ],
    "kept": [
        lambda s: s.facts(s.gone, channel="other"),
        lambda s: s.facts(s.gone, score=None),
        lambda s: s.facts(s.gone, language="en"),
        lambda s: s.facts(s.gone, variables={"pass": "x"}),
        lambda s: s.conversation(s.gone, has_file_upload=False),
        lambda s: s.conversation(s.gone, began=s.gone.began),
    ],
    "word left in rows": [
        lambda s: s.in_table("django_session", s.gone.name),
        lambda s: s.in_table("django_session", _session(s.whole.name)),
        lambda s: s.in_table("django_q_ormq", s.whole.name),
        lambda s: s.in_table("django_q_ormq", s.deletion.value),
        lambda s: s.in_table("chatbots_changelogentry", s.whole.name),
        lambda s: s.in_table("compliance_compliancerequest", s.export.value),
        lambda s: s.in_table("compliance_exportfile", f"acme/{s.deletion.value}/2"),
        lambda s: s.in_table("conversations_message", _base64(f"of {s.gone.name}")),
        lambda s: s.in_table("conversations_message", "\\\\x" + s.gone.name.encode().hex()),
    ],
    "word left in an object": [
        lambda s: s.add("uploads/1", s.gone.name),
        lambda s: s.add("erasure_ledger/2026/1.jsonl", s.whole.name),
        lambda s: s.add(KEY.replace("120000", "120001"), s.gone.name),
        lambda s: s.add(DAY_KEY, s.gone.name),
        lambda s: s.add(DAY_KEY, s.of_another_bot().name),
    ],
    "personal in a log": [lambda s: s.log(s.whole.name)],
    "error logged": [
        lambda s: s.log(_LOGGED.format("KeyError: 'a'")),
        lambda s: s.log(_LOGGED.format("OperationalError: SQLSTATE 40P01")),
    ],
    "neighbour": [
        lambda s: s.conversation(s.whole, is_deleted=True),
        lambda s: s.conversation(s.whole, texts={}),
        lambda s: s.conversation(s.whole, texts={s.message: ("text", "other")}),
        lambda s: s.conversation(s.whole, texts={s.message: ("redacted", "")}),
        lambda s: s.evidence.conversations[2].texts.update({"m": ("text", "who said that?")}),
        lambda s: setattr(s.whole, "stuffed", 1),
        lambda s: s.facts(s.whole, user_name="somebody"),
        lambda s: s.facts(s.whole, csat_comment=None),
        lambda s: s.facts(s.whole, language="fr"),
        lambda s: s.facts(s.whole, variables={}),
        lambda s: s.facts(s.whole, score=1),
        lambda s: s.conversation(s.whole, began=midnight_of(s.whole)),
        lambda s: s.conversation(s.whole, files={}),
        lambda s: s.put("uploads/2", b"another"),
        lambda s: s.put("uploads/2", b""),
    ],
    "lost conversation": [lambda s: s.evidence.conversations.pop(2)],
    "identity": [lambda s: s.conversation(s.whole, values={}), lambda s: s.refuse_nobody()],
    "closed by another": [lambda s: s.conversation(s.whole, closed_by="d")],
    "forgotten request": [lambda s: s.evidence.requests.pop("d")],
    "doubled filing": [
        lambda s: s.evidence.requests.update({"f": s.evidence.requests["d"]._replace(id="f", conversations=0)})
    ],
    "ended twice": [
        lambda s: s.evidence.events.append(("d", "request.completed")),
        lambda s: s.evidence.events.pop(),
        lambda s: s.row(s.deletion, status="accepted"),
    ],
    "wrong end": [lambda s: s.end_as("rejected"), lambda s: s.end_as("cancelled")],
    "not ended": [
        lambda s: s.row(s.deletion, status="processing"),
        lambda s: s.evidence.extracts.append(s.evidence.extracts.pop()._replace(state="stale")),
    ],
    "late": [lambda s: s.row(s.deletion, ended_at=NOON + timedelta(seconds=130))],
    "counts": [
        lambda s: s.row(s.deletion, conversations=0),
        lambda s: s.row(s.deletion, messages=2),
        lambda s: s.row(s.deletion, files=2),
        lambda s: setattr(s.gone, "stuffed", 1),
        lambda s: setattr(s.gone, "copies", 1),
        lambda s: s.evidence.usage.update({BOT: {MONTH: Count(3, 1)}}),
        lambda s: s.evidence.usage.update({BOT: {MONTH: Count(1, 1), ("2026-10", "widget"): Count(1, 0)}}),
        lambda s: s.evidence.usage.update({BOT: {MONTH: Count(1, 1), ("2026-11", "other"): Count(1, 0)}}),
    ],
    "foreign line": [
        lambda s: s.add(KEY, s.gone.name),
        lambda s: s.repeat_for(s.of_another_bot()),
        lambda s: s.at_client(csv_of(line_of(s.of_another_bot()))),
        lambda s: s.in_forgotten_file(s.of_another_bot()),
    ],
    "export": [
        lambda s: s.put(KEY, b""),
        lambda s: s.put(KEY, csv_of()),
        lambda s: s.add(KEY.replace(".csv", "_files/7"), b"another"),
        lambda s: s.at_client(b""),
    ],
    "orphan": [lambda s: s.add(KEY.replace("120000", "120001"), "left by a worker that was killed")],
    "lost export": [
        lambda s: s.evidence.objects.versions.clear(),
        lambda s: s.row(s.export, key=None),
        lambda s: s.at_client(None),
        # What was over before it was filed cannot have removed it.
        lambda s: s.remove_after(_request("redaction")),
        lambda s: s.remove_after(_request("deletion", value=s.export.value, flags=frozenset({"erase_exports"}))),
    ],
    "export left": [
        lambda s: s.model.file(_request("deletion", value=s.export.value, flags=frozenset({"erase_exports"})))
    ],
    "extract": [
        lambda s: s.put(DAY_KEY, csv_of()),
        lambda s: s.put(DAY_KEY, csv_of(line_of(s.whole, text="other"))),
        lambda s: s.put(DAY_KEY, csv_of(line_of(s.whole))[:-9]),
        lambda s: s.whole.sent_at.update({s.message: NOON + timedelta(days=1)}),
    ],
    "lost callback": [lambda s: s.evidence.taken.pop("d")],
    "doubled callback": [lambda s: s.evidence.taken["d"]["request.completed"].add("c2")],
    "wrong callback": [
        lambda s: s.evidence.taken["d"].update({"request.cancelled": {"c3"}}),
        lambda s: s.evidence.taken.update({"x": {}}),
    ],
}
_CASES = [(kind, number) for kind, plants in PLANTED.items() for number in range(len(plants))]


@pytest.mark.parametrize(("kind", "number"), _CASES)
def test_finds_what_is_planted(scene: Scene, kind: str, number: int) -> None:
    PLANTED[kind][number](scene)
    assert kind in scene.kinds()


def test_finds_the_text_of_a_redacted_message(scene: Scene) -> None:
    scene.whole.redacted[scene.message] = _request("redaction")
    assert {(kind, what.partition(" ")[0]) for kind, what in scene.checks().all()} == {
        ("redaction", "acme:"),  # the row
        ("redaction", "the"),  # the export
        ("extract", "acme:"),
        ("word left in an object", "an"),
    }


def test_finds_who_was_named_and_is_not_known(scene: Scene) -> None:
    scene.whole.session, scene.whole.people = "session", set()
    scene.conversation(scene.whole, values={})
    assert "identity" in scene.kinds(sessions=["session"])
    assert "identity" not in scene.kinds()


def _with_fault(name: str, since: datetime, until: datetime) -> Outages:
    outages = Outages()
    outages.over.append(Outage(name, since, until))
    return outages


def test_knows_what_a_fault_explains(scene: Scene) -> None:
    scene.row(scene.deletion, ended_at=NOON + timedelta(seconds=130))
    assert scene.kinds(outages=_with_fault("S3 silent", NOON, NOON + timedelta(seconds=20))) == set()


@pytest.mark.parametrize(
    ("fault", "ago", "kinds"),
    [
        ("PostgreSQL restarted", 90, set()),
        ("PostgreSQL restarted", 130, {"error logged"}),
        ("S3 silent", 1, {"error logged"}),
        ("tasks lost", 1, {"error logged"}),
    ],
)
def test_knows_after_which_fault_the_database_may_be_lost(
    scene: Scene, fault: str, ago: int, kinds: set[str]
) -> None:
    scene.log(_LOGGED.format("OperationalError: SQLSTATE 57P01"))
    over = datetime(2026, 11, 27, 15, 54, 25, tzinfo=UTC) - timedelta(seconds=ago)
    assert scene.kinds(outages=_with_fault(fault, over - timedelta(seconds=5), over)) == kinds


def test_knows_the_times_of_a_wrong_clock(scene: Scene) -> None:
    scene.log("2026-11-27 12:20:00,000 CRITICAL compliance cluster.ends guard=1")
    right = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    for fault, kinds in (("clock of a cluster ahead", set()), ("S3 silent", {"error logged"})):
        assert scene.kinds(outages=_with_fault(fault, right, right + timedelta(seconds=5))) == kinds


def test_knows_what_a_restore_and_a_failure_leave(scene: Scene) -> None:
    scene.export.may_stay_failed = scene.deletion.is_replayed = True
    scene.end_as("failed")
    scene.evidence.events.clear()
    lost = scene.model.file(Request(BOT, "export", "k3", id="x", status="completed", is_lost=True))
    assert list(scene.checks().requests_ended()) == []
    scene.export.may_stay_failed = scene.deletion.is_replayed = lost.is_lost = False
    kinds = {kind for kind, _ in scene.checks().requests_ended()}
    assert kinds == {"not ended", "ended twice", "forgotten request"}


def test_allows_the_text_of_a_redacted_message_in_a_last_copy(scene: Scene) -> None:
    scene.whole.redacted[scene.message] = Request(BOT, "redaction", "k4", id="r", status="completed")
    scene.row(scene.export, is_last_copy=True)
    assert list(exports.hosted(scene.checks().comparison)) == []


def test_allows_the_export_within_its_grace(scene: Scene) -> None:
    later = scene.model.file(Request(BOT, "deletion", "k3", value=scene.export.value, surely={scene.whole}, id="d2"))
    assert scene.kinds() == {"forgotten request"}
    later.status = "completed"
    checks = scene.checks()
    assert "export left" not in {kind for kind, _ in checks.all()}
    assert checks.comparison.met["exports that outlive what they hold"] == 1


def test_allows_either_fate_of_what_arrived_while_a_deletion_was_under_way(scene: Scene) -> None:
    scene.deletion.surely, scene.deletion.possibly = set(), {scene.gone}
    assert scene.kinds() == set()
    scene.conversation(scene.gone, texts={"m": ("text", "hello")})
    assert "row left" in scene.kinds()  # but not half of it


def test_counts_what_was_stored_past_the_api(scene: Scene) -> None:
    scene.gone.stuffed, scene.gone.copies = 5, 1
    row = scene.evidence.conversations[1]
    scene.evidence.conversations[7] = row._replace(number=7)
    scene.evidence.usage[BOT] = {MONTH: Count(3, 2)}
    scene.row(scene.deletion, conversations=2, messages=1 + 5 + 1)
    assert scene.kinds() == set()


def test_what_is_found_is_told_once_while_the_run_goes_on() -> None:
    violations = Violations()
    violations.add("counts", "one too many")
    violations.add("counts", "one too many")
    assert [violation.told for violation in violations.news()] == ["one too many"]
    violations.add("memory", "it grows")
    assert [violation.told for violation in violations.news()] == ["it grows"]
    assert len(violations.kept) == 2
