"""Turns and their steps: how long they take, what they go on from, and who stores what they find."""

import time
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from compliance.canary import errors, steps, turns
from compliance.canary.client import Client
from compliance.canary.errors import Inconclusive
from compliance.canary.words import Planted
from compliance.canary.work import Work
from compliance.models import Canary, CanaryTurn, Export
from compliance.models.canary import Left, Place
from conversations.models import Message
from tests.compliance.canary.support import Service
from tests.factories import (
    ExportFactory,
    MessageFactory,
    UploadedFileFactory,
    VariableValueFactory,
    conversation_of,
    export_of,
)
from tests.patches import before


@pytest.fixture
def canary(db: None, settings: Settings, service: type[Service]) -> Canary:
    settings.CANARY_URL = service.address
    call_command("create_canary")
    return Canary.objects.select_related("chatbot").get()


def turn_of(canary: Canary, state: str = "running", **fields: Any) -> CanaryTurn:
    now = timezone.now()
    ended = {} if state == "running" else {"ended_at": now, "planted_at": now}
    return CanaryTurn.objects.create(chatbot=canary.chatbot, day=now.date(), state=state, **ended | fields)


def request(status: str, *, hold_reason: str | None = None, error: str = "") -> dict[str, Any]:
    return {"status": status, "hold_reason": hold_reason, "error": {"code": error} if error else None}


def clean_up(turn: CanaryTurn) -> str:
    """Return what the step waits for or cannot do, or nothing if it is done."""
    try:
        steps.clean_up(Work(turn))
    except Inconclusive as error:
        return f"{type(error).__name__} {error}"
    return ""


def test_who_has_lost_the_turn_adds_no_finding_to_it(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(work: Work) -> None:
        CanaryTurn.objects.update(token=uuid4())
        work.add_finding(Place.ROWS, Left.TEXT_LEFT, "a table")

    turn = turn_of(canary)
    monkeypatch.setattr(turns, "STEPS", dict.fromkeys(steps.STEPS, overtaken))
    turns.resume()

    turn.refresh_from_db()
    assert (turn.step, turn.findings) == ("clean_up", [])


def test_a_slow_step_ends_in_time_and_is_tried_again(canary, service, monkeypatch) -> None:
    turn_of(canary, "unclear", deletion_id=uuid4())
    turn = turn_of(canary)
    monkeypatch.setattr(turns, "STEP_SECONDS", 0.5)
    monkeypatch.setattr(errors, "CALL_SECONDS", 0)
    service.answers[str(CanaryTurn.objects.earliest("pk").deletion_id)] = None
    began = time.monotonic()
    turns.resume()

    assert time.monotonic() - began < 5
    turn.refresh_from_db()
    assert (turn.step, turn.state, turn.token) == ("clean_up", "running", None)
    assert turn.next_attempt_at > timezone.now() + timedelta(seconds=30)


def test_no_step_begins_after_the_time_of_a_task(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = turn_of(canary)
    monkeypatch.setattr(turns, "STEPS", dict.fromkeys(steps.STEPS, lambda _: time.sleep(0.3)))
    turns.resume(seconds=0.2)

    turn.refresh_from_db()
    assert (turn.step, turn.token) == ("plant", None)


def test_a_turn_that_gives_up_a_step_goes_on_with_the_deletion(canary, monkeypatch) -> None:
    turn_of(canary, step="plant")
    done: list[str] = []

    def act(work: Work) -> None:
        done.append(work.turn.step)
        if work.turn.step == "plant":
            raise Inconclusive(errors.Trouble.API_REFUSED, "storeFile")

    monkeypatch.setattr(turns, "STEPS", dict.fromkeys(steps.STEPS, act))
    monkeypatch.setattr(turns, "_PATIENCE_BEFORE", 0)
    turns.resume()

    assert done == ["plant", "erase", "look_api", "look_bucket", "look_rows", "look_logs"]


def test_an_error_of_its_own_ends_the_turn_one_day(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = turn_of(canary)
    monkeypatch.setattr(turns, "_PATIENCE_BEFORE", 0)
    before(monkeypatch, Client, "of", lambda _: 1 / 0)
    turn_of(canary, "unclear")
    turns.resume()

    turn.refresh_from_db()
    assert (turn.state, turn.trouble, turn.trouble_at) == (
        "unclear",
        "broken",
        "clean_up: builtins.ZeroDivisionError",
    )


def test_a_deletion_that_ended_without_erasing_is_filed_again_by_each_turn_once(canary, service) -> None:
    first, second, third = str(uuid4()), str(uuid4()), str(uuid4())
    former, turn = turn_of(canary, "unclear", deletion_id=first), turn_of(canary)
    service.answers = {first: request("cancelled"), "data-deletion": {"request_id": second}}

    # The new one is waited for, not filed again.
    service.answers[second] = request("accepted")
    waits = "UnderWay not_carried_out getRequest (former turn)"
    assert clean_up(turn) == clean_up(turn) == waits
    assert len(service.idempotency_keys) == 1

    # One that fails too is told, and filed again under the same key: the service answers with the same request.
    service.answers[second] = request("failed", error="storage_denied")
    told = "Inconclusive not_carried_out getRequest (former turn): failed storage_denied"
    assert clean_up(turn) == clean_up(turn) == told
    assert len(set(service.idempotency_keys)) == 1

    turn.delete()
    service.answers |= {"data-deletion": {"request_id": third}, third: request("completed")}
    assert clean_up(turn_of(canary)) == ""
    assert len(set(service.idempotency_keys)) == 2
    former.refresh_from_db()
    assert str(former.deletion_id) == third
    assert former.erased_at is not None


def test_what_staff_have_to_decide_is_said(canary: Canary, service: type[Service]) -> None:
    held = str(uuid4())
    turn_of(canary, "unclear", deletion_id=held)
    service.answers = {held: request("on_hold", hold_reason="export_pending")}

    told = "Inconclusive not_carried_out getRequest (former turn): on_hold export_pending"
    assert clean_up(turn_of(canary)) == told
    assert service.idempotency_keys == []


def test_what_is_newer_than_the_last_whole_look_is_looked_at(canary: Canary) -> None:
    whole = turn_of(canary, "clean", erased_at=timezone.now())
    turn_of(canary, "unclear", erased_at=timezone.now(), trouble="rights_missing")
    work = Work(turn_of(canary))
    assert len(work.former) == 2
    whole.refresh_from_db()
    assert work.since == whole.began_at


def test_ids_and_keys_do_not_show_that_contents_are_read(canary, service, storage) -> None:
    chatbot = canary.chatbot
    turn = turn_of(canary, numbers=[1], file_id=1, export_id=uuid4())
    words, work = Planted(turn.pk), Work(turn)
    exports, uploads = f"{chatbot.slug}/chatter_data_exports/{words.value}", f"uploads/{chatbot.pk}"
    a_page: dict[str, Any] = {"results": [{"id": words.conversation_ids[0]}], "next": None}
    service.answers = dict.fromkeys(["conversations", "requests", "messages", "files", "callbacks"], a_page) | {
        "extracts": {},
        "usage": {},
        str(turn.export_id): {},
        "lookup": {"results": []},
        "preview": {"deletion": {"erased": {"conversations": 0}}},
        "1": {"id": words.conversation_ids[0]},
        "download": 404,
    }
    storage.put(f"{exports}/1.csv", b"", "text/csv")
    storage.put(f"{exports}/1_files/1", words.file, "text/plain")
    storage.put(f"{uploads}/{words.value}", b"", "text/plain")
    conversation = conversation_of(chatbot, messages=0, external_id=words.conversation_ids[0])
    message = MessageFactory.create(conversation=conversation, external_id=words.message_id, text="")

    assert Counter(one.partition(" ")[0] for one in steps.unseen(work)) == {"api": 7, "bucket": 3, "rows": 7}

    entry = {"user_name": words.name}
    a_page["results"] = [{"text": words.said, "name": words.file_name, **entry}]
    service.answers |= {
        "lookup": {"results": [{"conversation": entry}]},
        "preview": {"deletion": {"erased": {"conversations": 1}}},
        "1": entry,
        str(turn.export_id): {"key": words.value},
    }
    storage.put(f"{exports}/1.csv", words.said.encode(), "text/csv")
    storage.put(f"{uploads}/1", words.file, "text/plain")
    storage.put(f"{chatbot.slug}/daily_conversations_extracts/1.csv", words.long_ago.encode(), "text/csv")
    Message.objects.filter(pk=message.pk).update(text=words.said)
    named = conversation_of(chatbot, words.value, messages=0, user_name=words.name)
    VariableValueFactory.create(conversation=named, value=f"{words.stem}plan")
    UploadedFileFactory.create(conversation=named, name=words.file_name)
    export = ExportFactory.create(request=export_of(chatbot, "42"))
    Export.objects.filter(pk=export.pk).update(key=words.value)

    assert steps.unseen(work) == []


def test_an_old_turn_is_forgotten_unless_its_chatter_may_be_there(canary: Canary) -> None:
    long_ago = timezone.now() - timedelta(days=91)
    turn_of(canary, "unclear", ended_at=long_ago, planted_at=None)
    left = turn_of(canary, "unclear", ended_at=long_ago)

    turns.begin()

    assert list(CanaryTurn.objects.exclude(state="running")) == [left]


def test_a_process_without_logs_leaves_them_to_one_that_has_them(canary, tmp_path, settings) -> None:
    now = timezone.now()
    turn_of(canary, "clean", erased_at=now, logs={"are_read": True})
    turn = turn_of(canary, step="look_logs", planted_at=now, erased_at=now)
    log = tmp_path / "worker.log"
    log.write_text(f"a line with {Planted(turn.pk).value}\n")
    turns.resume()
    turn.refresh_from_db()
    assert (turn.state, turn.step) == ("running", "look_logs")

    settings.CANARY_LOG_FILES = [str(log)]
    turns.resume()
    turn.refresh_from_db()
    assert (turn.state, turn.findings) == ("found", [{"place": "logs", "code": "text_left", "where": str(log)}])
