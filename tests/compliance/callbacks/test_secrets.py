"""Callbacks have their own secret: a signature of one direction is invalid in the other."""

import base64
import binascii
import hashlib
import hmac
import json
from datetime import timedelta

from django.utils import timezone

from chatbots.callback_secrets import signers_of
from chatbots.models import CallbackSecret, ChangeLogEntry, Chatbot
from chatbots.operations.keys import create_callback_secret
from compliance.callbacks.queue import deliver
from compliance.models import Callback, ComplianceRequest
from compliance.requests import decisions
from tests.calls import ALICE, Caller, SigningCaller, problem
from tests.factories import deletion_of
from tests.receivers import Received, Receiver

PATHS = ("data-deletion", "data-export", "requests/batch")


def make(chatbot: Chatbot, overlap_hours: int = 0) -> str:
    return create_callback_secret(chatbot=chatbot, actor="command", overlap_hours=overlap_hours).secret


def callback_of(chatbot: Chatbot, receiver: Receiver) -> Received:
    """The callback of a request that is cancelled now."""
    request = deletion_of(chatbot, "1", callback_url=receiver.url())
    decisions.cancel(request_id=request.pk, actor="command")
    deliver()
    return receiver.received[-1]


def signed_by_the_key(received: Received) -> bool:
    return any(name.lower().startswith("x-mindsay") for name in received.headers)


def test_a_callback_is_signed_as_standard_webhooks_has_it(chatbot, signing, receiver) -> None:
    secret = make(chatbot)

    received = callback_of(chatbot, receiver)

    assert received.headers["webhook-id"] == received.payload["callback_id"]
    assert received.is_webhook_of(secret)
    assert not received.is_webhook_of(make(chatbot))
    assert not signed_by_the_key(received)


def test_until_there_is_a_secret_a_signing_key_signs_and_then_for_a_while_beside_it(chatbot, signing, receiver):
    assert callback_of(chatbot, receiver).is_signed_with(signing.secret)

    secret = make(chatbot, overlap_hours=1)
    both = callback_of(chatbot, receiver)
    assert both.is_signed_with(signing.secret)
    assert both.is_webhook_of(secret)

    CallbackSecret.objects.update(previous_until=timezone.now() - timedelta(seconds=1))
    received = callback_of(chatbot, receiver)
    assert received.is_webhook_of(secret)
    assert not signed_by_the_key(received)


def test_two_secrets_sign_while_one_takes_the_place_of_the_other(chatbot, signing, receiver) -> None:
    oldest, old = make(chatbot, overlap_hours=1), make(chatbot, overlap_hours=1)
    assert signed_by_the_key(callback_of(chatbot, receiver))

    new = make(chatbot, overlap_hours=1)
    received = callback_of(chatbot, receiver)
    assert [received.is_webhook_of(one) for one in (new, old, oldest)] == [True, True, False]
    assert not signed_by_the_key(received)
    assert CallbackSecret.objects.count() == 2

    make(chatbot)
    assert not callback_of(chatbot, receiver).is_webhook_of(new)


def test_a_captured_callback_files_nothing(chatbot: Chatbot, signing: SigningCaller, receiver: Receiver) -> None:
    secret = make(chatbot)
    received = callback_of(chatbot, receiver)
    timestamp = received.headers["webhook-timestamp"]
    signature = received.headers["webhook-signature"].removeprefix("v1,")
    in_hex = binascii.hexlify(base64.b64decode(signature)).decode()
    signed = f"{received.headers['webhook-id']}.{timestamp}.".encode() + received.body
    before = ComplianceRequest.objects.count()

    for path in PATHS:
        for body in (received.body, signed):
            for shown in (in_hex, signature):
                headers = {"X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": shown}
                problem(Caller(chatbot).post(path, body, **headers), 401, "invalid_signature")
        problem(Caller(chatbot).post(path, received.body, Authorization=f"Bearer {secret}"), 401, "not_authenticated")
    # Nor does the secret sign a call of the client's own.
    caller = Caller(chatbot)
    raw = json.dumps(ALICE).encode()
    for key in (secret.encode(), base64.b64decode(secret.removeprefix("whsec_"))):
        made = hmac.new(key, timestamp.encode() + raw, hashlib.sha256).hexdigest()
        headers = {"X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": made}
        problem(caller.post("data-deletion", raw, **headers), 401, "invalid_signature")
    assert ComplianceRequest.objects.count() == before


def test_callbacks_wait_while_a_secret_cannot_be_decrypted(chatbot, signing, receiver, settings) -> None:
    make(chatbot)
    settings.ENCRYPTION_KEYS = {"other": b"\1" * 32}
    request = deletion_of(chatbot, "1", callback_url=receiver.url())
    decisions.cancel(request_id=request.pk, actor="command")
    deliver()
    assert (Callback.objects.get().last_error, receiver.received) == ("signing_key_unreadable", [])


def test_creating_a_secret_is_recorded_and_the_secret_stored_encrypted(chatbot: Chatbot) -> None:
    secret = make(chatbot, overlap_hours=5)
    entry = ChangeLogEntry.objects.get(event="callback_secret.created")
    assert (entry.actor, entry.data) == ("command", {"overlap_hours": 5})
    assert secret.removeprefix("whsec_") not in CallbackSecret.objects.get().secret_encrypted


def test_another_chatbots_secret_is_neither_used_nor_changed(chatbot, neighbour, receiver) -> None:
    ours, theirs = make(chatbot), [make(neighbour, overlap_hours=1) for _ in range(2)]
    make(chatbot, overlap_hours=1)
    make(chatbot, overlap_hours=1)
    for owner, signs, does_not in ((chatbot, [], [ours, *theirs]), (neighbour, theirs, [ours])):
        received = callback_of(owner, receiver)
        assert [received.is_webhook_of(one) for one in signs] == [True] * len(signs)
        assert not any(received.is_webhook_of(one) for one in does_not)
    found = signers_of([chatbot.pk, neighbour.pk])
    assert set(found[neighbour.pk].secrets) == set(theirs)
    assert not set(found[chatbot.pk].secrets) & set(theirs)
