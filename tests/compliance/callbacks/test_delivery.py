"""Callbacks from filing to the signed delivery, and retries while the receiver is unavailable."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from chatbots.models import ApiKey, ChangeLogEntry, Chatbot
from chatbots.operations.keys import create_api_key, revoke_api_key
from compliance.callbacks.queue import RECEIVERS, Callbacks, deliver
from compliance.callbacks.resend import resend_of_request
from compliance.models import Callback, Claim, ComplianceRequest
from compliance.requests import decisions
from compliance.retention.expiry import remove_expired
from compliance.work import claims, scheduling
from tests import databases
from tests.calls import ALICE, Caller, SigningCaller, problem
from tests.factories import CallbackFactory, conversation_of, deletion_of
from tests.functional.support import dump
from tests.receivers import Receiver, receiving

State = Callback.State


def file(caller: SigningCaller, url: str, path: str = "data-deletion", **fields: Any) -> ComplianceRequest:
    answer = caller.post(path, ALICE | {"callback_url": url} | fields)
    assert answer.status_code == 200, answer.content
    return ComplianceRequest.objects.get(pk=answer.json()["request_id"])


def cancelled(chatbot: Chatbot, url: str, value: str = "1") -> ComplianceRequest:
    """A request that has just ended, with a callback."""
    request = deletion_of(chatbot, value, callback_url=url)
    decisions.cancel(request_id=request.pk, actor="command")
    return request


def due_now() -> None:
    """Simulate the passing of time."""
    Callback.objects.filter(state=State.WAITING).update(next_attempt_at=timezone.now() - timedelta(seconds=1))


def only() -> Callback:
    return Callback.objects.get()


@pytest.mark.django_db(transaction=True)
def test_a_completion_is_sent_once_signed_and_without_personal_data(chatbot, signing, receiver, drain) -> None:
    conversation_of(chatbot, "alice-77", user_name="Ada")
    url = receiver.url("/hooks/privacy-5813")
    request = file(signing, url, reference="TICKET-7")
    drain()

    assert not deliver()
    assert not deliver()

    [received] = receiver.received
    request.refresh_from_db()
    assert received.path == "/hooks/privacy-5813"
    assert received.headers["Content-Type"] == "application/json"
    assert received.headers["X-Mindsay-Key"] == signing.api_key.prefix
    assert received.is_signed_with(signing.secret)
    assert not received.is_signed_with("another secret")
    assert received.payload == {
        "callback_id": str(only().pk),
        "event": "request.completed",
        "chatbot": "acme",
        "request_id": str(request.pk),
        "kind": "deletion",
        "reference": "TICKET-7",
        "status": "completed",
        "hold_reason": None,
        "result": "done",
        "error_code": None,
        "occurred_at": request.completed_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    callback = only()
    assert (callback.state, callback.attempts, callback.last_status, callback.url) == ("delivered", 1, 200, "")
    assert request.callback_url == ""
    text = dump()
    assert str(callback.pk) in text
    assert "privacy-5813" not in text
    assert "alice-77" not in text


def test_a_captured_callback_cannot_file_a_request(chatbot, signing, receiver) -> None:
    decisions.cancel(request_id=file(signing, receiver.url()).pk, actor="test")
    deliver()
    [received] = receiver.received
    # One secret signs both directions, over timestamp and body: only the body differs from a filing.
    signed = {
        "X-Mindsay-Timestamp": received.headers["X-Mindsay-Request-Timestamp"],
        "X-Mindsay-Signature": received.headers["X-Mindsay-Signature"],
    }
    for path in ("data-deletion", "data-export", "requests/batch"):
        problem(Caller(chatbot).post(path, received.body, **signed), 400, "invalid")
    assert ComplianceRequest.objects.count() == 1


def test_callbacks_go_to_the_chatbots_address_unless_the_request_has_its_own(chatbot, neighbour, signing, receiver):
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url("/chatbot"))
    requests = [deletion_of(chatbot, "1"), deletion_of(chatbot, "2", callback_url=receiver.url("/own"))]
    theirs = deletion_of(neighbour, "1")
    for request in (*requests, theirs):
        decisions.cancel(request_id=request.pk, actor="command")

    deliver()

    found = {one.payload["request_id"]: one.path for one in receiver.received}
    assert found == {str(requests[0].pk): "/chatbot", str(requests[1].pk): "/own"}
    assert Callback.objects.count() == 2
    assert set(receiver.events) == {"request.cancelled"}
    assert Chatbot.objects.get(pk=chatbot.pk).callback_url == receiver.url("/chatbot")


def test_a_callback_that_waits_goes_to_the_chatbots_present_address(chatbot, signing, receiver) -> None:
    """A client that corrects its address gets what its former one did not take."""
    with receiving(500) as former:
        Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=former.url("/former"))
        cancelled(chatbot, "")
        cancelled(chatbot, former.url("/own"), "2")
        deliver()
        Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url("/corrected"))
        due_now()
        RECEIVERS.forget()
        deliver()
    assert [one.path for one in former.received].count("/own") == 2
    assert [one.path for one in receiver.received] == ["/corrected"]


def test_a_callback_without_an_address_any_more_is_given_up_and_can_be_resent(chatbot, signing, receiver) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url())
    request = cancelled(chatbot, "")
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url="")
    deliver()
    assert (only().state, only().last_error, only().attempts) == ("given_up", "address_missing", 0)

    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url())
    resend_of_request(request_id=request.pk, actor="command")
    deliver()
    assert (receiver.events, only().state) == (["request.cancelled"], "delivered")


def test_each_state_is_sent_in_order(chatbot, signing, receiver, drain) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True)
    held = file(signing, receiver.url())
    drain()
    decisions.reject(request_id=held.pk, actor="user:1", reason="other")

    deliver()

    assert [(one.payload["event"], one.payload["hold_reason"]) for one in receiver.received] == [
        ("request.on_hold", "awaiting_approval"),
        ("request.rejected", None),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_sent_and_the_address_kept_for_the_retry(chatbot, signing, receiver, drain, monkeypatch) -> None:
    request = file(signing, receiver.url(), "data-export")
    chatbot.bucket.delete()
    drain()
    deliver()
    request.refresh_from_db()
    assert [one.payload["error_code"] for one in receiver.received] == ["export_destination_missing"]
    assert request.callback_url == receiver.url()

    chatbot.bucket.save(force_insert=True)
    decisions.retry(request_id=request.pk, actor="command")
    drain()
    deliver()

    request.refresh_from_db()
    assert receiver.events == ["request.failed", "request.completed"]
    assert request.callback_url == ""


def test_a_callback_is_sent_when_the_last_attempt_is_lost_and_none_before(chatbot, signing, receiver) -> None:
    alone = {"callback_url": receiver.url(), "lane": "isolated"}
    last = deletion_of(chatbot, "1", attempts=claims.MAX_ATTEMPTS - 1, **alone)
    first = deletion_of(chatbot, "2", **alone)
    for _ in range(2):
        assert claims.take(ComplianceRequest.Kind.DELETION, ComplianceRequest.Lane.ISOLATED)
    Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    claims.requeue_expired()

    deliver()

    for request in (last, first):
        request.refresh_from_db()
    assert (last.status, first.status, first.attempts) == ("failed", "accepted", 1)
    [received] = receiver.received
    found = [received.payload[name] for name in ("request_id", "event", "error_code")]
    assert found == [str(last.pk), "request.failed", "worker_lost"]


def test_retries_wait_longer_each_time_and_keep_the_id(chatbot: Chatbot, signing: SigningCaller) -> None:
    with receiving(500, 503, 302, 200, headers={"Location": "http://127.0.0.1:9/elsewhere"}) as receiver:
        cancelled(chatbot, receiver.url())
        waits = []
        for status in (500, 503, 302):
            deliver()
            callback = only()
            assert (callback.state, callback.last_error, callback.last_status) == ("waiting", "bad_status", status)
            waits.append((callback.next_attempt_at - timezone.now()).total_seconds())
            due_now()
        RECEIVERS.forget()
        deliver()

    assert len({one.payload["callback_id"] for one in receiver.received}) == 1
    assert len(receiver.received) == 4  # redirects are not followed
    assert only().state == State.DELIVERED
    # Random, from one second up to 30, 60, 120.
    assert all(-1 < wait <= most for wait, most in zip(waits, (30, 60, 120), strict=True))


def test_the_wait_is_two_hours_at_most_and_the_last_attempt_is_made_after_a_day(chatbot, signing) -> None:
    with receiving(500) as receiver:
        request = cancelled(chatbot, receiver.url())
        assert abs((only().give_up_at - only().created_at) - timedelta(days=1)) < timedelta(seconds=1)

        Callback.objects.update(attempts=60)
        deliver()
        assert timedelta() < only().next_attempt_at - timezone.now() <= timedelta(hours=2)

        due_now()
        Callback.objects.update(give_up_at=timezone.now() - timedelta(seconds=1))
        deliver()

    callback = only()
    assert (callback.state, callback.next_attempt_at, callback.attempts) == ("given_up", None, 62)
    entry = ChangeLogEntry.objects.get(event="callback.given_up")
    assert (entry.request_id, entry.data["code"], entry.data["event"]) == (
        request.pk,
        "bad_status",
        "request.cancelled",
    )
    assert "127.0.0.1" not in json.dumps(entry.data)


def test_a_receiver_that_answers_410_is_given_up_at_once(chatbot: Chatbot, signing: SigningCaller) -> None:
    with receiving(410) as receiver:
        cancelled(chatbot, receiver.url())
        deliver()
    assert (only().state, only().last_status, only().url) == ("given_up", 410, "")
    assert set(ComplianceRequest.objects.values_list("callback_url", flat=True)) == {""}


def test_callbacks_of_a_killed_worker_are_sent_again_and_it_writes_nothing(chatbot, signing, receiver, monkeypatch):
    cancelled(chatbot, receiver.url())
    note, notes = Callbacks.note, []
    with monkeypatch.context() as patch:
        patch.setattr(Callbacks, "note", lambda *call: notes.append(call))
        deliver()
    assert len(receiver.received) == 1
    assert only().state == State.WAITING
    assert not deliver()  # its lease runs
    assert len(receiver.received) == 1

    due_now()
    deliver()
    assert [one.payload["callback_id"] for one in receiver.received] == [str(only().pk)] * 2
    delivered = Callback.objects.values().get()
    assert delivered["state"] == State.DELIVERED

    # The worker is alive after all, and reports late.
    note(*notes[0])
    assert Callback.objects.values().get() == delivered


@pytest.mark.django_db(transaction=True)
def test_a_callback_of_a_chatbot_that_is_gone_is_dropped_and_others_are_sent(chatbot, neighbour, signing, receiver):
    """An operator has deleted it by hand, which no foreign key forbids if tables are distributed."""
    for owner in (chatbot, neighbour):
        CallbackFactory.create(request=deletion_of(owner, "1"), url=receiver.url())
    with databases.triggers_off():
        Chatbot.objects.filter(pk=neighbour.pk)._raw_delete("default")

    deliver()

    assert only().chatbot_id == chatbot.pk
    assert len(receiver.received) == 1


def test_callbacks_are_signed_with_the_newest_active_key(chatbot, signing, receiver) -> None:
    newest = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="new", actor="command")
    for value in "12":
        cancelled(chatbot, receiver.url(), value)
        deliver()
        if value == "1":
            revoke_api_key(prefix=newest.api_key.prefix, actor="command")

    first, second = receiver.received
    assert first.headers["X-Mindsay-Key"] == newest.api_key.prefix
    assert first.is_signed_with(newest.secret)
    assert second.headers["X-Mindsay-Key"] == signing.api_key.prefix
    assert second.is_signed_with(signing.secret)


def test_callbacks_wait_until_there_is_a_key(chatbot: Chatbot, receiver: Receiver) -> None:
    cancelled(chatbot, receiver.url())
    deliver()
    assert (only().state, only().last_error) == ("waiting", "signing_key_missing")

    SigningCaller(chatbot)
    due_now()
    deliver()
    assert only().state == State.DELIVERED


def test_addresses_are_removed_after_their_retention_days(chatbot: Chatbot, signing: SigningCaller) -> None:
    with receiving(410) as receiver:
        request = cancelled(chatbot, receiver.url("/secret-path"))
        deliver()
        waiting = cancelled(chatbot, receiver.url("/secret-path"), "2")
        remove_expired()
        assert Callback.objects.count() == 2

    Callback.objects.update(expires_at=timezone.now() - timedelta(hours=1))
    remove_expired()
    request.refresh_from_db()
    assert request.callback_url == ""
    assert only().request_id == waiting.pk  # still to be sent


def test_completions_are_queued_by_one_statement_a_claim(chatbot, receiver, drain, monkeypatch) -> None:
    monkeypatch.setitem(scheduling.CLAIM_SIZE, ComplianceRequest.Kind.DELETION, 3)
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url())
    for value in range(6):
        deletion_of(chatbot, f"{value}")
    queued: list[int] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        queued.extend([1] * ("INSERT INTO compliance_callback" in str(sql)))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        drain()

    assert len(queued) == 2
    assert Callback.objects.filter(status="completed").count() == 6
