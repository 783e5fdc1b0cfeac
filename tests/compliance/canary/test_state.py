"""The canary's state: what it is set up with, when it is due, and what `health` and `/metrics` say of it."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from marshmallow import ValidationError
from pytest_django import Settings

from chatbots.models import ApiKey, Bucket, Chatbot
from compliance.canary import turns
from compliance.canary.setting_up import keys_of, set_up
from compliance.canary.trouble import CannotTell
from compliance.checks import canary_can_fly
from compliance.models import Canary, CanaryFinding, CanaryTurn
from compliance.work import canary as canary_state
from compliance.work import health, notify
from compliance.work.cluster import enqueue_what_is_due
from config.env import parse_own_origin
from tests.closed import close
from tests.people import Role, staff

HOUR = timedelta(hours=1)


@pytest.fixture
def canary(settings: Settings) -> Canary:
    settings.CANARY_EVERY, settings.CANARY_URL = HOUR, "http://127.0.0.1:9"
    return set_up(slug="canary", actor="command")


def turn_of(canary: Canary, state: str, *, ago: timedelta, **fields: Any) -> CanaryTurn:
    at = timezone.now() - ago
    times = {"ended_at": None if state == "running" else at, "planted_at": at, "erased_at": at}
    turn = CanaryTurn.objects.create(
        id=uuid4(), chatbot=canary.chatbot, state=state, day=at.date(), **{**times, **fields}
    )
    CanaryTurn.objects.filter(pk=turn.pk).update(began_at=at)
    return turn


def problems() -> dict[str, str]:
    return {one.code: one.detail for one in health.check().problems if one.code.startswith("canary")}


def series(settings: Settings, name: str) -> dict[str, float]:
    settings.METRICS_TOKEN = "a-token-of-the-tests"
    text = Client(headers={"authorization": "Bearer a-token-of-the-tests"}).get("/metrics").content.decode()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)
    }


def test_it_is_set_up_with_all_that_a_turn_needs(canary: Canary) -> None:
    chatbot = canary.chatbot
    assert (chatbot.compliance_enabled, chatbot.extracts_enabled) == (True, True)
    assert Bucket.objects.get(chatbot=chatbot).hosting == "hosted"
    keys = keys_of(canary)
    assert keys.token.startswith("dca_")
    assert keys.token not in canary.token_encrypted
    assert keys.token not in repr(keys)
    assert keys.secret not in repr(keys)
    [token] = ApiKey.objects.filter(chatbot=chatbot, type="token")
    assert "requests:approve" not in token.scopes


def test_revoked_or_unreadable_keys_are_no_keys(canary: Canary, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = {"another": b"\3" * 32}
    with pytest.raises(CannotTell, match="not_set_up"):
        keys_of(canary)


def test_a_clean_one_is_no_problem_and_has_an_age(canary: Canary, settings: Settings) -> None:
    turn_of(canary, "clean", ago=HOUR / 2)

    assert problems() == {}
    [age] = series(settings, "dca_last_clean_canary_age_seconds").values()
    assert 1790 < age < 1900


def test_it_is_late_after_three_turns_and_says_why(canary: Canary) -> None:
    turn_of(canary, "clean", ago=2.9 * HOUR)
    assert problems() == {}
    CanaryTurn.objects.all().delete()
    turn_of(canary, "clean", ago=3.1 * HOUR)
    turn_of(canary, "unclear", ago=HOUR, trouble="api_unavailable", trouble_at="storeConversations")

    [(code, detail)] = problems().items()

    assert code == "canary_late"
    assert "api_unavailable storeConversations" in detail


def test_one_that_was_clean_before_is_said_to_have_ended_no_turn_since(canary: Canary) -> None:
    turn_of(canary, "clean", ago=9 * HOUR)

    assert "no turn has ended since" in problems()["canary_late"]


def test_one_that_is_switched_on_long_after_it_was_set_up_is_late_only_if_its_turns_are(canary: Canary) -> None:
    Canary.objects.update(created_at=timezone.now() - 900 * HOUR)
    assert "no turn has ended" in problems()["canary_late"]
    turn_of(canary, "running", ago=HOUR / 60, erased_at=None)
    assert problems() == {}
    CanaryTurn.objects.update(began_at=timezone.now() - 3.1 * HOUR)
    assert "canary_late" in problems()


def test_one_that_is_switched_on_and_not_set_up_is_late(settings: Settings) -> None:
    settings.CANARY_EVERY = HOUR

    assert "create_canary" in problems()["canary_late"]


def test_without_a_setting_nothing_is_said(canary: Canary, settings: Settings) -> None:
    turn_of(canary, "found", ago=9 * HOUR)
    settings.CANARY_EVERY = None

    assert problems() == {}
    assert set(series(settings, "dca_last_clean_canary_age_seconds").values()) == {0}


def test_what_was_found_is_reported_until_a_turn_is_clean(canary: Canary, settings: Settings) -> None:
    found = turn_of(canary, "found", ago=2 * HOUR)
    for where in ("conversations_message.text", "chatbots_changelogentry.data"):
        CanaryFinding.objects.create(turn=found, chatbot=canary.chatbot, place="rows", code="text_left", where=where)
    turn_of(canary, "unclear", ago=HOUR, trouble="blind")

    assert "rows (2)" in problems()["canary_found"]
    assert series(settings, "dca_canary_findings")['dca_canary_findings{place="rows"}'] == 2
    turn_of(canary, "clean", ago=HOUR / 2)
    assert problems() == {}
    assert set(series(settings, "dca_canary_findings").values()) == {0}


def test_it_is_due_once_in_a_while_and_while_a_turn_runs(canary: Canary, settings: Settings) -> None:
    assert canary_state.is_due()
    turn = turn_of(canary, "running", ago=HOUR / 2, erased_at=None)
    assert canary_state.is_due()
    CanaryTurn.objects.update(next_attempt_at=timezone.now() + HOUR)
    assert not canary_state.is_due()
    turn.delete()
    turn_of(canary, "clean", ago=HOUR / 2)
    assert not canary_state.is_due()
    CanaryTurn.objects.update(began_at=timezone.now() - 1.1 * HOUR)
    assert canary_state.is_due()
    settings.CANARY_EVERY = None
    assert not canary_state.is_due()


def test_workers_go_on_with_a_turn_that_a_command_has_left(canary: Canary, settings: Settings) -> None:
    settings.CANARY_EVERY = None
    assert not canary_state.is_due()
    turn = turn_of(canary, "running", ago=HOUR, erased_at=None)
    assert canary_state.is_due()
    turns.advance()
    turn.refresh_from_db()
    assert (turn.state, turn.step) == ("running", "erase")

    settings.CANARY_URL = ""
    CanaryTurn.objects.update(next_attempt_at=timezone.now())
    assert not canary_state.is_due()


def test_the_guard_asks_for_it_while_it_is_due(canary: Canary, settings: Settings) -> None:
    enqueue_what_is_due()
    assert "watch_canary" in notify._waiting()


def test_in_a_restored_database_it_takes_no_turn_and_is_not_late(canary: Canary, settings: Settings) -> None:
    turn = turn_of(canary, "running", ago=9 * HOUR, erased_at=None)
    close()

    turns.go_on(seconds=5)

    turn.refresh_from_db()
    assert (turn.step, turn.token) == ("clean_up", None)
    assert problems() == {}


def test_the_page_of_the_workers_shows_it(canary: Canary, client: Client) -> None:
    client.force_login(staff(canary.chatbot, Role.OFFICER))
    assert "never" in client.get("/admin/workers/").content.decode()
    turn_of(canary, "clean", ago=HOUR)

    assert "Clean canary" in client.get("/admin/workers/").content.decode()


@pytest.mark.parametrize(
    "address",
    ["https://compliance.example.com", "http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"],
)
def test_an_address_is_taken(address: str) -> None:
    assert parse_own_origin(address) == address


@pytest.mark.parametrize(
    "address",
    ["http://compliance.example.com", "http://10.0.0.5:8000", "https://user:word@example.com", "ftp://x", "x", ""],
)
def test_an_address_to_which_keys_would_go_in_the_clear_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        parse_own_origin(address)


def test_a_canary_without_an_address_does_not_start(settings: Settings) -> None:
    settings.CANARY_EVERY, settings.CANARY_URL, settings.CANARY_LOG_FILES = HOUR, "", ["worker.log"]
    assert [one.id for one in canary_can_fly()] == ["compliance.E011", "compliance.E012"]
    settings.CANARY_URL, settings.CANARY_LOG_FILES = "https://example.com", ["/var/log/*.log"]
    assert canary_can_fly() == []


def test_the_command_says_what_is_missing(settings: Settings, db: None) -> None:
    with pytest.raises(CommandError, match="create_canary"):
        call_command("canary")
    set_up(slug="canary", actor="command")
    settings.CANARY_URL = ""
    with pytest.raises(CommandError, match="CANARY_URL"):
        call_command("canary")
    with pytest.raises(CommandError, match="No turn has ended"):
        call_command("canary", "--last")


def test_a_clients_chatbot_is_never_taken(chatbot: Chatbot) -> None:
    with pytest.raises(CommandError, match="There is a chatbot"):
        call_command("create_canary", "--slug", chatbot.slug)
    assert not Canary.objects.exists()


def test_a_command_without_logs_leaves_the_step_to_a_worker_that_has_them(canary: Canary, settings: Settings) -> None:
    settings.CANARY_LOG_FILES = []
    seen = {"machine": "here", "at": 0.0, "files": {"1:1": ["/var/log/worker.log", 1, 0.0, "0"]}}
    # Planted since this database has its key, which may be some seconds old.
    step, planted_at = CanaryTurn.Step.LOOK_LOGS, timezone.now()
    turn = turn_of(canary, "running", ago=timedelta(minutes=1), planted_at=planted_at, step=step, logs=seen)
    turns.go_on(seconds=5, pause=timedelta(seconds=1))
    turn.refresh_from_db()
    assert (turn.step, turn.state, turn.token) == (CanaryTurn.Step.LOOK_LOGS, "running", None)
    assert canary_state.is_due()
