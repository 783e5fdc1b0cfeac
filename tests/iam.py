"""A private S3 server with IAM as the hosted storage of a test, with users that nobody else makes."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from common.storage import ObjectStorage
from common.storage.iam import IamUsers
from tests.s3_server import ADMIN, Identity, S3Server, running

# It manages users and has no right in any bucket.
MANAGER = Identity(
    "manager",
    [
        f"iam:{action}"
        for action in (
            *("CreateUser", "PutUserPolicy", "CreateAccessKey", "ListUsers"),
            *("ListAccessKeys", "DeleteAccessKey", "DeleteUserPolicy", "DeleteUser"),
        )
    ],
)


def use_as_hosted(settings: Settings, server: S3Server, *, manager: Identity | None = MANAGER) -> None:
    """Make a server the operator's storage, and its identity the one that manages users."""
    settings.S3_ENDPOINT_URL = settings.S3_PUBLIC_ENDPOINT_URL = settings.IAM_ENDPOINT_URL = server.endpoint
    settings.S3_BUCKET, settings.S3_REGION, settings.IAM_REGION = server.s3.bucket, "us-east-1", "us-east-1"
    settings.S3_ACCESS_KEY_ID, settings.S3_SECRET_ACCESS_KEY = ADMIN.access_key, ADMIN.secret_key
    settings.IAM_ACCESS_KEY_ID = manager.access_key if manager else ""
    settings.IAM_SECRET_ACCESS_KEY = manager.secret_key if manager else ""


@pytest.fixture(scope="session")
def iam_server() -> Iterator[S3Server]:
    with running(MANAGER) as server:
        yield server


@pytest.fixture
def iam_storage(iam_server: S3Server, settings: Settings) -> Iterator[ObjectStorage]:
    """The operator's bucket on `iam_server`, with a file of acme, of its neighbour, and one of the service."""
    use_as_hosted(settings, iam_server)
    storage = hosted_storage()
    for key in FILES:
        storage.put(key, b"text of the file\n", "text/csv")
    yield storage
    use_as_hosted(settings, iam_server)
    for name in list(IamUsers().names()):
        if name.startswith("dca-"):
            IamUsers().remove(name)
    for key in {version.key for version in storage.versions()}:
        storage.purge(key)


FILES = ("acme/export.csv", "acme-2/export.csv", "neighbour/export.csv", "uploads/file", "root.txt")


def names_of_users() -> set[str]:
    return {name for name in IamUsers().names() if name.startswith("dca-")}
