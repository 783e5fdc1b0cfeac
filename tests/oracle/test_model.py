"""What the oracle knows: which status may follow which, what an export must hold, and what a fault explains."""

import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.faults.soak.soak import unmet
from tests.oracle.exports import faults_of
from tests.oracle.model import Request, is_allowed
from tests.oracle.scene import BOT, NOON, Scene, a_scene, csv_of, line_of
from tests.oracle.violations import Outage, Outages


@pytest.fixture
def scene() -> Scene:
    return a_scene()


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
    assert is_allowed(Request(BOT, kind, "k", statuses=seen, status=seen[-1]), after) is expected


def test_knows_for_how_long_there_was_a_fault() -> None:
    outages = Outages()
    outages.over.append(Outage("one", NOON, NOON + timedelta(seconds=5)))
    outages.over.append(Outage("two", NOON + timedelta(seconds=8), NOON + timedelta(seconds=10)))
    assert outages.within(NOON + timedelta(seconds=2), NOON + timedelta(seconds=9)) == 4
    assert outages.names(NOON + timedelta(seconds=4), NOON + timedelta(seconds=7)) == {"one"}
    assert not outages.lately(60)
    outages.begin("three", {"stale_timestamp"})
    assert (outages.present, outages.excuses) == ("three", {"stale_timestamp"})
    assert outages.lately(60)
    outages.end()
    assert (outages.present, list(outages.excuses)) == ("", [])
    assert outages.lately(60)


def test_knows_what_a_run_has_not_met(scene: Scene) -> None:
    checks = scene.checks()
    assert list(checks.all()) == []
    found = unmet({"deletion": 1}, checks.comparison.met, Counter(retain=1), faults=0)
    assert {"call: export", "check: messages redacted", "operator: make_days", "any fault"} <= set(found)
    assert {"call: deletion", "check: exports (hosted)", "operator: retain"}.isdisjoint(found)


# --- The file of an export ------------------------------------------------------------------------------


def _faults(scene: Scene, raw: bytes, **shown: object) -> list[str]:
    said = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), "rows": 1} | shown
    scene.export.texts = {scene.whole.id: dict(scene.whole.texts)}
    conversations = {conversation.id: conversation for conversation in scene.model.conversations}
    return list(faults_of(scene.export, raw, said, conversations))


def test_accepts_an_export_that_holds_what_was_sent(scene: Scene) -> None:
    assert _faults(scene, csv_of(line_of(scene.whole))) == []


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        (lambda s: [line_of(s.whole), line_of(s.gone)], "a foreign line"),
        (lambda s: [line_of(s.whole), line_of(s.whole)], "a doubled line"),
        (lambda s: [line_of(s.whole, text="other")], "a wrong text"),
        (lambda s: [line_of(s.whole, text="", message_kind="redacted")], "a wrong text"),
        (lambda _: [], "a missing line"),
    ],
)
def test_finds_a_wrong_line_of_an_export(
    scene: Scene, planted: Callable[[Scene], list[dict[str, str]]], expected: str
) -> None:
    lines = planted(scene)
    assert [fault.partition(":")[0] for fault in _faults(scene, csv_of(*lines), rows=len(lines))] == [expected]


def test_finds_half_an_export_and_one_that_is_not_as_it_was_told(scene: Scene) -> None:
    raw = csv_of(line_of(scene.whole))
    assert "no whole CSV" in str(_faults(scene, raw[:-9]))
    assert "sha256" in str(_faults(scene, raw, sha256="0"))
    assert "rows" in str(_faults(scene, raw, rows=2))
