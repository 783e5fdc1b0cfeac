"""Every key changes by the steps of docs/operators/rotate-keys.md, while clients call and workers and staff work."""

import base64
import subprocess
import time
from collections.abc import Iterator, Mapping
from itertools import count

import pytest
from django.conf import settings as current
from django.db import connection
from django.utils import timezone

from accounts import second_factor
from chatbots.authentication import secret_binding
from chatbots.models import ApiKey, Chatbot
from chatbots.operations.keys import create_callback_secret
from common.crypto import decrypt, encrypt
from compliance import rotation
from compliance.models import Callback, ComplianceRequest
from conversations.models import Identity
from tests import factories
from tests.calls import SigningCaller, TokenCaller
from tests.clients import use_client_bucket
from tests.codes import code_of, set_up
from tests.commands import report
from tests.functional.company import document
from tests.functional.fleet import Fleet
from tests.functional.over_http import HttpClient
from tests.functional.support import ROOT, manage, wait_until, worker_environment
from tests.functional.web import WebServer
from tests.people import Role, client_of, staff
from tests.receivers import Receiver, receiving
from tests.s3_server import S3Server, running
from tests.tokens import Backend

pytestmark = pytest.mark.long(reason="eleven programs are started one after the other, and call each other meanwhile")

K1, K2 = (base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2))
OLD, NEW = "old-" * 15, "new-" * 15
# Keys whose secrets are rotated too, so that a run can be killed half-way.
OTHERS = 3_000


def with_(ring: str, secret_key: str, *fallbacks: str) -> dict[str, str]:
    """Return settings; a ring of `21` has k2 first."""
    keys = {"1": f"k1:{K1}", "2": f"k2:{K2}"}
    return {
        "ENCRYPTION_KEYS": ",".join(keys[number] for number in ring),
        "SECRET_KEY": secret_key,
        "SECRET_KEY_FALLBACKS": ",".join(fallbacks),
    }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def server() -> Iterator[S3Server]:
    with running() as server:
        yield server


class Clients:
    """A company with every kind of secret, and an officer in a browser."""

    def __init__(self, chatbot: Chatbot, receiver: Receiver) -> None:
        self._url = receiver.url()
        self.secret = create_callback_secret(chatbot=chatbot, actor="command").secret
        self.signing, self.token = SigningCaller(chatbot), TokenCaller(chatbot)
        self.backend = Backend(chatbot)
        self.session = client_of(staff(chatbot, Role.OFFICER)).cookies[current.SESSION_COOKIE_NAME].value
        self._numbers = count(1)

    def turn(self, one: WebServer, other: WebServer) -> None:
        """Store a conversation, export it, read the list of requests page by page, and look at a page as staff."""
        chatter = f"chatter-{next(self._numbers)}"
        self.signing.client = self.token.client = HttpClient(one)  # type: ignore[assignment]
        sent = document(f"c-{chatter}", identity_token=self.backend.token(chatter))
        answer = self.token.post("conversations", sent)
        assert answer.status_code == 200, answer.json()
        body = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": chatter}
        answer = self.signing.post("data-export", body | {"callback_url": self._url})
        assert answer.status_code == 200, answer.json()
        first = self.token.get("requests?limit=1").json()
        if first["next"]:
            self.token.client = HttpClient(other)  # type: ignore[assignment]
            path = first["next"].partition("/api/")[2]
            assert self.token.get(f"/api/{path}").status_code == 200
        for web in (one, other):
            page = HttpClient(web).get("/admin/", headers={"Cookie": f"__Host-sessionid={self.session}"})
            assert page.status_code == 200, "the officer was logged out"


def fill(neighbour: Chatbot) -> None:
    """Give another chatbot many keys that have expired, under the present key."""
    ApiKey.objects.bulk_create(
        factories.ApiKeyFactory.build(
            chatbot=neighbour,
            type=ApiKey.Type.SIGNING,
            prefix=f"n{number}",
            secret_sha256=None,
            secret_encrypted=encrypt(f"secret {number}", bound_to=secret_binding(f"n{number}")),
            expires_at=timezone.now(),
        )
        for number in range(OTHERS)
    )


def kill_half_way(environment: Mapping[str, str]) -> None:
    done = ApiKey.objects.filter(secret_encrypted__startswith="v1:k2:")
    before = done.count()
    process = subprocess.Popen(
        manage("rotate_secrets"),
        cwd=ROOT,
        env={**worker_environment(role=connection.settings_dict["USER"]), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: done.count() > before + 200)
    finally:
        process.kill()
        process.wait()
    assert before + 200 < done.count() < OTHERS, "it was killed too late to show anything"


def readable() -> int:
    """Decrypt every secret with the present keys, and return how many there are."""
    number = 0
    for secret in rotation.SECRETS:
        rows = secret.model._default_manager.exclude(**{secret.field: ""})
        for bound, stored in rows.values_list(secret.bound_by, secret.field):
            decrypt(stored, bound_to=secret.binding(bound))
            number += 1
    return number


def test_no_call_fails_and_no_secret_is_lost(chatbot, neighbour, receiver, server, settings) -> None:
    settings.SECRET_KEY = OLD
    settings.ENCRYPTION_KEYS = {"k1": b"\1" * 32}
    use_client_bucket(chatbot, server)
    clients = Clients(chatbot, receiver)
    enrolled = staff(chatbot)
    secret = set_up(enrolled).authenticator.bin_key
    fill(neighbour)
    before = readable()
    requests = ComplianceRequest.objects.all()

    with Fleet(clients.turn, with_("1", OLD)) as fleet:
        # First all processes can read with the new keys, and only then they are used.
        fleet.restart(with_("12", OLD, NEW))
        fleet.restart(with_("21", NEW, OLD))
        kill_half_way(with_("21", NEW, OLD))
        fleet.wait_for_turns()
        settings.ENCRYPTION_KEYS = {"k2": b"\2" * 32, "k1": b"\1" * 32}
        rotated = report("rotate_secrets")
        fleet.restart(with_("2", NEW))
        fleet.wait_for_turns()
        fleet.stop_calling()
        wait_until(lambda: not requests.exclude(status="completed").exists())
        wait_until(lambda: not Callback.objects.exclude(state="delivered").exists())

    assert fleet.failures == []
    assert (rotated["done"], rotated["left"]) == (True, {"k1": 0})
    settings.ENCRYPTION_KEYS = {"k2": b"\2" * 32}
    assert readable() == before
    # Every one in the client's own bucket, without an error, and told with a right signature.
    assert requests.count() == fleet.turns > 30
    assert set(requests.values_list("attempts", flat=True)) == {0}
    assert len(list(server.storage().versions())) >= fleet.turns
    assert {one.payload["request_id"] for one in receiver.received} == set(
        map(str, requests.values_list("pk", flat=True))
    )
    assert all(one.is_webhook_of(clients.secret) for one in receiver.received)
    assert set(Identity.objects.values_list("established_by", flat=True)) == {"signed"}
    code = code_of(secret, int(time.time()) // 30)
    assert second_factor.verify(user=enrolled, code=code)
