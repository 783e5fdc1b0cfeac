"""Steps of a turn: what they send, what they go on from, how long they take, and who stores what they find."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import DigestKey
from common import proc
from common.leases import LeaseLost
from compliance.canary import steps, trouble, turns, words
from compliance.canary.api import Sighting
from compliance.canary.setting_up import set_up
from compliance.canary.steps import Work
from compliance.canary.trouble import Budget, CannotTell, NotHere
from compliance.models import Canary, CanaryFinding, CanaryTurn
from tests.compliance.canary.support import Service


@pytest.fixture
def canary(db: None, settings: Settings, service: type[Service]) -> Canary:
    settings.CANARY_URL = service.address
    return set_up(slug="canary", actor="command")


def turn_of(canary: Canary, state: str = "running", **fields: Any) -> CanaryTurn:
    return CanaryTurn.objects.create(chatbot=canary.chatbot, day=timezone.now().date(), state=state, **fields)


def left_by(canary: Canary, **fields: Any) -> CanaryTurn:
    """A turn that could not erase what it had planted."""
    now = timezone.now()
    return turn_of(canary, "unclear", planted_at=now, ended_at=now, **fields)


def work_on(canary: Canary, turn: CanaryTurn) -> Work:
    return Work(canary, turn, Budget(30))


def request(status: str, *, hold_reason: str | None = None, error: str = "") -> dict[str, Any]:
    return {"status": status, "hold_reason": hold_reason, "error": {"code": error} if error else None}


@pytest.mark.parametrize(
    ("taken", "sent"),
    [
        (["image/png", "text/*"], "text/plain"),
        (["application/pdf", "audio/*"], "application/pdf"),
        (["audio/*"], "audio/x"),
    ],
)
def test_the_file_is_of_a_type_that_the_service_takes(settings: Settings, taken: list[str], sent: str) -> None:
    settings.UPLOAD_TYPES = taken

    assert steps._media_type() == sent


def test_who_has_lost_the_turn_adds_no_finding_to_it(canary: Canary) -> None:
    work = work_on(canary, turn_of(canary))
    CanaryTurn.objects.update(token=uuid4())
    with pytest.raises(LeaseLost):
        work.found(CanaryFinding.Place.ROWS, [Sighting(CanaryFinding.Code.TEXT_LEFT, "a table")])
    assert not CanaryFinding.objects.exists()


def test_each_step_has_the_whole_time(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    turn_of(canary)
    clock, began = [0.0], []
    monkeypatch.setattr(trouble, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def use_time(work: Work) -> bool:
        began.append((clock[0], work.budget.is_over))
        clock[0] += 9
        work.budget.check("a call")
        return True

    monkeypatch.setattr(steps, "STEPS", dict.fromkeys(steps.STEPS, use_time))
    turns.go_on(seconds=10)

    # The second one begins in time, and ends after it.
    assert began == [(0, False), (9, False)]
    assert CanaryTurn.objects.get().step == "export"


def test_a_deletion_that_ended_without_erasing_is_filed_again_by_each_turn_once(canary, service) -> None:
    first, second, third = str(uuid4()), str(uuid4()), str(uuid4())
    former, turn = left_by(canary, deletion_id=first), turn_of(canary)
    service.answers = {first: request("cancelled"), "data-deletion": {"request_id": second}}

    # The new one is waited for, not filed again.
    service.answers[second] = request("accepted")
    assert not steps.clean_up(work_on(canary, turn))
    assert not steps.clean_up(work_on(canary, turn))
    assert len(service.idempotency_keys) == 1

    # One that fails too is told, and filed again under the same key: the service answers with the same request.
    service.answers[second] = request("failed", error="storage_denied")
    for _ in range(2):
        with pytest.raises(CannotTell, match=r"getRequest \(former turn\): failed storage_denied"):
            steps.clean_up(work_on(canary, turn))
    assert len(set(service.idempotency_keys)) == 1

    turn.delete()
    service.answers |= {"data-deletion": {"request_id": third}, third: request("completed")}
    assert steps.clean_up(work_on(canary, turn_of(canary)))
    assert len(set(service.idempotency_keys)) == 2
    former.refresh_from_db()
    assert str(former.deletion_id) == third
    assert former.erased_at is not None


def test_what_staff_have_to_decide_is_said(canary: Canary, service: type[Service]) -> None:
    held = str(uuid4())
    left_by(canary, deletion_id=held)
    service.answers = {held: request("on_hold", hold_reason="export_pending")}

    with pytest.raises(CannotTell, match=r"getRequest \(former turn\): on_hold export_pending"):
        steps.clean_up(work_on(canary, turn_of(canary)))

    assert service.idempotency_keys == []


def test_words_of_another_digest_key_are_no_words(canary: Canary, service: type[Service]) -> None:
    former = left_by(canary, deletion_id=None)
    turn = turn_of(canary, planted_at=timezone.now())
    DigestKey.objects.update(created_at=timezone.now())
    service.answers = {"conversations": {"results": [{"number": 1}]}}

    for step in (steps.clean_up, steps.look_rows, steps.erase):
        with pytest.raises(CannotTell, match="not_set_up DIGEST_KEY"):
            step(work_on(canary, turn))

    # Once staff have erased what is there.
    service.answers = {"conversations": {"results": []}}
    assert steps.clean_up(work_on(canary, turn))
    assert service.idempotency_keys == []
    former.refresh_from_db()
    assert former.erased_at is not None
    assert work_on(canary, turn_of(canary, "clean", ended_at=timezone.now(), erased_at=timezone.now())).former == []


@pytest.fixture
def log(tmp_path: Path, settings: Settings) -> Path:
    """A log file that this machine reads."""
    log = tmp_path / "worker.log"
    log.write_text("before\n")
    settings.CANARY_LOG_FILES = [str(log)]
    return log


def begun_after(canary: Canary, former: CanaryTurn) -> CanaryTurn:
    """A turn that has planted nothing yet but its own row, since the service refuses."""
    former.save()
    turn = turn_of(canary)
    with pytest.raises(CannotTell, match="api_refused storeConversations"):
        steps.plant(work_on(canary, turn))
    return turn


def former_turn(canary: Canary, **fields: Any) -> CanaryTurn:
    now = timezone.now()
    return turn_of(canary, **{"state": "clean", "planted_at": now, "erased_at": now, "ended_at": now} | fields)


def test_logs_are_read_on_from_a_turn_that_could_not_look_elsewhere(canary: Canary, log: Path) -> None:
    former = former_turn(canary, state="unclear", trouble="api_unavailable")
    steps.look_logs(work_on(canary, former))
    log.write_text(f"before\na line with {words.planted(former.pk).value}\n")

    steps.look_logs(work_on(canary, begun_after(canary, former)))

    assert list(CanaryFinding.objects.values_list("where", flat=True)) == [str(log)]


def test_a_log_that_one_turn_could_not_read_does_not_trouble_the_next(canary: Canary, log: Path) -> None:
    first = former_turn(canary)
    steps.look_logs(work_on(canary, first))
    second = begun_after(canary, first)
    log.rename(log.with_name("kept elsewhere"))
    log.write_text("new\n")
    with pytest.raises(CannotTell, match="log_missing"):
        steps.look_logs(work_on(canary, second))
    second.state, second.trouble = "unclear", "log_missing"
    second.erased_at = second.ended_at = timezone.now()

    assert steps.look_logs(work_on(canary, begun_after(canary, second)))


def test_a_machine_without_logs_leaves_them_to_the_one_that_has_them(canary, log, settings, monkeypatch) -> None:
    former, patterns = former_turn(canary), settings.CANARY_LOG_FILES
    steps.look_logs(work_on(canary, former))

    with monkeypatch.context() as another:
        another.setattr(proc, "pid_scope", lambda: "another machine")
        settings.CANARY_LOG_FILES = []
        turn = begun_after(canary, former)
        log.write_text(f"before\na line with {words.planted(turn.pk).value}\n")
        with pytest.raises(NotHere):
            steps.look_logs(work_on(canary, turn))

    settings.CANARY_LOG_FILES = patterns
    steps.look_logs(work_on(canary, turn))
    assert list(CanaryFinding.objects.values_list("where", flat=True)) == [str(log)]
