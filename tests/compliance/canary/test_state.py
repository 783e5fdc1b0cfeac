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
from compliance import tasks
from compliance.canary.client import Client as Caller
from compliance.canary.errors import Inconclusive
from compliance.checks import check_canary
from compliance.models import Canary, CanaryTurn
from compliance.work import health
from config.env import parse_own_origin
from tests.closed import close
from tests.people import Role, staff

HOUR = timedelta(hours=1)


@pytest.fixture
def canary(settings: Settings) -> Canary:
    settings.CANARY_EVERY, settings.CANARY_URL = HOUR, "http://127.0.0.1:9"
    call_command("create_canary")
    return Canary.objects.select_related("chatbot").get()


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
    keys = Caller.of(canary)
    assert keys.token.startswith("dca_")
    assert keys.token not in canary.token_encrypted
    assert keys.token not in repr(keys)
    assert keys.secret not in repr(keys)
    [token] = ApiKey.objects.filter(chatbot=chatbot, type="token")
    assert "requests:approve" not in token.scopes


def test_unreadable_keys_are_no_keys(canary: Canary, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = {"another": b"\3" * 32}
    with pytest.raises(Inconclusive, match="not_set_up"):
        Caller.of(canary)


def test_it_is_late_after_three_turns_and_says_why(canary: Canary, settings: Settings) -> None:
    clean = turn_of(canary, "clean", ago=2.9 * HOUR)
    assert problems() == {}
    [age] = series(settings, "dca_last_clean_canary_age_seconds").values()
    assert 10_400 < age < 10_500

    CanaryTurn.objects.filter(pk=clean.pk).update(began_at=clean.ended_at, ended_at=timezone.now() - 3.1 * HOUR)
    assert "no turn has ended since" in problems()["canary_late"]
    turn_of(canary, "unclear", ago=HOUR, trouble="api_unavailable", trouble_at="storeConversations")
    assert "api_unavailable storeConversations" in problems()["canary_late"]


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
    columns = ("conversations_message.text", "chatbots_changelogentry.data")
    findings = [{"place": "rows", "code": "text_left", "where": where} for where in columns]
    turn_of(canary, "found", ago=2 * HOUR, findings=findings)
    turn_of(canary, "unclear", ago=HOUR, trouble="blind")

    assert "rows (2)" in problems()["canary_found"]
    assert series(settings, "dca_canary_findings")['dca_canary_findings{place="rows"}'] == 2
    turn_of(canary, "clean", ago=HOUR / 2)
    assert problems() == {}
    assert set(series(settings, "dca_canary_findings").values()) == {0}


def test_the_sweep_begins_a_turn_once_in_a_while_and_goes_on_with_any(canary: Canary, settings: Settings) -> None:
    turn = turn_of(canary, "clean", ago=HOUR / 2)
    tasks.sweep()
    assert not CanaryTurn.objects.exclude(pk=turn.pk).exists()
    CanaryTurn.objects.update(began_at=timezone.now() - 1.1 * HOUR)
    settings.CANARY_EVERY = None
    tasks.sweep()
    assert not CanaryTurn.objects.exclude(pk=turn.pk).exists()
    settings.CANARY_EVERY = HOUR
    tasks.sweep()
    turn = CanaryTurn.objects.get(state="running")
    assert turn.step == "plant"

    # Also without the setting, as one that a command has left, but not without an address.
    now = timezone.now()
    CanaryTurn.objects.filter(pk=turn.pk).update(began_at=now - HOUR, next_attempt_at=now)
    settings.CANARY_EVERY, settings.CANARY_URL = None, ""
    tasks.sweep()
    turn.refresh_from_db()
    assert turn.step == "plant"
    settings.CANARY_URL = "http://127.0.0.1:9"
    tasks.sweep()
    turn.refresh_from_db()
    assert (turn.state, turn.step) == ("running", "erase")


def test_in_a_restored_database_it_takes_no_turn_and_is_not_late(canary: Canary) -> None:
    turn = turn_of(canary, "running", ago=9 * HOUR, erased_at=None)
    close()

    tasks.sweep()

    turn.refresh_from_db()
    assert (turn.step, turn.token) == ("clean_up", None)
    assert problems() == {}


def test_the_page_of_the_workers_shows_it(canary: Canary, client: Client) -> None:
    client.force_login(staff(canary.chatbot, Role.OFFICER))
    assert "never" in client.get("/admin/workers/").content.decode()
    turn_of(canary, "clean", ago=HOUR)

    assert "Clean canary" in client.get("/admin/workers/").content.decode()


@pytest.mark.parametrize("address", ["https://compliance.example.com", "http://localhost:8000", "http://[::1]:8000"])
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
    assert [one.id for one in check_canary()] == ["compliance.E011", "compliance.E012"]
    settings.CANARY_URL, settings.CANARY_LOG_FILES = "https://example.com", ["/var/log/*.log"]
    assert check_canary() == []


def test_the_commands_say_what_is_missing(chatbot: Chatbot, settings: Settings) -> None:
    with pytest.raises(CommandError, match="create_canary"):
        call_command("canary")
    with pytest.raises(CommandError, match="There is a chatbot"):
        call_command("create_canary", "--slug", chatbot.slug)
    call_command("create_canary")
    with pytest.raises(CommandError, match="There is a canary already"):
        call_command("create_canary")
    settings.CANARY_URL = ""
    with pytest.raises(CommandError, match="CANARY_URL"):
        call_command("canary")
    with pytest.raises(CommandError, match="No turn has ended"):
        call_command("canary", "--last")
