"""A conversation comes by the API; a real cluster looks up who it is with, and exports and deletes by that."""

from typing import Any

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from conversations.models import Conversation, Identity, IdentityLookup
from scripts.processes import Processes
from tests.calls import Caller, SigningCaller, TokenCaller
from tests.conversations.documents import document
from tests.functional.support import manage, worker_environment
from tests.functional.test_killed_worker import wait_until
from tests.looking_up import SESSION, with_resolver
from tests.receivers import receiving

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.long(reason="a cluster starts, and looks for what is due every 5 seconds"),
]


def test_a_cluster_looks_up_an_identity_and_a_deletion_finds_it(chatbot: Chatbot, storage: ObjectStorage) -> None:
    caller, signing = TokenCaller(chatbot), SigningCaller(chatbot)
    with receiving(503, 200, body=b'{"value": "alice-77"}') as receiver, Processes() as processes:
        secret = with_resolver(chatbot, receiver.url("/who"))
        processes.start(
            "worker", manage("qcluster"), env=worker_environment() | {"CALLBACK_PRIVATE_NETWORKS": "127.0.0.0/8"}
        )
        sent = {"custom_variables": {}, "user_channel_variables": {SESSION: "token-5813"}}
        answer = caller.post("conversations", document("c-1", started_at=timezone.now().isoformat(), **sent))
        number = answer.json()["results"][0]["number"]
        wait_until(lambda: len(receiver.received) == 1)
        IdentityLookup.objects.filter(token=None).update(next_attempt_at=timezone.now())
        wait_until(Identity.objects.exists)
        assert all(one.is_webhook_of(secret) for one in receiver.received)
        assert len({one.headers["webhook-id"] for one in receiver.received}) == len(receiver.received)
        assert _identities(caller, number) == [("alice-77", "resolved")]

        body = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "alice-77"}
        assert signing.post("data-deletion", body).status_code == 200
        wait_until(lambda: Conversation.objects.filter(deleted_at__isnull=False).exists())
    assert not IdentityLookup.objects.exists()


def _identities(caller: Caller, number: int) -> list[tuple[Any, Any]]:
    shown = caller.get(f"conversations/{number}").json()["unique_chatter_identifiers"]
    return [(one["value"], one["established_by"]) for one in shown]
