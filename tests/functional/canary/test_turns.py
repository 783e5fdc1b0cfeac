"""Turns of the canary: what could not be seen is not clean, one runs at a time, and no client is touched."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.conf import settings as config
from django.core.management import call_command
from django.test import override_settings

from chatbots.buckets import hosted_storage
from chatbots.models import ApiKey, Chatbot
from common.db import execute
from compliance.canary import turns
from compliance.canary.client import Client
from compliance.models import Canary, CanaryTurn, ComplianceRequest
from compliance.work import health
from conversations.models import Conversation
from scripts.processes import Processes
from tests.clients import empty
from tests.commands import report, run
from tests.functional.canary.turn_driver import LONG, TurnDriver, last, versioned_bucket_and_server
from tests.functional.support import dump, everything_in, manage, wait_until, worker_environment
from tests.patches import Killed, after


def test_an_api_that_does_not_answer_is_waited_for_and_then_unclear(canary, settings, monkeypatch) -> None:
    address, settings.CANARY_URL = settings.CANARY_URL, "http://127.0.0.1:9"
    driver = TurnDriver()
    driver.resume()
    driver.resume()
    assert (driver.is_over, driver.turn.step) == (False, "plant")
    with monkeypatch.context() as impatient:
        impatient.setattr(turns, "_PATIENCE_BEFORE", 0)
        driver.resume()
    settings.CANARY_URL = address
    turn = driver.end()

    # What could not be planted is not missed.
    assert (turn.state, turn.trouble, turn.trouble_at) == ("unclear", "api_unavailable", "storeConversations")
    assert driver.findings() == []
    assert last()[0] == 4


def wrong_bucket() -> AbstractContextManager[object]:
    return override_settings(S3_BUCKET=config.S3_BUCKET.removesuffix("-canary"))


def silent_storage() -> AbstractContextManager[object]:
    return override_settings(S3_ENDPOINT_URL="http://127.0.0.1:9")


@contextmanager
def missing_right() -> Iterator[None]:
    execute("REVOKE SELECT (session_data) ON django_session FROM tests_worker")
    try:
        yield
    finally:
        execute("GRANT SELECT (session_data) ON django_session TO tests_worker")


@pytest.mark.one_postgresql(reason="rights of a role")
@pytest.mark.parametrize(
    ("step", "blind", "trouble"),
    [
        ("export", wrong_bucket, "blind bucket text_left uploads/* (content)"),
        pytest.param("erase", silent_storage, "storage_unavailable listing (storage_unavailable)", marks=LONG),
        pytest.param("erase", missing_right, "rights_missing django_session.session_data", marks=LONG),
    ],
)
def test_a_search_that_is_blind_is_unclear_and_the_chatter_erased_all_the_same(
    canary: Canary, impatient: None, step: str, blind: Callable[[], AbstractContextManager[object]], trouble: str
) -> None:
    turn = TurnDriver().end(at={step: blind})

    assert (turn.state, f"{turn.trouble} {turn.trouble_at}", turn.findings) == ("unclear", trouble, [])
    assert turn.erased_at is not None


@LONG
def test_a_held_deletion_is_unclear_and_the_next_turn_erases_it(canary: Canary, monkeypatch: Any) -> None:
    Chatbot.objects.filter(pk=canary.chatbot_id).update(four_eyes=True)
    driver = TurnDriver()
    driver.reach("erase")
    with monkeypatch.context() as patch:
        patch.setattr(turns, "_PATIENCE", turns._PATIENCE | {"erase": 0})
        first = driver.end()
    assert (first.state, first.trouble) == ("unclear", "not_carried_out")
    assert first.erased_at is None
    assert [problem.code for problem in health.check().problems if "canary" in problem.code] == []

    Chatbot.objects.filter(pk=canary.chatbot_id).update(four_eyes=False)
    run("approve_request", str(first.deletion_id))
    second = TurnDriver().end()

    first.refresh_from_db()
    assert second.state == "clean"
    assert first.erased_at is not None
    assert driver.words.stem not in dump() + everything_in(driver.storage)


@LONG
@pytest.mark.parametrize(("call", "number"), [("upload", 1), ("file", 1), ("file", 2)])
def test_a_killed_turn_begins_its_step_again_and_no_two_are_at_work(canary: Canary, call: str, number: int) -> None:
    driver, calls = TurnDriver(), []

    def die(*_: object, **_options: object) -> None:
        calls.append(call)
        if len(calls) == number:
            raise Killed  # the service has taken the call

    with pytest.MonkeyPatch.context() as patch:
        after(patch, Client, call, die)
        with pytest.raises(Killed):
            driver.end()
    before = CanaryTurn.objects.values().get()
    assert before["token"]
    assert turns.begin() == driver.turn
    turns.resume(seconds=10)
    assert CanaryTurn.objects.values().get() == before

    turn = driver.end()

    assert turn.state == "clean"
    assert CanaryTurn.objects.count() == 1
    # No conversation was stored and no request filed twice.
    assert Conversation.objects.count() == 2
    assert ComplianceRequest.objects.filter(chatbot=canary.chatbot).count() == 2


@LONG
def test_its_keys_are_shown_nowhere_and_can_be_replaced(canary: Canary) -> None:
    before = set(ApiKey.objects.values_list("prefix", flat=True))

    assert report("create_canary", "--new-keys") == {"slug": "canary", "new_keys": True}
    assert set(ApiKey.objects.filter(revoked_at=None).values_list("prefix", flat=True)).isdisjoint(before)
    assert TurnDriver().end().state == "clean"


# --- In clusters -----------------------------------------------------------------------------------------


@pytest.mark.long(reason="two clusters take a turn, and one of them is killed")
def test_two_clusters_take_one_turn_and_outlive_a_kill(storage, settings, tmp_path) -> None:
    with versioned_bucket_and_server(tmp_path / "web.log") as (bucket, server), Processes() as processes:
        settings.S3_BUCKET, settings.CANARY_URL = bucket, f"http://127.0.0.1:{server.port}"
        empty(hosted_storage())
        call_command("create_canary")
        flying = worker_environment() | {
            "S3_BUCKET": bucket,
            "CANARY_URL": settings.CANARY_URL,
            "CANARY_MINUTES": "60",
            "CANARY_LOG_FILES": str(tmp_path / "*.log"),
        }
        for name in ("one", "two"):
            processes.start(name, manage("qcluster"), env=flying, log=tmp_path / f"{name}.log")
        wait_until(lambda: Conversation.objects.count() == 2)
        processes.kill("one")

        # An operator, who follows that turn.
        argv = manage("canary", "--json", "--timeout", "240")
        done = subprocess.run(argv, env=flying, check=False, capture_output=True, text=True)

        assert done.returncode == 0, done.stdout + done.stderr
        [turn] = CanaryTurn.objects.all()
        assert json.loads(done.stdout)["turn"] == str(turn.pk)
        assert (turn.state, turn.trouble, turn.trouble_at) == ("clean", "", "")
        logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
        assert logs.count("canary.began") == 1
        assert "canary.failed" not in logs
        keys = Client.of(Canary.objects.get())
        assert keys.token not in logs
        assert keys.secret not in logs
        empty(hosted_storage())
