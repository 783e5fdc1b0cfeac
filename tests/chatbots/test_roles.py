"""Clients' roles. STS is replaced by botocore's Stubber."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from pytest_django import Settings

from chatbots.buckets import location_of
from chatbots.buckets.locations import forget_storages
from chatbots.models import Bucket, Chatbot
from common.storage import ObjectStorage, StorageError
from common.storage.sessions import Role, session_of
from tests import hostile
from tests.hostile import behaving

ARN = "arn:aws:iam::123456789012:role/exports"
ROLE = Role(ARN, external_id="an-external-id", session_name="data-compliance-1")


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[Stubber]:
    settings.STS_ACCESS_KEY_ID = settings.STS_SECRET_ACCESS_KEY = "ours"
    client = boto3.client("sts", region_name="eu-west-3", aws_access_key_id="x", aws_secret_access_key="x")
    monkeypatch.setattr("common.storage.sessions._sts_client", lambda service, **credentials: client)
    with Stubber(client) as stub:
        yield stub


def lend(stub: Stubber, name: str, minutes: int) -> None:
    lent = {
        "AccessKeyId": f"{name}-access-key-id",
        "SecretAccessKey": "secret",
        "SessionToken": f"token-of-{name}",
        "Expiration": datetime.now(UTC) + timedelta(minutes=minutes),
    }
    expected = {
        "RoleArn": ARN,
        "ExternalId": "an-external-id",
        "RoleSessionName": "data-compliance-1",
        "DurationSeconds": 3600,
    }
    stub.add_response("assume_role", {"Credentials": lent}, expected)


def bucket_with_role() -> Bucket:
    return Bucket(
        chatbot=Chatbot(pk=1, slug="acme"),
        hosting="client",
        bucket="clients",
        region="eu-west-3",
        role_arn=ARN,
        external_id="an-external-id",
    )


def refusal(call: Any) -> StorageError:
    with pytest.raises(StorageError) as caught:
        call()
    return caught.value


def test_credentials_are_assumed_with_the_external_id_and_cached(sts: Stubber) -> None:
    lend(sts, "first", minutes=60)
    credentials = session_of(ROLE).get_credentials()
    for _ in range(2):
        frozen = credentials.get_frozen_credentials()
        assert (frozen.access_key, frozen.token) == ("first-access-key-id", "token-of-first")
    sts.assert_no_pending_responses()


def test_credentials_are_renewed_before_they_expire(sts: Stubber) -> None:
    for name in ("first", "second"):
        lend(sts, name, minutes=5)
    credentials = session_of(ROLE).get_credentials()
    assert [credentials.get_frozen_credentials().token for _ in range(2)] == ["token-of-first", "token-of-second"]


@pytest.mark.parametrize(
    ("code", "status", "outcome", "words"),
    [
        ("AccessDenied", 403, ("storage_role_refused", False), "trust policy"),
        ("InvalidClientTokenId", 403, ("storage_role_refused", False), "STS_ACCESS_KEY_ID"),
        ("ExpiredToken", 403, ("storage_role_refused", False), "STS_ACCESS_KEY_ID"),
        ("RegionDisabledException", 403, ("storage_role_refused", False), "RegionDisabledException"),
        ("Throttling", 400, ("storage_unavailable", True), "overloaded"),
        ("ServiceUnavailable", 503, ("storage_unavailable", True), "overloaded"),
    ],
)
def test_errors_of_sts_are_explained(sts, code, status, outcome, words) -> None:
    sts.add_client_error("assume_role", code, f"not authorized on {ARN}", status)
    forget_storages()  # independent of earlier tests
    place = location_of(bucket_with_role())
    error = refusal(lambda: place.storage.exists("a/key"))
    assert (error.code, error.retryable) == outcome
    assert words in error.detail
    assert ARN not in str(error)


def test_an_identity_of_the_service_is_required(settings: Settings) -> None:
    settings.STS_ACCESS_KEY_ID = ""
    error = refusal(lambda: location_of(bucket_with_role()))
    assert error.code == "storage_role_refused"
    assert "STS_ACCESS_KEY_ID" in error.detail


def call(storage: ObjectStorage) -> None:
    storage.exists("a/key")


def link(storage: ObjectStorage) -> None:
    storage.link("a/key")


@pytest.mark.long(reason="waits for the limit of time with each behaviour", beyond=1)
@pytest.mark.parametrize(
    ("behave", "use", "code"),
    [
        (hostile.says_nothing, call, "storage_unavailable"),
        (hostile.drips_a_head, call, "storage_unavailable"),
        (hostile.drips_a_body, call, "storage_unavailable"),
        (hostile.floods_a_body, call, "storage_incomplete"),
        # A link asks for credentials too, in the same way.
        (hostile.says_nothing, link, "storage_unavailable"),
    ],
)
def test_waiting_for_credentials_has_a_timeout(settings, monkeypatch, behave, use, code) -> None:
    settings.STS_ACCESS_KEY_ID = settings.STS_SECRET_ACCESS_KEY = "ours"
    # On a busy machine one second can be over before boto3 has made its client, and the server is never asked.
    monkeypatch.setattr("common.outbound.STS_SECONDS", 2.0)
    with behaving(behave) as server:
        settings.STS_ENDPOINT_URL = server.url()
        forget_storages()
        storage = location_of(bucket_with_role()).storage
        began = time.monotonic()
        assert refusal(lambda: use(storage)).code == code
        assert time.monotonic() - began < 8
        assert server.requests
    forget_storages()
