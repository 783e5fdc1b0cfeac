"""Deadlines: the rule when a request is filed, one extension, the answer that ends it, and the callbacks."""

import json
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from chatbots.operations.chatbots import change_chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.callbacks import deadline_events, resend
from compliance.callbacks.queue import RECEIVERS, deliver
from compliance.deadlines import IS_OVERDUE
from compliance.models import Callback, ComplianceRequest
from compliance.requests import decisions
from compliance.retention import policy
from compliance.work.due import by_deadline
from console.requests.labels import due_mark
from tests.calls import ALICE, SigningCaller, TokenCaller, pointers, problem
from tests.commands import refused, report, run
from tests.compliance.replay.conftest import replay, write_journal
from tests.factories import deletion_of, export_of
from tests.functional.company import Company
from tests.people import Role, member, staff
from tests.receivers import Receiver, receiving
from tests.restoring import restored

DAY = timedelta(days=1)
HELD = {"status": "on_hold", "hold_reason": "awaiting_approval"}
REASON = {"reason": "complexity"}

pytestmark = pytest.mark.django_db


def rule(chatbot: Chatbot, deadline: str, zone: str = "Europe/Paris") -> Chatbot:
    return change_chatbot(chatbot=chatbot, changes={"deadline": deadline, "timezone": zone}, actor="command")


def end_of_day(start: datetime, days: int, zone: str = "Europe/Paris") -> datetime:
    day = start.astimezone(ZoneInfo(zone)).date() + timedelta(days=days)
    return datetime.combine(day, time(23, 59, 59), ZoneInfo(zone))


@pytest.fixture
def open_request(chatbot: Chatbot) -> ComplianceRequest:
    return deletion_of(chatbot, "alice", held_at=timezone.now(), **HELD)


# --- By which rule a request is due


def test_requests_keep_their_deadline_when_the_chatbot_changes(caller: TokenCaller, chatbot: Chatbot) -> None:
    rule(chatbot, "ccpa")
    first = caller.post("data-deletion", ALICE, **{"Idempotency-Key": "k-1"}).json()
    rule(chatbot, "30", "America/New_York")
    again = caller.post("data-deletion", ALICE, **{"Idempotency-Key": "k-1"}).json()
    second = caller.post("data-deletion", ALICE).json()
    assert (again["request_id"], again["due_at"]) == (first["request_id"], first["due_at"])
    assert (first["deadline"], second["deadline"]) == ("ccpa", "30")
    due = {one.pk: one.due_at for one in ComplianceRequest.objects.all()}
    received = {one.pk: one.received_at for one in ComplianceRequest.objects.all()}
    for answer, days, zone in ((first, 45, "Europe/Paris"), (second, 30, "America/New_York")):
        request_id = UUID(answer["request_id"])
        assert due[request_id] == end_of_day(received[request_id], days, zone)
    # The extension has the rule of the request.
    extended = caller.post(f"requests/{first['request_id']}/extend", REASON).json()
    assert extended["deadline"] == "ccpa"
    request = ComplianceRequest.objects.get(pk=first["request_id"])
    assert request.due_at == end_of_day(request.received_at, 90, "America/New_York")


def test_a_row_of_a_former_version_is_due_after_its_days(chatbot: Chatbot, caller: TokenCaller) -> None:
    """As written during an upgrade, without the new columns. Its deadline is kept, and can be extended."""
    filed = caller.post("data-deletion", ALICE).json()["request_id"]
    new = ("deadline", "extended_at", "extended_by", "extension_reason", "answered_at")
    names = [
        field.attname for field in ComplianceRequest._meta.concrete_fields if field.attname not in {*new, "id", "seq"}
    ]
    request_id = UUID("018f0000-0000-7000-8000-000000000001")
    due = timezone.now() + 25 * DAY
    with connection.cursor() as cursor:
        columns = ", ".join(f'"{name}"' for name in names)
        cursor.execute(
            f"INSERT INTO compliance_compliancerequest (id, {columns}) SELECT %s, {columns}"
            " FROM compliance_compliancerequest WHERE id = %s",
            [request_id, filed],
        )
    ComplianceRequest.objects.filter(pk=request_id).update(due_at=due)
    shown = caller.get(f"requests/{request_id}").json()
    assert [shown[name] for name in new if name != "extended_by"] == ["30", None, None, None]
    assert caller.post(f"requests/{request_id}/extend", REASON).status_code == 200
    request = ComplianceRequest.objects.get(pk=request_id)
    assert request.due_at == end_of_day(request.received_at, 60, "UTC")


# --- The extension


def test_a_deadline_is_extended_once(caller: TokenCaller, chatbot: Chatbot, open_request: ComplianceRequest) -> None:
    path = f"requests/{open_request.pk}/extend"
    assert pointers(caller.post(path, {})) == {"/reason": "missing"}
    assert pointers(caller.post(path, {"reason": "holidays"})) == {"/reason": "unknown_value"}
    answer = caller.post(path, REASON)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    open_request.refresh_from_db()
    assert open_request.due_at == end_of_day(open_request.received_at, 60, "UTC")
    assert shown == caller.get(f"requests/{open_request.pk}").json()
    assert (shown["extension_reason"], shown["status"]) == ("complexity", "on_hold")
    assert shown["extended_at"] == f"{open_request.extended_at:%Y-%m-%dT%H:%M:%S.%fZ}"
    entry = ChangeLogEntry.objects.get(request_id=open_request.pk)
    actor = f"api:{caller.api_key.prefix}"
    assert (entry.event, entry.actor, entry.data) == ("request.extended", actor, REASON)
    assert open_request.extended_by == actor
    problem(caller.post(path, {"reason": "number_of_requests"}), 409, "already_extended")


def test_it_is_not_extended_too_late_or_where_nobody_waits(caller: TokenCaller, chatbot: Chatbot) -> None:
    now = timezone.now()
    policy.change_period(chatbot=chatbot, days=90, actor="user:7", confirmed=0)
    run_ = ComplianceRequest.objects.get()
    refused_with = {
        run_: "not_extendable",
        deletion_of(chatbot, "1", due_at=now - timedelta(seconds=1)): "deadline_passed",
        deletion_of(chatbot, None, status="cancelled", cancelled_at=now): "not_extendable",
        deletion_of(chatbot, None, status="rejected", rejected_at=now): "not_extendable",
        deletion_of(chatbot, None, status="completed", completed_at=now, result="done"): "not_extendable",
    }
    for request, code in refused_with.items():
        problem(caller.post(f"requests/{request.pk}/extend", REASON), 409, code)
        assert refused("extend_request", str(request.pk), "--reason", "complexity").returncode == 2
    assert not ChangeLogEntry.objects.filter(event="request.extended").exists()
    for open_ in (
        export_of(chatbot, "2"),
        deletion_of(chatbot, "3", status="processing", started_at=now),
        deletion_of(chatbot, "4", status="failed", failed_at=now, error_code="x"),
    ):
        assert caller.post(f"requests/{open_.pk}/extend", REASON).status_code == 200


def test_the_command_extends(chatbot: Chatbot, open_request: ComplianceRequest) -> None:
    assert (
        report("extend_request", str(open_request.pk), "--reason", "complexity")["extension_reason"] == "complexity"
    )
    assert "must be one of complexity" in str(refused("extend_request", str(open_request.pk)))


# --- The answer


@pytest.mark.parametrize("status", ["on_hold", "rejected"])
def test_a_letter_ends_the_deadline(caller: TokenCaller, chatbot: Chatbot, status: str) -> None:
    now = timezone.now()
    at = {"held_at": now} if status == "on_hold" else {"rejected_at": now, "hold_reason": None}
    request = deletion_of(chatbot, None if status == "rejected" else "1", **(HELD | at | {"status": status}))
    fits, other = ("held", "refused") if status == "on_hold" else ("refused", "held")
    path = f"requests/{request.pk}/answered"
    assert pointers(caller.post(path, {})) == {"/letter": "missing"}
    problem(caller.post(path, {"letter": other}), 409, "not_answerable")
    first = caller.post(path, {"letter": fits}).json()
    assert first["answered_at"]
    assert caller.post(path, {"letter": fits}).json() == first  # set once
    [entry] = ChangeLogEntry.objects.filter(request_id=request.pk)
    assert (entry.event, entry.data) == ("request.answered", {"letter": fits})
    waiting = deletion_of(chatbot, "2")
    problem(caller.post(f"requests/{waiting.pk}/answered", {"letter": "held"}), 409, "not_answerable")


def test_an_answered_request_is_neither_overdue_nor_due_soon_anywhere(caller, chatbot, neighbour, settings) -> None:
    now = timezone.now()
    settings.METRICS_TOKEN = "t"
    officer = staff(chatbot, Role.OFFICER)
    officer.email = "officer@example.com"
    officer.save()
    long_ago = {"received_at": now - 40 * DAY, "held_at": now - 2 * DAY}
    late, soon = (deletion_of(chatbot, "1", due_at=due, **HELD, **long_ago) for due in (now - DAY, now + DAY))

    def seen() -> tuple[Any, ...]:
        late.refresh_from_db()
        soon.refresh_from_db()
        client = member(chatbot, Role.OFFICER)
        lists = [client.get(f"/admin/requests/?due={due}").text for due in ("overdue", "soon")]
        metrics = client.get("/metrics", headers={"authorization": "Bearer t"}).text
        lines = [f'dca_requests_{name}{{kind="deletion"}} 1.0' for name in ("overdue", "due_soon")]
        return (
            [due_mark(late), due_mark(soon)],
            [str(one.pk) in text for one, text in zip((late, soon), lists, strict=True)],
            [line in metrics for line in lines],
            [one["request_id"] for one in json.loads(run("overdue", "--soon", "--json").out)["requests"]],
        )

    assert {one.id for one in by_deadline([chatbot.pk]).requests} == {late.pk, soon.pk}
    assert seen() == (["overdue", "soon"], [True] * 2, [True] * 2, [str(late.pk), str(soon.pk)])
    for one in (late, soon):
        assert caller.post(f"requests/{one.pk}/answered", {"letter": "held"}).status_code == 200
    assert seen() == (["", ""], [False] * 2, [False] * 2, [])
    assert by_deadline([chatbot.pk]).requests == []


def test_the_end_of_a_hold_starts_the_clock_again_and_a_refusal_is_recorded_after_a_letter_about_it(caller, chatbot):
    late = timezone.now() - DAY
    held, refused = (deletion_of(chatbot, value, due_at=late, held_at=late, **HELD) for value in ("1", "2"))
    for one in (held, refused):
        assert caller.post(f"requests/{one.pk}/answered", {"letter": "held"}).status_code == 200
    assert run("overdue").code == 0

    decisions.approve(request_id=held.pk, actor="user:99")
    decisions.reject(request_id=refused.pk, actor="user:99", reason="legal_claims")
    assert [one["request_id"] for one in json.loads(run("overdue", "--json").out)["requests"]] == [str(held.pk)]
    assert caller.post(f"requests/{refused.pk}/answered", {"letter": "refused"}).status_code == 200
    told = ChangeLogEntry.objects.filter(request_id=refused.pk, event="request.answered").order_by("pk")
    assert list(told.values_list("data__letter", flat=True)) == ["held", "refused"]


def test_a_failed_request_that_cannot_be_retried_is_not_overdue_for_ever(chatbot: Chatbot) -> None:
    deletion_of(chatbot, None, status="failed", failed_at=timezone.now(), error_code="x", due_at=timezone.now() - DAY)
    assert run("overdue").code == 0


def test_a_chatbot_that_is_closed_after_a_restore_hears_of_no_deadline(chatbot: Chatbot) -> None:
    late = timezone.now() - DAY
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url="https://hooks.example.com/x", closed_at=timezone.now())
    deletion_of(chatbot, "1", due_at=late)
    assert deadline_events.announce_due() == 0
    Chatbot.objects.filter(pk=chatbot.pk).update(closed_at=None)
    assert deadline_events.announce_due() == 1


# --- Callbacks


@pytest.fixture
def receiver() -> Any:
    RECEIVERS.forget()
    with receiving() as one:
        yield one
    RECEIVERS.forget()


def callbacks() -> list[tuple[str, str]]:
    return [(one.event, one.status) for one in Callback.objects.order_by("created_at", "occurred_at")]


def test_due_soon_and_overdue_are_sent_once_for_each_deadline(chatbot: Chatbot, receiver: Receiver) -> None:
    SigningCaller(chatbot)  # its key signs
    now = timezone.now()
    own = {"callback_url": receiver.url("/own"), "received_at": now - 40 * DAY}
    soon = deletion_of(chatbot, "1", due_at=now + 2 * DAY, **own)
    late = deletion_of(chatbot, "2", due_at=now - 2 * DAY, status="processing", started_at=now, **own)
    deletion_of(chatbot, "3", due_at=now - 8 * DAY, **own)  # long past
    deletion_of(chatbot, "4", due_at=now + 4 * DAY, **own)
    deletion_of(chatbot, "5", due_at=now - DAY, **(own | {"callback_url": ""}))
    deletion_of(chatbot, "6", due_at=now - DAY, answered_at=now, **own)
    deletion_of(chatbot, None, due_at=now - DAY, status="cancelled", cancelled_at=now, **own)

    for _ in range(2):
        worker.sweep()
        deliver()
    found = {one.payload["request_id"]: one.payload for one in receiver.received}
    assert {key: (one["event"], one["status"]) for key, one in found.items()} == {
        str(soon.pk): ("request.due_soon", "accepted"),
        str(late.pk): ("request.overdue", "processing"),
    }
    assert len(receiver.received) == 2
    assert found[str(soon.pk)]["occurred_at"] == f"{soon.due_at - 3 * DAY:%Y-%m-%dT%H:%M:%S.%fZ}"
    assert found[str(late.pk)]["occurred_at"] == f"{late.due_at:%Y-%m-%dT%H:%M:%S.%fZ}"

    decisions.extend(request_id=soon.pk, actor="command", reason="complexity")
    deliver()
    ComplianceRequest.objects.filter(pk=soon.pk).update(due_at=now - timedelta(minutes=1))
    worker.sweep()
    deliver()
    assert [one.payload["event"] for one in receiver.received[2:]] == ["request.extended", "request.overdue"]


def test_a_deadline_that_is_over_is_not_delivered_or_sent_again(chatbot: Chatbot, receiver: Receiver) -> None:
    SigningCaller(chatbot)
    now = timezone.now()
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url())
    past = {"received_at": now - 40 * DAY, "due_at": now - DAY}
    answered, ended, extended = (
        deletion_of(chatbot, "1", held_at=now, **HELD, **past),
        deletion_of(chatbot, "2", **past),
        deletion_of(chatbot, "3", **(past | {"due_at": now + DAY})),
    )
    assert deadline_events.announce_due() == 3
    decisions.record_answer(request_id=answered.pk, actor="command", letter="held")
    decisions.cancel(request_id=ended.pk, actor="command")
    decisions.extend(request_id=extended.pk, actor="command", reason="complexity")

    deliver()
    assert sorted(one.payload["event"] for one in receiver.received) == ["request.cancelled", "request.extended"]
    assert sorted(callbacks()) == [("request.cancelled", "cancelled"), ("request.extended", "accepted")]
    assert deadline_events.announce_due() == 0

    late = deletion_of(chatbot, "4", **past)
    deadline_events.announce_due()
    deliver()
    decisions.cancel(request_id=late.pk, actor="command")
    deliver()
    sent = resend.resend_of_request(request_id=late.pk, actor="command")
    assert sent.resent == 1  # the cancellation
    assert ("request.overdue", "accepted") in callbacks()


def test_many_deadlines_are_announced_in_chunks(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline_events, "_AT_ONCE", 2)
    past = {"received_at": timezone.now() - 40 * DAY, "due_at": timezone.now() - DAY}
    for number in range(5):
        deletion_of(chatbot, str(number), callback_url="https://hooks.example.com/", **past)
    assert deadline_events.announce_due() == 5
    assert callbacks() == [("request.overdue", "accepted")] * 5


# --- The command


def test_overdue_lists_what_is_late_and_what_it_waits_for(chatbot: Chatbot, neighbour: Chatbot) -> None:
    now = timezone.now()
    assert report("overdue", chatbot.slug, code=0) == {"requests": []}
    late = deletion_of(chatbot, "1", due_at=now - 2 * DAY, deadline="gdpr", held_at=now, **HELD)
    failed = export_of(neighbour, "1", due_at=now - DAY, status="failed", failed_at=now, error_code="storage_locked")
    soon = deletion_of(chatbot, "2", due_at=now + DAY, received_at=now - 20 * DAY)

    def listed(*words: str) -> list[tuple[str, int, str]]:
        found = report("overdue", *words, code=3)["requests"]
        return [(one["request_id"], one["days_late"], one["waits_for"]) for one in found]

    first = (str(late.pk), 2, "awaiting_approval")
    assert listed() == [first, (str(failed.pk), 1, "storage_locked")]
    assert listed(chatbot.slug) == [first]
    assert listed(chatbot.slug, "--soon") == [first, (str(soon.pk), -1, "")]
    [line] = run("overdue", chatbot.slug).out.splitlines()
    assert line.endswith("one month (GDPR): 2 days late")
    assert ComplianceRequest.objects.filter(IS_OVERDUE).count() == 2


# --- A restore


@pytest.mark.parametrize("is_in_backup", [True, False])
def test_extension_and_answer_survive_a_restore(chatbot: Chatbot, storage: ObjectStorage, is_in_backup: bool) -> None:
    company = Company(chatbot)
    company.talk("c-1", "alice")
    rule(chatbot, "ccpa")
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True)
    user = staff(chatbot, Role.OFFICER)
    acted = ("deadline", "due_at", "extended_at", "extended_by", "extension_reason", "answered_at")

    def file() -> UUID:
        deletion = UUID(company.delete("alice"))
        worker.drain(seconds=30)
        return deletion

    early = file() if is_in_backup else None
    with restored():
        deletion = early or file()
        decisions.extend(request_id=deletion, actor=f"user:{user.pk}", reason="complexity")
        decisions.record_answer(request_id=deletion, actor=f"user:{user.pk}", letter="held")
        before = ComplianceRequest.objects.get(pk=deletion)
        write_journal()

    replay()

    after = ComplianceRequest.objects.get(pk=deletion)
    assert before.due_at == end_of_day(before.received_at, 90)
    assert [getattr(after, name) for name in acted] == [getattr(before, name) for name in acted]
    assert after.status == "on_hold"


def test_a_refusal_that_was_answered_survives_a_restore(chatbot: Chatbot, storage: ObjectStorage) -> None:
    company = Company(chatbot)
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True)
    deletion = UUID(company.delete("alice"))
    worker.drain(seconds=30)
    with restored():
        decisions.reject(request_id=deletion, actor="user:1", reason="duplicate")
        write_journal()
        answered = decisions.record_answer(request_id=deletion, actor="user:1", letter="refused")
        write_journal()
    replay()
    after = ComplianceRequest.objects.get(pk=deletion)
    assert (after.status, after.answered_at) == ("rejected", answered.answered_at)
    assert answered.answered_at
    assert answered.answered_at.tzinfo == UTC
