"""The commands for clients' credentials."""

import pytest
from django.core.management import CommandError, call_command

from chatbots.models import BucketCredential, Chatbot
from common.storage import ObjectStorage
from common.storage.iam import IamUsers
from tests.chatbots.issuing import events
from tests.commands import report, run
from tests.factories import BucketCredentialFactory
from tests.iam import names_of_users


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
