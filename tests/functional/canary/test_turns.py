"""Turns of the canary: what could not be seen is not clean, one runs at a time, and no client is touched."""

from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from chatbots.models import ApiKey, Chatbot
from common.db import execute
from compliance.canary import steps, turns
from compliance.canary.client import Client
from compliance.models import Canary, CanaryTurn, ComplianceRequest
from compliance.work import health
from conversations.models import Conversation
from tests.commands import report, run
from tests.functional.canary.flights import LONG, Flight, last
from tests.functional.support import dump, everything_in
from tests.patches import Killed, after


@LONG
def test_what_could_not_be_planted_is_not_missed(canary, settings, monkeypatch) -> None:
    address, settings.CANARY_URL = settings.CANARY_URL, "http://127.0.0.1:9"
    monkeypatch.setitem(turns._PATIENCE, CanaryTurn.Step.PLANT, 0)
    flight = Flight()
    flight.go_on()
    settings.CANARY_URL = address
    turn = flight.end()

    assert (turn.state, turn.trouble, flight.findings()) == ("unclear", "api_unavailable", [])


def test_an_api_that_does_not_answer_is_waited_for_and_then_unclear(canary, settings, monkeypatch) -> None:
    settings.CANARY_URL = "http://127.0.0.1:9"
    flight = Flight()
    flight.go_on()
    flight.go_on()
    assert not flight.is_over
    assert not Conversation.objects.exists()

    monkeypatch.setattr(turns, "_PATIENCE", dict.fromkeys(steps.STEPS, 0))
    turn = flight.end()

    assert (turn.state, turn.trouble, turn.trouble_at) == ("unclear", "api_unavailable", "storeConversations")
    assert last()[0] == 4


@LONG
def test_a_silent_storage_is_unclear_and_not_clean(canary: Canary, impatient: None) -> None:
    def silent() -> AbstractContextManager[object]:
        return override_settings(S3_ENDPOINT_URL="http://127.0.0.1:9")

    turn = Flight().end(at={"erase": silent})

    assert (turn.state, turn.trouble) == ("unclear", "storage_unavailable")
    assert turn.findings == []
    assert turn.erased_at is not None


def test_a_search_in_the_wrong_bucket_is_blind_and_the_chatter_erased_all_the_same(canary, storage, impatient):
    def wrong() -> AbstractContextManager[object]:
        return override_settings(S3_BUCKET=storage.bucket_name)

    turn = Flight().end(at={"export": wrong})

    assert (turn.state, turn.trouble) == ("unclear", "blind")
    assert turn.trouble_at.startswith("bucket: ")
    assert turn.erased_at is not None


@LONG
@pytest.mark.one_postgresql(reason="rights of a role")
def test_a_missing_right_is_unclear_and_not_clean(canary: Canary, impatient: None) -> None:
    execute("REVOKE SELECT (session_data) ON django_session FROM tests_worker")
    try:
        turn = Flight().end()
    finally:
        execute("GRANT SELECT (session_data) ON django_session TO tests_worker")

    assert (turn.state, turn.trouble, turn.trouble_at) == (
        "unclear",
        "rights_missing",
        "django_session.session_data",
    )


@LONG
def test_a_held_deletion_is_unclear_and_the_next_turn_erases_it(canary: Canary, monkeypatch: Any) -> None:
    Chatbot.objects.filter(pk=canary.chatbot_id).update(four_eyes=True)
    flight = Flight()
    flight.reach("erase")
    with monkeypatch.context() as patch:
        patch.setattr(turns, "_PATIENCE", turns._PATIENCE | {"erase": 0})
        first = flight.end()
    assert (first.state, first.trouble) == ("unclear", "not_carried_out")
    assert first.erased_at is None
    assert [problem.code for problem in health.check().problems if "canary" in problem.code] == []

    Chatbot.objects.filter(pk=canary.chatbot_id).update(four_eyes=False)
    run("approve_request", str(first.deletion_id))
    second = Flight().end()

    first.refresh_from_db()
    assert second.state == "clean"
    assert first.erased_at is not None
    assert flight.words.stem not in dump() + everything_in(flight.storage)


@LONG
@pytest.mark.parametrize(("call", "number"), [("upload", 1), ("file", 1), ("file", 2)])
def test_a_killed_turn_begins_its_step_again_and_no_two_are_at_work(canary: Canary, call: str, number: int) -> None:
    flight, calls = Flight(), []

    def die(*_: object, **_options: object) -> None:
        calls.append(call)
        if len(calls) == number:
            raise Killed  # the service has taken the call

    with pytest.MonkeyPatch.context() as patch:
        after(patch, Client, call, die)
        with pytest.raises(Killed):
            flight.end()
    before = CanaryTurn.objects.values().get()
    assert before["token"]
    assert turns.begin() == flight.turn
    turns.go_on(seconds=10)
    assert CanaryTurn.objects.values().get() == before

    turn = flight.end()

    assert turn.state == "clean"
    assert CanaryTurn.objects.count() == 1
    # Nothing was filed or stored twice.
    assert Conversation.objects.count() == 2
    assert ComplianceRequest.objects.filter(chatbot=canary.chatbot).count() == 2


@LONG
def test_its_keys_are_shown_nowhere_and_can_be_replaced(canary: Canary) -> None:
    before = set(ApiKey.objects.values_list("prefix", flat=True))

    assert report("create_canary", "--new-keys") == {"slug": "canary", "new_keys": True}
    assert set(ApiKey.objects.filter(revoked_at=None).values_list("prefix", flat=True)).isdisjoint(before)
    assert Flight().end().state == "clean"
    with pytest.raises(CommandError, match="There is a canary already"):
        call_command("create_canary")
