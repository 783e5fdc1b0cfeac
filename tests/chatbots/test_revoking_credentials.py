"""A client's credentials for the hosted bucket are revoked and compared with IAM, on a real S3 server with IAM."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from pytest_django import Settings

from chatbots.buckets.locations import storage_read_with
from chatbots.models import BucketCredential, Chatbot
from chatbots.operations import credentials
from chatbots.operations.credentials import compare_with_iam, interrupted_chatbots
from common.storage import ObjectStorage
from common.storage.iam import IamUsers
from tests.chatbots.issuing import OWN, events, is_denied, issue, reader, revoke, some_time_later
from tests.iam import MANAGER, names_of_users, use_as_hosted, users
from tests.s3_server import Identity, S3Server


class Killed(BaseException):
    """The process ends here."""


def test_revoked_credentials_are_refused_at_once(chatbot: Chatbot, iam_storage: ObjectStorage) -> None:
    new, other = issue(chatbot), issue(chatbot, "Other")
    theirs = reader(new)
    assert theirs.read(OWN)

    revoked = revoke(chatbot, new.credential.access_key_id)

    assert is_denied(lambda: theirs.read(OWN))
    assert reader(other).read(OWN)
    assert revoked.state == "revoked"
    assert names_of_users() == {other.credential.user_name}
    assert [event for event, _ in events()][-1] == "bucket_credential.revoked"
    with pytest.raises(ValidationError, match="revoked already"):
        revoke(chatbot, new.credential.access_key_id)


def test_revoking_ends_the_keys_that_a_user_has_made_for_itself(chatbot: Chatbot, iam_storage: ObjectStorage) -> None:
    new = issue(chatbot)
    own = users().create_key(new.credential.user_name)
    assert storage_read_with(access_key_id=own.id, secret=own.secret).read(OWN)

    revoke(chatbot, new.credential.user_name)

    assert is_denied(lambda: storage_read_with(access_key_id=own.id, secret=own.secret).read(OWN))
    assert names_of_users() == set()


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
def test_a_revocation_that_fails_half_way_is_done_by_the_next(
    chatbot: Chatbot, iam_storage: ObjectStorage, iam_server: S3Server, settings: Settings, call: str
) -> None:
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


def test_issued_ones_are_not_marked_without_iam_unless_a_person_says_so(
    chatbot: Chatbot, iam_storage: ObjectStorage, settings: Settings
) -> None:
    new = issue(chatbot)
    use_nobody(settings)
    with pytest.raises(ValidationError, match=f"IAM_ACCESS_KEY_ID is not set here.*{new.credential.user_name}"):
        revoke(chatbot, new.credential.access_key_id)
    assert BucketCredential.objects.get().state == "active"

    revoke(chatbot, new.credential.access_key_id, removed_by_hand=True)

    assert BucketCredential.objects.get().state == "revoked"
    settings.IAM_ACCESS_KEY_ID, settings.IAM_SECRET_ACCESS_KEY = MANAGER.access_key, MANAGER.secret_key
    assert compare_with_iam().unknown_users == [new.credential.user_name]


def use_nobody(settings: Settings) -> None:
    settings.IAM_ACCESS_KEY_ID = settings.IAM_SECRET_ACCESS_KEY = ""


def test_nobody_revokes_another_chatbot_s(chatbot: Chatbot, neighbour: Chatbot, iam_storage: ObjectStorage) -> None:
    new = issue(chatbot)
    for name in (new.credential.access_key_id, new.credential.user_name, str(new.credential.pk), "", "nonsense"):
        with pytest.raises(ValidationError, match="no such credentials"):
            revoke(neighbour, name)
    assert reader(new).read(OWN)
