"""The oracle must be able to fail: each kind of violation is planted in a clean ending, and must be found."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.soak.soak import unmet
from tests.oracle import exports
from tests.oracle.evidence import Count
from tests.oracle.model import COMMENT, Request, is_allowed
from tests.oracle.planted import CASES, LOGGED, PLANTED, other_request
from tests.oracle.scene import BOT, MONTH, NOON, Scene, a_scene, csv_of, line_of
from tests.oracle.violations import Outage, Outages, Violations


@pytest.fixture
def scene() -> Scene:
    return a_scene()


def test_finds_nothing_where_all_is_as_promised(scene: Scene) -> None:
    assert scene.kinds() == set()


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_finds_what_is_planted(scene: Scene, kind: str, number: int) -> None:
    PLANTED[kind][number](scene)
    assert kind in scene.kinds()


def test_finds_the_text_of_a_redacted_message(scene: Scene) -> None:
    scene.whole.redacted[scene.message] = other_request("redaction")
    assert {(kind, what.partition(" ")[0]) for kind, what in scene.checks().all()} == {
        ("redaction", "acme:"),  # the row
        ("redaction", "the"),  # the export
        ("extract", "acme:"),
        ("word left in an object", "an"),
    }


def test_finds_a_redacted_comment(scene: Scene) -> None:
    scene.whole.redacted[COMMENT] = other_request("redaction")
    scene.exported(csv_of(line_of(scene.whole, csat_comment=str(scene.whole.facts[COMMENT]))))
    found = {(kind, what.partition(" ")[0]) for kind, what in scene.checks().all()}
    assert found == {("redaction", "acme:"), ("redaction", "the")}  # the row, the export


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
def test_knows_after_which_fault_the_database_may_be_lost(scene, fault, ago, kinds) -> None:
    scene.log(LOGGED.format("OperationalError: SQLSTATE 57P01"))
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


# --- The model -------------------------------------------------------------------------------------------


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
