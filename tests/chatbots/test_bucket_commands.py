"""The commands for buckets and clients' credentials, some with a real S3 server and an identity under policies."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from django.core.management import CommandError, call_command

from chatbots.buckets import location_of
from chatbots.buckets.locations import access_policy
from chatbots.models import Bucket, BucketCredential, Chatbot
from chatbots.operations.buckets import check_bucket
from common.storage import ObjectStorage
from common.storage.iam import IamUsers
from tests.chatbots.issuing import events
from tests.commands import report, run
from tests.factories import BucketCredentialFactory
from tests.iam import names_of_users
from tests.s3_server import ADMIN, Identity, S3Server, running

# This identity has only the rights that a bucket's policy grants.
NOBODY = Identity("nobody", [])
CLIENT = Identity("client", ["Read:clients/acme/*", "Write:clients/acme/*", "List:clients/acme/*"])


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running(CLIENT, NOBODY) as server:
        server.make_bucket("versioned", versioned=True)
        yield server


@pytest.fixture(params=["clients", "versioned"])
def bucket_name(request: pytest.FixtureRequest, server: S3Server) -> Iterator[str]:
    yield request.param
    storage = server.storage(bucket=request.param)
    server.allow(bucket=request.param)
    for key in {version.key for version in storage.versions()}:
        storage.purge(key)


def options(server: S3Server, identity: Identity = CLIENT, bucket: str = "clients") -> list[str]:
    words = f"set_bucket acme --bucket {bucket} --region us-east-1 --prefix acme --endpoint {server.endpoint}"
    return [*words.split(), "--access-key-id", identity.access_key]


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(f"{CLIENT.secret_key}\n")
    return str(file)


def left_in(storage: ObjectStorage) -> list[str]:
    uploads = storage.client.list_multipart_uploads(Bucket=storage.bucket_name).get("Uploads", [])
    return [version.key for version in storage.versions("acme/")] + [upload["Key"] for upload in uploads]


def set_up(chatbot: Chatbot, server: S3Server, monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    """Use a bucket in which the identity NOBODY has the rights of the policy."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(NOBODY.secret_key))
    assert run(*options(server, NOBODY, bucket), "--no-check").code == 0


def test_set_bucket_prints_json_and_checks_the_bucket(chatbot: Chatbot, server: S3Server, secret_file: str) -> None:
    code, out, err = run(*options(server), "--secret-file", secret_file, "--json")
    shown = json.loads(out)
    assert (code, err) == (0, "")
    assert (shown["hosting"], shown["bucket"], shown["prefix"]) == ("client", "clients", "acme/")
    assert (shown["check"]["ok"], shown["check"]["error"], len(shown["check"]["steps"])) == (True, None, 9)
    assert CLIENT.secret_key not in out
    assert left_in(server.storage()) == []
    bucket = Bucket.objects.get(chatbot=chatbot)
    assert bucket.last_checked_at
    assert bucket.last_error == ""


def test_set_bucket_reads_the_secret_from_standard_input(chatbot, server, monkeypatch, refused_at_once) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("another-secret\n"))
    code, out, _ = run(*options(server))
    assert code == 3
    assert "rejects our access key" in out
    assert "another-secret" not in out
    assert Bucket.objects.get(chatbot=chatbot).last_error.startswith("storage_access_denied: ")
    assert run(*options(server), "--keep-secret", "--no-check").code == 0


def test_set_bucket_explains_errors(chatbot) -> None:
    for words, advice in [
        (["acme"], "required"),
        (["acme", "--hosted", "--region", "eu-west-3"], "Use --hosted alone"),
        (["acme", "--bucket", "Acme", "--region", "eu-west-3"], "bucket: Use the bucket's name"),
        (["nobody", "--hosted"], "Known: acme"),
        (["acme", "--bucket", "acme", "--access-key-id", "A", "--secret-file", "/no/such"], "Cannot read the secret"),
    ]:
        with pytest.raises(CommandError, match=advice):
            run("set_bucket", *words)


def test_check_bucket_checks_the_hosted_one_too(chatbot: Chatbot, storage: ObjectStorage) -> None:
    assert report("check_bucket", "acme")["ok"]
    assert list(storage.versions()) == []
    assert "The bucket can be used" in run("check_bucket", "acme").out


@pytest.mark.django_db
def test_check_bucket_requires_a_bucket() -> None:
    from tests.factories import ChatbotFactory

    ChatbotFactory.create(slug="bare")
    for command in ("check_bucket", "bucket_policy"):
        with pytest.raises(CommandError, match="Set one first"):
            run(command, "bare")


@pytest.mark.long(reason="another bucket", beyond=1)
def test_the_printed_policy_is_enough(chatbot, server, monkeypatch, bucket_name) -> None:
    set_up(chatbot, server, monkeypatch, bucket_name)
    assert not check_bucket(chatbot=chatbot).is_ok
    server.allow(NOBODY, *json.loads(run("bucket_policy", "acme").out)["Statement"], bucket=bucket_name)
    outcome = check_bucket(chatbot=chatbot)
    assert [step.name for step in outcome.steps if step.error] == []
    assert left_in(server.storage(bucket=bucket_name)) == []


PERMISSIONS = [
    *("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:DeleteObjectVersion"),
    *("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"),
]


@pytest.mark.long(reason="a check of a bucket for each of fourteen permissions", beyond=1)
@pytest.mark.parametrize("missing", PERMISSIONS)
def test_check_bucket_names_the_one_permission_that_is_missing(chatbot, server, monkeypatch, bucket_name, missing):
    set_up(chatbot, server, monkeypatch, bucket_name)
    arn = f"arn:aws:s3:::{bucket_name}"
    refusal = {"Effect": "Deny", "Action": [missing], "Resource": [arn, f"{arn}/*"]}
    server.allow(NOBODY, *access_policy(chatbot=chatbot)["Statement"], refusal, bucket=bucket_name)
    outcome = check_bucket(chatbot=chatbot)
    refused = [step for step in outcome.steps if step.error]
    assert refused
    # This server takes the listing of open uploads for writing.
    also = ["list open uploads"] if missing == "s3:PutObject" else []
    assert [step.name for step in refused if missing not in step.permission] == also
    assert outcome.error.startswith("storage_access_denied: ")
    assert missing in outcome.error
    if missing == "s3:DeleteObjectVersion":
        assert ("keeps versions" in outcome.error) == (bucket_name == "versioned")
        assert "access_check_" in outcome.error
    else:
        assert left_in(server.storage(bucket=bucket_name)) == []


def test_check_bucket_stops_where_each_call_would_fail(chatbot, server, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(ADMIN.secret_key))
    run(*options(server, ADMIN, bucket="nobody-made-this"), "--no-check")
    outcome = check_bucket(chatbot=chatbot)
    assert [step.error.code for step in outcome.steps] == ["storage_bucket_missing"]


def test_check_bucket_reports_expired_credentials(chatbot: Chatbot, server: S3Server, secret_file: str) -> None:
    run(*options(server), "--secret-file", secret_file, "--no-check")
    client = location_of(Bucket.objects.get(chatbot=chatbot)).storage.client
    with Stubber(client) as stub:
        stub.add_client_error("put_object", "ExpiredToken", "The provided token has expired.", 400)
        outcome = check_bucket(chatbot=chatbot)
    assert [step.error.code for step in outcome.steps] == ["storage_access_denied"]


def test_a_check_result_is_dropped_if_the_settings_have_changed(chatbot, server, secret_file, monkeypatch) -> None:
    run(*options(server), "--secret-file", secret_file, "--no-check")

    def meanwhile(place: Any) -> list[Any]:
        run("set_bucket", "acme", "--hosted", "--no-check")
        return []

    monkeypatch.setattr("chatbots.operations.buckets.probe", meanwhile)
    check_bucket(chatbot=chatbot)
    assert Bucket.objects.get(chatbot=chatbot).last_checked_at is None


# --- Credentials of clients ------------------------------------------------------------------------------


def test_it_issues_lists_and_revokes(chatbot: Chatbot, iam_storage: ObjectStorage) -> None:
    code, out, err = run("issue_bucket_credentials", "acme", "--label", "Data team")
    row = BucketCredential.objects.get()
    [line, secret] = out.splitlines()
    assert (code, line) == (0, f"Issued the key {row.access_key_id} of acme.")
    assert len(secret) >= 20
    assert "not shown again" in err

    code, out, _ = run("bucket_credentials")
    assert code == 0
    assert f"acme  {row.access_key_id}  active" in out
    assert "Data team" in out
    assert secret not in out

    code, out, _ = run("revoke_bucket_credentials", "acme", row.access_key_id)
    assert (code, out) == (0, f"Revoked {row.access_key_id} of acme.\n")
    listed = report("bucket_credentials")
    assert listed == {"credentials": [], "compared": True, "unknown": [], "missing": []}
    assert names_of_users() == set()


def test_without_iam_it_prints_the_policy_and_says_what_to_do(chatbot, capsys) -> None:
    with pytest.raises(CommandError, match="--made-by-hand KEY_ID"):
        call_command("issue_bucket_credentials", "acme")
    assert capsys.readouterr().out == run("bucket_policy", "acme").out

    recorded = run("issue_bucket_credentials", "acme", "--made-by-hand", "AKIA1").out
    assert recorded == "Recorded the key AKIA1 of acme.\n"
    with pytest.raises(CommandError, match="recorded already"):
        run("issue_bucket_credentials", "acme", "--made-by-hand", " AKIA1 ")
    listed = report("bucket_credentials")
    assert (listed["compared"], listed["credentials"][0]["origin"]) == (False, "by_hand")
    with pytest.raises(CommandError, match="Remove it in the storage"):
        run("revoke_bucket_credentials", "acme", "AKIA1")
    shown = report("revoke_bucket_credentials", "acme", "AKIA1", "--removed-by-hand")
    assert shown["state"] == "revoked"
    assert [event for event, _ in events()] == ["bucket_credential.issued", "bucket_credential.revoked"]


def test_the_list_ends_with_3_if_there_is_something_to_look_at(chatbot: Chatbot, iam_storage: ObjectStorage) -> None:
    for name in ("dca-unknown", "of-somebody-else"):
        IamUsers().create(name)
    code, out, _ = run("bucket_credentials")
    assert (code, out) == (3, "IAM user without credentials here: dca-unknown\n")
    IamUsers().remove("dca-unknown")
    IamUsers().remove("of-somebody-else")

    run("issue_bucket_credentials", "acme")
    row = BucketCredential.objects.get()
    IamUsers().remove(row.user_name)
    code, out, _ = run("bucket_credentials")
    assert code == 3
    assert f"The IAM user is gone: {row.user_name}." in out


def test_a_change_to_the_clients_bucket_names_credentials_that_still_read_the_former_files(chatbot: Chatbot) -> None:
    BucketCredentialFactory.create(chatbot=chatbot, access_key_id="AKIA1")
    words = ["set_bucket", "acme", "--bucket", "acme-files", "--region", "eu-west-3", "--no-check", "--role-arn"]
    role = "arn:aws:iam::123456789012:role/exports"

    assert "bucket_credentials lists them" in run(*words, role).err

    run("revoke_bucket_credentials", "acme", "AKIA1", "--removed-by-hand")
    assert run(*words, f"{role}2").err == ""
