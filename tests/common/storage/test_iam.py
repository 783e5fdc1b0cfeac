"""IAM users: on a real S3 server that has IAM, and what is sent to AWS."""

import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import Stubber
from pytest_django import Settings

from common.storage import StorageError
from common.storage.errors import IamError
from common.storage.iam import IamUsers
from tests.hostile import Hostile, behaving
from tests.iam import MANAGER
from tests.s3_server import S3Server

BOUNDARY = "arn:aws:iam::123456789012:policy/dca-boundary"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::clients/acme/*"}],
}


@pytest.fixture(autouse=True)
def manager(settings: Settings) -> None:
    settings.IAM_ACCESS_KEY_ID, settings.IAM_SECRET_ACCESS_KEY = MANAGER.access_key, MANAGER.secret_key
    settings.IAM_REGION, settings.IAM_BOUNDARY_ARN = "eu-west-3", BOUNDARY


def users_at(settings: Settings, endpoint: str | None) -> IamUsers:
    settings.IAM_ENDPOINT_URL = endpoint
    return IamUsers()


@pytest.fixture
def stub(settings: Settings) -> Iterator[tuple[IamUsers, Stubber]]:
    users = users_at(settings, None)
    with Stubber(users._client) as stub:
        yield users, stub
        stub.assert_no_pending_responses()


def error_of(call: Callable[[], object]) -> StorageError:
    with pytest.raises(StorageError) as caught:
        call()
    return caught.value


def test_a_user_is_created_and_removed_with_all_its_keys(iam_server: S3Server, settings: Settings) -> None:
    users = users_at(settings, iam_server.endpoint)
    users.create("dca-one")
    users.create("dca-one")
    users.grant("dca-one", POLICY)
    keys = {users.create_key("dca-one").id for _ in range(2)}
    assert (len(keys), "dca-one" in set(users.names())) == (2, True)

    for _ in range(2):
        users.remove("dca-one")

    assert "dca-one" not in set(users.names())
    users.create("dca-one")
    assert users._key_ids("dca-one") == []
    users.remove("dca-one")


def test_at_aws_users_have_a_path_and_a_boundary(stub: tuple[IamUsers, Stubber]) -> None:
    users, aws = stub
    user = {"Path": "/dca/", "UserName": "dca-one", "UserId": "AIDAEXAMPLEEXAMPLE"}
    made = {
        **user,
        "Arn": "arn:aws:iam::123456789012:user/dca/dca-one",
        "CreateDate": datetime(2026, 11, 1, tzinfo=UTC),
    }
    sent = {"UserName": "dca-one", "Path": "/dca/", "PermissionsBoundary": BOUNDARY}
    aws.add_response("create_user", {"User": made}, sent)
    sent = {"UserName": "dca-one", "PolicyName": "read-own-files", "PolicyDocument": json.dumps(POLICY)}
    aws.add_response("put_user_policy", {}, sent)
    aws.add_response("list_users", {"Users": [made], "IsTruncated": False}, {"PathPrefix": "/dca/"})

    users.create("dca-one")
    users.grant("dca-one", POLICY)

    assert list(users.names()) == ["dca-one"]
    # AWS signs for its one global endpoint, whatever the region.
    assert users._client.meta.endpoint_url == "https://iam.amazonaws.com"


@pytest.mark.parametrize(
    ("code", "status", "outcome", "words"),
    [
        ("AccessDenied", 403, ("iam_refused", False), "iam:CreateUser"),
        ("InvalidClientTokenId", 403, ("iam_refused", False), "IAM_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, ("iam_refused", False), "IAM_ACCESS_KEY_ID"),
        ("DeleteConflict", 409, ("iam_refused", False), "by hand"),
        ("LimitExceeded", 409, ("iam_refused", False), "LimitExceeded"),
        ("a secret word", 400, ("iam_refused", False), "an error"),
        ("InvalidAction", 400, ("iam_missing", False), "does not offer IAM"),
        ("NotImplemented", 501, ("iam_missing", False), "does not offer IAM"),
        ("Throttling", 400, ("iam_unavailable", True), "overloaded"),
        ("ServiceFailure", 500, ("iam_unavailable", True), "overloaded"),
    ],
)
def test_errors_of_iam_are_explained(stub, code, status, outcome, words) -> None:
    users, aws = stub
    aws.add_client_error("create_user", code, "with a secret word", status)

    error = error_of(lambda: users.create("dca-one"))

    assert ((error.code, error.retryable), isinstance(error, IamError)) == (outcome, True)
    assert words in error.detail
    assert "secret word" not in str(error)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 405 No\r\n", b"HTTP/1.1 404 No\r\nContent-Type: text/html\r\n"])
def test_a_server_without_iam_is_recognised_whatever_it_answers(settings: Settings, answer: bytes) -> None:
    def answers(server: Hostile, connection: socket.socket) -> None:
        while server.hear(connection):
            connection.sendall(answer + b"Content-Length: 6\r\n\r\n<html>")

    with behaving(answers) as server:
        assert error_of(lambda: users_at(settings, server.url()).create("dca-one")).code == "iam_missing"


def test_a_key_is_not_asked_for_again_after_a_lost_answer(settings: Settings) -> None:
    def hangs_up(server: Hostile, connection: socket.socket) -> None:
        server.hear(connection)

    def asked(call: Callable[[IamUsers], Any]) -> int:
        with behaving(hangs_up) as server:
            error = error_of(lambda: call(users_at(settings, server.url())))
            assert (error.code, error.retryable) == ("storage_unavailable", True)
            return server.connections

    assert asked(lambda users: users.create_key("dca-one")) == 1
    assert asked(lambda users: users.create("dca-one")) > 1
