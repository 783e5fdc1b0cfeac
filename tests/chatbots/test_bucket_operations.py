"""Setting a bucket: stored values, refusals, change-log entries."""

import dataclasses
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from chatbots.buckets import location_of
from chatbots.buckets.locations import access_policy, trust_policy
from chatbots.models import Bucket, ChangeLogEntry, Chatbot
from chatbots.operations.buckets import ClientBucket, set_bucket
from common import network_guard

SECRET = "a-client-s-secret"
ROLE = "arn:aws:iam::123456789012:role/exports"
KEY = ClientBucket(bucket="acme-files", region="eu-west-3", prefix="exports", access_key_id="AKIA1", secret=SECRET)
BY_ROLE = ClientBucket(bucket="acme-files", region="eu-west-3", role_arn=ROLE)


def with_(base: ClientBucket, **changes: Any) -> ClientBucket:
    return dataclasses.replace(base, **changes)


def set_(chatbot: Chatbot, client: ClientBucket | None) -> Bucket:
    bucket = set_bucket(chatbot=chatbot, client=client, actor="command")
    bucket.refresh_from_db()
    return bucket


def refused(chatbot: Chatbot, client: ClientBucket) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        set_(chatbot, client)
    return caught.value.message_dict


def logged() -> list[dict[str, object]]:
    return list(ChangeLogEntry.objects.filter(event="bucket.set").order_by("id").values_list("data", flat=True))


def test_it_records_nothing_when_nothing_changes(chatbot: Chatbot) -> None:
    set_(chatbot, KEY)
    Bucket.objects.update(last_error="before")
    set_(chatbot, with_(KEY, secret=None))
    assert len(logged()) == 1
    assert Bucket.objects.get(chatbot=chatbot).last_error == "before"


@pytest.mark.parametrize(("days", "has_extracts"), [(7, True), (90, True), (7, False)])
def test_hosted_extracts_are_refused_under_a_short_retention(chatbot, settings, days, has_extracts) -> None:
    """Each run would rebuild them."""
    settings.HOSTED_FILE_DAYS = timedelta(days=30)
    set_(chatbot, KEY)
    Chatbot.objects.filter(pk=chatbot.pk).update(retention_days=days, extracts_enabled=has_extracts)
    if days == 7 and has_extracts:
        with pytest.raises(ValidationError, match="rebuild them"):
            set_(chatbot, None)
        assert Bucket.objects.get(chatbot=chatbot).hosting == "client"
    else:
        assert set_(chatbot, None).hosting == "hosted"


def test_an_external_id_is_created_for_a_role_and_kept_with_it(chatbot: Chatbot) -> None:
    first = set_(chatbot, BY_ROLE).external_id
    assert len(first) >= 32
    assert set_(chatbot, with_(BY_ROLE, prefix="other/")).external_id == first
    assert set_(chatbot, with_(BY_ROLE, role_arn=f"{ROLE}2")).external_id not in {first, ""}


@pytest.mark.parametrize("host", ["s3.amazonaws.com", "S3.eu-west-3.amazonaws.com:443"])
def test_aws_is_recognised_by_its_addresses(chatbot, neighbour, monkeypatch, host) -> None:
    """Otherwise two chatbots could overwrite each other's extracts, which have the same keys."""
    monkeypatch.setattr(network_guard, "addresses_of", lambda *_: ["93.184.215.14"])
    set_(chatbot, KEY)
    assert refused(neighbour, with_(KEY, endpoint=f"https://{host}")).keys() == {"prefix"}


@pytest.mark.parametrize("endpoint", [None, "https://s3.eu-west-3.amazonaws.com", "http://S3.internal:8333"])
def test_the_operators_bucket_is_refused_as_a_clients(chatbot, settings, monkeypatch, endpoint) -> None:
    """reconcile_storage --fix would remove a client's files there: no hosted row names them."""
    monkeypatch.setattr(network_guard, "addresses_of", lambda *_: ["127.0.0.1"])
    settings.S3_ENDPOINT_URL, settings.S3_BUCKET = endpoint, KEY.bucket
    theirs = endpoint if endpoint and "internal" in endpoint else ""
    assert refused(chatbot, with_(KEY, endpoint=theirs)).keys() == {"bucket"}
    settings.S3_BUCKET = "another"
    set_(chatbot, with_(KEY, endpoint=theirs))


def test_it_asks_for_the_encryption_that_was_set(chatbot: Chatbot) -> None:
    place = location_of(set_(chatbot, with_(KEY, sse="aws:kms", kms_key_id="alias/files")))
    assert place.storage.encryption == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/files"}
    assert location_of(set_(chatbot, with_(KEY, secret=None))).storage.encryption == {}


def test_two_chatbots_cannot_write_to_one_location(chatbot: Chatbot, neighbour: Chatbot) -> None:
    set_(chatbot, KEY)
    assert "prefix of its own" in refused(neighbour, KEY)["prefix"][0]
    set_(neighbour, with_(KEY, prefix="neighbour/"))
    assert Bucket.objects.get(chatbot=chatbot).prefix == "exports/"


def test_invalid_settings_are_refused_by_field(chatbot: Chatbot) -> None:
    for changes, field in INVALID:
        messages = refused(chatbot, with_(KEY, **changes))
        assert list(messages) == [field], changes
        assert SECRET not in str(messages)
    assert Bucket.objects.get(chatbot=chatbot).hosting == "hosted"
    assert logged() == []


INVALID: list[tuple[dict[str, Any], str]] = [
    *[({"bucket": name}, "bucket") for name in ("", "ab", "Acme", "a_b", "-ab", "a..b", "10.0.0.1", "x" * 64)],
    *[({"bucket": name}, "bucket") for name in ("xn--ab", "acme-s3alias", "acme--x-s3", "a/b", "acme\n")],
    *[({"region": name}, "region") for name in ("", "Paris", "eu-west", "eu-west-3.evil.com", "eu-west-3/")],
    *[({"prefix": name}, "prefix") for name in ("a//b", "../b", "a/./b", "a b", "a*", "${aws:x}", "x" * 201)],
    ({"sse": "rot13"}, "sse"),
    ({"kms_key_id": "alias/files"}, "kms_key_id"),
    ({"sse": "aws:kms", "kms_key_id": "two words"}, "kms_key_id"),
    ({"endpoint": "https://127.0.0.1.evil\n"}, "endpoint"),
    ({"access_key_id": ""}, "access_key_id"),
    ({"access_key_id": "a b"}, "access_key_id"),
    ({"role_arn": ROLE}, "access_key_id"),
    ({"secret": ""}, "secret"),
    ({"secret": "two words are one too many"}, "secret"),
    ({"access_key_id": "", "role_arn": "arn:aws:iam::1:role/x", "secret": None}, "role_arn"),
    ({"access_key_id": "", "role_arn": ROLE}, "secret"),
]


def test_a_prefix_is_normalised(chatbot: Chatbot) -> None:
    for given, kept in {"": "", "/": "", "/a/b": "a/b/", "a/b/": "a/b/", "a": "a/"}.items():
        assert set_(chatbot, with_(KEY, prefix=given)).prefix == kept


def test_a_private_endpoint_is_refused_unless_it_is_listed(chatbot: Chatbot, settings: Any) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = ()
    inside = with_(KEY, endpoint="https://169.254.169.254")
    assert "private network" in refused(chatbot, inside)["endpoint"][0]
    settings.BUCKET_PRIVATE_NETWORKS = (ip_network("127.0.0.0/8"),)
    assert set_(chatbot, with_(KEY, endpoint="http://127.0.0.1:9000/", region="garage")).endpoint


# --- Policies ------------------------------------------------------------------------------------------


def test_it_asks_for_a_named_kms_key(chatbot) -> None:
    for key, resource, conditioned in [
        ("arn:aws:kms:eu-west-3:1:key/k", "arn:aws:kms:eu-west-3:1:key/k", False),
        ("1234-abcd", "arn:aws:kms:eu-west-3:*:key/1234-abcd", False),
        ("alias/files", "arn:aws:kms:eu-west-3:*:key/*", True),
    ]:
        set_(chatbot, with_(KEY, sse="aws:kms", kms_key_id=key))
        statement = access_policy(chatbot=chatbot)["Statement"][-1]
        assert statement["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
        assert statement["Resource"] == resource
        assert ("Condition" in statement) == conditioned


def test_the_trust_policy_of_a_role_is_printed(chatbot: Chatbot, settings: Any) -> None:
    settings.STS_IDENTITY_ARN = "arn:aws:iam::210987654321:user/compliance"
    bucket = set_(chatbot, BY_ROLE)
    (statement,) = trust_policy(chatbot=chatbot)["Statement"]
    assert statement["Principal"] == {"AWS": settings.STS_IDENTITY_ARN}
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": bucket.external_id}}
    set_(chatbot, KEY)
    with pytest.raises(ValidationError, match="has no role"):
        trust_policy(chatbot=chatbot)
