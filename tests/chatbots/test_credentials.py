"""A client's credentials for the hosted bucket are issued, revoked and compared with IAM, on a real S3 server."""

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from pytest_django import Settings

from chatbots.buckets import trial
from chatbots.buckets.locations import storage_read_with
from chatbots.models import Bucket, BucketCredential, ChangeLogEntry, Chatbot
from chatbots.operations import credentials
from chatbots.operations.credentials import NoIam, compare_with_iam, interrupted_chatbots, record_bucket_credential
from common.storage import ObjectStorage, StorageError
from common.storage.iam import IamUsers
from tests.chatbots.issuing import FOREIGN, OWN, events, is_denied, issue, reader, revoke, some_time_later
from tests.clients import use_bucket_at
from tests.factories import BucketCredentialFactory, ready_chatbot
from tests.iam import FILES, MANAGER, names_of_users, use_as_hosted
from tests.patches import Killed
from tests.s3_server import Identity, S3Server, running


def listing(storage: ObjectStorage, prefix: str) -> list[str]:
    return list(storage.keys(prefix))


def test_issued_credentials_read_the_chatbot_s_folder_and_nothing_else(chatbot, iam_storage, settings, caplog):
    caplog.set_level(logging.DEBUG)
    new = issue(chatbot)
    theirs = reader(new)

    # As programs do: they list a folder alone, and ask for a file's size before they read it.
    folder = theirs.client.list_objects_v2(Bucket=theirs.bucket_name, Prefix="acme/", Delimiter="/")
    assert [one["Key"] for one in folder["Contents"]] == list(theirs.keys("acme/")) == [OWN]
    assert (theirs.size_of(OWN), theirs.read(OWN)) == (17, b"text of the file\n")
    for key in FOREIGN:
        assert is_denied(partial(theirs.read, key)), key
    for prefix in ("", "acme", "acme-2/", "neighbour/", "uploads/"):
        assert is_denied(partial(listing, theirs, prefix)), prefix
    for key in ("acme/new.csv", *FILES):
        assert is_denied(partial(theirs.put, key, b"x", "text/csv")), key
    assert is_denied(lambda: theirs.purge(OWN))
    # The trial has removed what it wrote.
    assert set(iam_storage.keys()) == set(FILES)

    row = BucketCredential.objects.get()
    assert (row.label, row.created_by, row.state, row.origin) == ("Data team", "command", "active", "issued")
    assert names_of_users() == {row.user_name}
    data = {"credential": str(row.pk), "key": row.access_key_id, "origin": "issued"}
    assert events() == [("bucket_credential.issued", data)]
    stored = [*BucketCredential.objects.values_list(), *ChangeLogEntry.objects.values_list()]
    assert new.secret not in f"{stored}{caplog.text}{new!r}"

    settings.IAM_ACCESS_KEY_ID, settings.IAM_SECRET_ACCESS_KEY = row.access_key_id, new.secret
    for call in (lambda: list(IamUsers().names()), lambda: IamUsers().create("another")):
        with pytest.raises(StorageError, match="IAM denies iam:"):
            call()


@pytest.mark.long(reason="keys are issued and tried")
def test_there_are_two_at_most(chatbot: Chatbot, neighbour: Chatbot, iam_storage: ObjectStorage) -> None:
    first = issue(chatbot)
    record_bucket_credential(chatbot=chatbot, access_key_id="AKIA1", label="", actor="command")
    with pytest.raises(ValidationError, match="There are 2 already"):
        issue(chatbot)
    assert names_of_users() == {first.credential.user_name}
    issue(neighbour)

    revoke(chatbot, first.credential.access_key_id)

    assert issue(chatbot).credential.state == "active"


def policy_of(*statements: tuple[list[str], list[str]]) -> dict[str, Any]:
    """A policy of (actions, resources below the bucket)."""
    bucket = "arn:aws:s3:::clients"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": [f"{bucket}{below}" for below in resources]}
            for actions, resources in statements
        ],
    }


READ = (["s3:GetObject"], ["/acme/*"])

LIST = (["s3:ListBucket"], [""])

LIST_OWN = {
    "Effect": "Allow",
    "Action": "s3:ListBucket",
    "Resource": "arn:aws:s3:::clients",
    "Condition": {"StringLike": {"s3:prefix": "acme/*"}},
}


@pytest.mark.long(reason="a trial of a key for each policy", beyond=2)
@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        (policy_of(READ, LIST), "list the whole bucket, list another folder"),
        (policy_of((["s3:GetObject"], ["/*"])), "read files of others"),
        (policy_of((["s3:GetObject"], ["/acme*"])), "read files of others"),
        (policy_of(READ, (["s3:PutObject"], ["/acme/*"])), "write files"),
        (policy_of(READ, (["s3:DeleteObject"], ["/acme/*"])), "remove files"),
        (policy_of(READ, (["s3:ListBucketVersions"], [""])), "list versions in the whole bucket"),
        (policy_of(READ, (["s3:List*"], [""])), "list open uploads"),
    ],
    ids=["list", "read", "begins-alike", "write", "remove", "versions", "uploads"],
)
def test_a_key_that_may_do_more_is_taken_back(chatbot, iam_storage, monkeypatch, policy, complaint) -> None:
    if LIST[0] != policy["Statement"][-1]["Action"]:
        policy["Statement"].append(LIST_OWN)
    monkeypatch.setattr(credentials, "access_policy", lambda chatbot: policy)

    with pytest.raises(ValidationError, match=f"No credentials were issued. .* allows to .*{complaint}"):
        issue(chatbot)

    assert_nothing_left(iam_storage, "credential_reads_more")


def test_a_key_that_reads_nothing_is_taken_back(chatbot, iam_storage, monkeypatch) -> None:
    monkeypatch.setattr(trial, "PROPAGATION_SECONDS", 0.0)
    monkeypatch.setattr(credentials, "access_policy", lambda chatbot: policy_of((["s3:GetObject"], ["/neighbour/*"])))

    with pytest.raises(ValidationError, match="refuses to list the chatbot's folder and read a file in it"):
        issue(chatbot)

    assert_nothing_left(iam_storage, "credential_reads_nothing")


@pytest.mark.long(reason="waits for the limit of time")
def test_a_trial_that_takes_too_long_leaves_nothing(chatbot, iam_storage, monkeypatch) -> None:
    monkeypatch.setattr(trial, "TRIAL_SECONDS", 1.0)
    monkeypatch.setattr(credentials, "access_policy", lambda chatbot: policy_of((["s3:GetObject"], ["/neighbour/*"])))

    with pytest.raises(ValidationError, match="The storage does not answer"):
        issue(chatbot)

    assert_nothing_left(iam_storage, "storage_unavailable")


def test_a_key_that_cannot_be_recorded_is_taken_back(chatbot, iam_storage, monkeypatch) -> None:
    create_key = IamUsers.create_key
    monkeypatch.setattr(IamUsers, "create_key", lambda *given: replace(create_key(*given), id="A" * 129))

    with pytest.raises(ValidationError, match=r"No credentials were issued\. IAM made an access key whose id"):
        issue(chatbot)

    assert_nothing_left(iam_storage, "credential_key_invalid")


def assert_nothing_left(storage: ObjectStorage, code: str) -> None:
    row = BucketCredential.objects.get()
    assert (row.state, row.failure.partition(":")[0]) == ("not_issued", code)
    assert names_of_users() == set()
    assert {version.key for version in storage.versions()} == set(FILES)
    assert list(storage.uploads()) == []
    [(event, data)] = events()
    assert (event, data["code"]) == ("bucket_credential.not_issued", code)


def test_a_failed_issue_that_cannot_be_taken_back_stays_listed(chatbot, iam_storage, iam_server, settings) -> None:
    lesser = Identity("lesser", ["iam:CreateUser"])
    iam_server.set_identities(MANAGER, lesser)
    use_as_hosted(settings, iam_server, manager=lesser)

    with pytest.raises(ValidationError, match=r"denies iam:PutUserPolicy .* could not be removed"):
        issue(chatbot)

    row = BucketCredential.objects.get()
    assert (row.state, names_of_users_of(iam_server, settings)) == ("revoking", {row.user_name})
    revoke(chatbot, row.user_name)
    assert names_of_users() == set()


def names_of_users_of(server: S3Server, settings: Settings) -> set[str]:
    use_as_hosted(settings, server)
    return names_of_users()


def test_an_identity_that_may_create_no_user_leaves_nothing(chatbot, iam_storage, iam_server, settings) -> None:
    powerless = Identity("nobody", [])
    iam_server.set_identities(MANAGER, powerless)
    use_as_hosted(settings, iam_server, manager=powerless)
    with pytest.raises(ValidationError, match="IAM denies iam:CreateUser"):
        issue(chatbot)
    settings.IAM_SECRET_ACCESS_KEY = "another-secret"
    with pytest.raises(ValidationError, match="IAM rejects IAM_ACCESS_KEY_ID"):
        issue(chatbot)

    assert {one.state for one in BucketCredential.objects.all()} == {"not_issued"}
    assert interrupted_chatbots() == []


def test_a_server_without_iam_is_told(chatbot: Chatbot, settings: Settings) -> None:
    with running(MANAGER, off=["s3.iam"]) as server:
        use_as_hosted(settings, server)
        with pytest.raises(NoIam, match="The server at IAM_ENDPOINT_URL does not offer IAM"):
            issue(chatbot)
    assert BucketCredential.objects.get().state == "not_issued"
    assert interrupted_chatbots() == []


def test_only_the_hosted_bucket_has_credentials(chatbot: Chatbot) -> None:
    use_bucket_at(chatbot, "https://s3.example.com")
    for refused in (
        lambda: issue(chatbot),
        lambda: record_bucket_credential(chatbot=chatbot, access_key_id="AKIA1", label="", actor="command"),
    ):
        with pytest.raises(ValidationError, match="client's own bucket"):
            refused()
    Bucket.objects.all().delete()
    with pytest.raises(ValidationError, match="has no bucket"):
        issue(chatbot)
    assert not BucketCredential.objects.exists()


@pytest.mark.django_db
def test_a_folder_that_the_store_may_take_for_another_has_no_credentials() -> None:
    """SeaweedFS compares the resources of a policy without regard to case. Such slugs may be there from before."""
    for chatbot in [ready_chatbot(slug=slug) for slug in ("Acme", "acme", "Uploads")]:
        with pytest.raises(ValidationError, match="in upper or lower case"):
            issue(chatbot)
        with pytest.raises(ValidationError, match="in upper or lower case"):
            record_bucket_credential(chatbot=chatbot, access_key_id="AKIA1", label="", actor="command")
    assert not BucketCredential.objects.exists()


def test_revoked_credentials_are_refused_at_once(chatbot: Chatbot, iam_storage: ObjectStorage) -> None:
    """And the keys that the user has made for itself."""
    new, other = issue(chatbot), issue(chatbot, "Other")
    own = IamUsers().create_key(new.credential.user_name)
    theirs = [reader(new), storage_read_with(access_key_id=own.id, secret=own.secret)]
    assert [one.read(OWN) for one in theirs]

    revoked = revoke(chatbot, new.credential.access_key_id)

    assert all(is_denied(partial(one.read, OWN)) for one in theirs)
    assert reader(other).read(OWN)
    assert revoked.state == "revoked"
    assert names_of_users() == {other.credential.user_name}
    assert [event for event, _ in events()][-1] == "bucket_credential.revoked"
    with pytest.raises(ValidationError, match="revoked already"):
        revoke(chatbot, new.credential.access_key_id)


STEPS = [(IamUsers, "create"), (IamUsers, "grant"), (IamUsers, "create_key"), (credentials, "try_credentials")]


@pytest.mark.long(reason="four steps, each cut short before and after it", beyond=2)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=[name for _, name in STEPS])
def test_an_interrupted_issue_stays_listed_and_is_removed_by_revoking(
    chatbot: Chatbot,
    iam_storage: ObjectStorage,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[Any, str],
    moment: str,
) -> None:
    where, name = step
    call = getattr(where, name)

    def killed(*args: Any, **options: Any) -> None:
        if moment == "after":
            call(*args, **options)
        raise Killed

    monkeypatch.setattr(where, name, killed)
    with pytest.raises(Killed):
        issue(chatbot)
    monkeypatch.setattr(where, name, call)

    row = BucketCredential.objects.get()
    assert row.state == "issuing"
    # Every user that there may be has a row.
    assert names_of_users() <= {row.user_name}
    assert interrupted_chatbots() == []
    with pytest.raises(ValidationError, match="being issued now"):
        revoke(chatbot, row.user_name)

    some_time_later()
    assert interrupted_chatbots() == ["acme"]
    revoke(chatbot, row.user_name)

    assert names_of_users() == set()
    assert interrupted_chatbots() == []
    assert [event for event, _ in events()] == ["bucket_credential.revoked"]


@pytest.mark.long(reason="a revocation for each call that can fail", beyond=1)
@pytest.mark.parametrize("call", ["DeleteAccessKey", "DeleteUserPolicy", "DeleteUser"])
def test_a_revocation_that_fails_half_way_is_done_by_the_next(chatbot, iam_storage, iam_server, settings, call):
    new = issue(chatbot)
    lesser = Identity("lesser", [action for action in MANAGER.actions if not action.endswith(f":{call}")])
    iam_server.set_identities(MANAGER, lesser)
    use_as_hosted(settings, iam_server, manager=lesser)

    with pytest.raises(ValidationError, match=f"not revoked yet. IAM denies iam:{call} .* Then revoke them again"):
        revoke(chatbot, new.credential.access_key_id)

    row = BucketCredential.objects.get()
    assert (row.state, events()[-1][0]) == ("revoking", "bucket_credential.issued")
    some_time_later()
    assert interrupted_chatbots() == ["acme"]
    use_as_hosted(settings, iam_server)
    revoke(chatbot, new.credential.access_key_id)
    assert names_of_users() == set()
    assert is_denied(lambda: reader(new).read(OWN))


def test_issued_ones_are_not_marked_without_iam_unless_a_person_says_so(chatbot, iam_storage, settings) -> None:
    new = issue(chatbot)
    use_nobody(settings)
    with pytest.raises(ValidationError, match=f"IAM_ACCESS_KEY_ID is not set here.*{new.credential.user_name}"):
        revoke(chatbot, new.credential.access_key_id)
    assert BucketCredential.objects.get().state == "active"

    revoke(chatbot, new.credential.access_key_id, removed_by_hand=True)

    assert BucketCredential.objects.get().state == "revoked"
    settings.IAM_ACCESS_KEY_ID, settings.IAM_SECRET_ACCESS_KEY = MANAGER.access_key, MANAGER.secret_key
    assert compare_with_iam() == ([new.credential.user_name], [])


def use_nobody(settings: Settings) -> None:
    settings.IAM_ACCESS_KEY_ID = settings.IAM_SECRET_ACCESS_KEY = ""


def test_nobody_revokes_another_chatbot_s(chatbot: Chatbot, neighbour: Chatbot) -> None:
    row = BucketCredentialFactory.create(chatbot=chatbot, origin="issued")
    for name in (row.access_key_id, row.user_name, str(row.pk), "", "nonsense"):
        with pytest.raises(ValidationError, match="no such credentials"):
            revoke(neighbour, name)
    assert BucketCredential.objects.get().state == "active"
