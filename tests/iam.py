"""A private S3 server with IAM."""

from collections.abc import Iterator

import pytest

from tests.s3_server import Identity, S3Server, running

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


@pytest.fixture(scope="module")
def iam_server() -> Iterator[S3Server]:
    with running(MANAGER) as server:
        yield server
