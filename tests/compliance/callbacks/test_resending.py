"""Listing the deliveries of callbacks and sending them again, over HTTP and by command."""

from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError

from chatbots.models import ChangeLogEntry, Chatbot
from compliance import worker
from compliance.api.callbacks import CallbackBody
from compliance.callbacks.queue import deliver
from compliance.models import Callback, ComplianceRequest
from tests.calls import SigningCaller, TokenCaller, problem
from tests.commands import report
from tests.compliance.retention.runs import conversation_aged, file_run
from tests.factories import CallbackFactory, deletion_of, export_of
from tests.receivers import Receiver


@pytest.fixture
def request_(chatbot: Chatbot) -> ComplianceRequest:
    return deletion_of(chatbot, "42")


def paths(request: ComplianceRequest) -> tuple[str, str]:
    return f"requests/{request.pk}/callbacks", f"requests/{request.pk}/callbacks/resend"


def test_deliveries_are_listed_with_state_and_the_host_only(chatbot: Chatbot, request_: ComplianceRequest) -> None:
    caller = TokenCaller(chatbot, ["requests:read"])
    assert caller.get(paths(request_)[0]).json() == {"callbacks": []}
    given_up = CallbackFactory.create(request=request_, given_up=True, last_status=500)
    delivered = CallbackFactory.create(request=request_, delivered=True)

    answer = caller.get(paths(request_)[0])

    first, second = answer.json()["callbacks"]
    assert (first["callback_id"], first["state"], first["receiver"], first["last_error"], first["last_status"]) == (
        *(str(given_up.pk), "given_up", "https://hooks.example.com"),
        *("no_answer", 500),
    )
    assert (second["callback_id"], second["state"], second["receiver"]) == (str(delivered.pk), "delivered", None)
    assert "privacy-5813" not in answer.text


def test_it_sends_a_request_s_callbacks_again_with_the_same_ids(chatbot, request_, signing, receiver) -> None:
    ComplianceRequest.objects.filter(pk=request_.pk).update(callback_url=receiver.url("/own"))
    given_up = CallbackFactory.create(request=request_, given_up=True)
    caller = TokenCaller(chatbot, ["deletions:write"])

    answer = caller.post(paths(request_)[1], b"")
    deliver()

    assert answer.status_code == 200
    assert [one["state"] for one in answer.json()["callbacks"]] == ["waiting"]
    [received] = receiver.received
    assert (received.path, received.payload["callback_id"]) == ("/own", str(given_up.pk))
    assert CallbackBody.model_validate(received.payload).model_dump().keys() == received.payload.keys()
    entry = ChangeLogEntry.objects.get(request_id=request_.pk)
    assert (entry.event, entry.actor) == ("callback.resent", f"api:{caller.api_key.prefix}")
    assert entry.data == {"callback": str(given_up.pk), "event": "request.cancelled"}

    # Its own address is removed, and the chatbot has none.
    problem(caller.post(paths(request_)[1], {}), 409, "callback_url_forgotten")
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url("/chatbot"))
    assert caller.post(paths(request_)[1], {}).status_code == 200
    deliver()
    assert [one.path for one in receiver.received] == ["/own", "/chatbot"]


def test_a_retention_run_is_called_back_as_described_and_again(chatbot: Chatbot, receiver: Receiver) -> None:
    SigningCaller(chatbot)  # its key signs
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url("/chatbot"))
    conversation_aged(chatbot, 91)
    run = file_run(chatbot)
    assert not worker.drain(seconds=60)
    deliver()

    reading, exporting = (TokenCaller(chatbot, [scope]) for scope in ("requests:read", "exports:write"))
    for caller in (reading, exporting):
        problem(caller.post(paths(run)[1], {}), 403, "scope_missing")
    assert TokenCaller(chatbot, ["deletions:write"]).post(paths(run)[1], {}).status_code == 200
    deliver()

    first, again = receiver.received
    assert first.payload == again.payload
    body = CallbackBody.model_validate(first.payload)
    assert (body.kind, body.event, body.status) == ("retention", "request.completed", "completed")


def test_it_asks_for_the_write_scope_of_the_kind(chatbot: Chatbot, request_: ComplianceRequest) -> None:
    export = export_of(chatbot, "42")
    for request in (request_, export):
        CallbackFactory.create(request=request, given_up=True)
    reading, exporting = TokenCaller(chatbot, ["requests:read"]), TokenCaller(chatbot, ["exports:write"])
    problem(reading.post(paths(request_)[1], {}), 403, "scope_missing")
    problem(exporting.post(paths(request_)[1], {}), 403, "scope_missing")
    problem(exporting.get(paths(export)[0]), 403, "scope_missing")
    assert exporting.post(paths(export)[1], {}).status_code == 200
    problem(TokenCaller(chatbot).post(paths(request_)[1], {"x": 1}), 400, "invalid")
    problem(TokenCaller(chatbot).post(paths(deletion_of(chatbot, "1"))[1], {}), 404, "not_found")


def test_a_callback_being_sent_is_not_sent_again(chatbot: Chatbot, request_: ComplianceRequest) -> None:
    callback = CallbackFactory.create(request=request_, token=uuid4())
    Callback.objects.update(next_attempt_at=callback.give_up_at)
    before = Callback.objects.values().get()
    assert TokenCaller(chatbot).post(paths(request_)[1], {}).status_code == 200
    assert Callback.objects.values().get() == before


def resend(*words: str, code: int = 0) -> dict[str, Any]:
    return report("resend_callbacks", *words, code=code)


def test_the_command_sends_one_request_or_all_that_were_given_up(chatbot: Chatbot, neighbour: Chatbot) -> None:
    requests = [deletion_of(chatbot, "1"), deletion_of(chatbot, "2"), deletion_of(neighbour, "1")]
    for request in requests:
        CallbackFactory.create(request=request, given_up=True)
    CallbackFactory.create(request=requests[0], delivered=True)

    assert resend("--given-up", "--dry-run") == {"dry_run": True, "resent": 3, "forgotten": 0}
    assert resend("--given-up", "--chatbot", "neighbour", "--dry-run")["resent"] == 1
    assert Callback.objects.filter(state="given_up").count() == 3
    assert not ChangeLogEntry.objects.exists()

    assert resend(str(requests[0].pk), code=3) == {"dry_run": False, "resent": 1, "forgotten": 1}
    assert resend("--given-up") == {"dry_run": False, "resent": 2, "forgotten": 0}
    assert Callback.objects.filter(state="waiting", attempts=0).count() == 3
    assert ChangeLogEntry.objects.filter(event="callback.resent", actor="command").count() == 3
    for words in (
        [],
        ["--chatbot", "acme", str(requests[0].pk)],
        [str(uuid4())],
        ["x"],
        ["--given-up", "--chatbot", "x"],
    ):
        with pytest.raises(CommandError):
            resend(*words)
