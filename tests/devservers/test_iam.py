"""The embedded S3 server creates users for the identity of `iam_key`, which can do nothing else."""

import pytest
from django.conf import settings

from chatbots.buckets.locations import storage_read_with
from common.storage import ObjectStorage, StorageError
from common.storage.iam import IamUsers
from devservers.control import iam_key


def users_of(key_id: str, secret: str) -> IamUsers:
    return IamUsers(
        endpoint_url=settings.S3_ENDPOINT_URL,
        region="us-east-1",
        access_key_id=key_id,
        secret_access_key=secret,
        boundary_arn="",
    )


def test_it_creates_and_removes_users(storage: ObjectStorage) -> None:
    storage.put("acme/export.csv", b"text", "text/csv")
    users = users_of(*iam_key(settings.S3_SECRET_ACCESS_KEY))
    name = f"dca-of-a-test-{settings.S3_BUCKET}"
    own = f"arn:aws:s3:::{settings.S3_BUCKET}/acme/*"
    users.create(name)
    try:
        statement = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": own}
        users.grant(name, {"Version": "2012-10-17", "Statement": [statement]})
        key = users.create_key(name)
        theirs = storage_read_with(access_key_id=key.id, secret=key.secret)
        assert theirs.read("acme/export.csv") == b"text"
    finally:
        users.remove(name)
    with pytest.raises(StorageError):
        theirs.read("acme/export.csv")


def test_the_identity_for_users_has_no_right_in_the_bucket(storage: ObjectStorage) -> None:
    storage.put("acme/export.csv", b"text", "text/csv")
    key_id, secret = iam_key(settings.S3_SECRET_ACCESS_KEY)
    manager = storage_read_with(access_key_id=key_id, secret=secret)
    for call in (
        lambda: manager.read("acme/export.csv"),
        lambda: list(manager.keys()),
        lambda: manager.put("acme/new.csv", b"text", "text/csv"),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.code == "storage_access_denied"
