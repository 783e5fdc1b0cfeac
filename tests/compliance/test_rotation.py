"""`rotate_secrets` encrypts every stored secret anew, and only then can the old key be removed."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.checks.registry import registry
from django.db.models.signals import post_init
from pytest_django import Settings

from accounts.models import authenticator_binding
from chatbots.authentication import secret_binding
from chatbots.buckets.locations import bucket_secret_binding
from chatbots.callback_secrets import callback_secret_binding
from chatbots.models import ApiKey, Bucket, CallbackSecret, Chatbot
from chatbots.operations.buckets import set_bucket
from chatbots.operations.identity_keys import create_identity_key
from chatbots.operations.keys import create_api_key, create_callback_secret, revoke_api_key
from common.crypto import SecretUnreadable, decrypt, encrypt
from compliance import checks, rotation
from compliance.canary.client import Client
from compliance.models import Canary
from compliance.models.canary import canary_token_binding
from compliance.models.holds import legal_hold_binding
from tests.chatbots.test_bucket_operations import KEY, with_
from tests.codes import set_up as set_up_codes
from tests.commands import run
from tests.functional.elsewhere import Elsewhere
from tests.holding import place
from tests.under_roles import role

OLD, NEW = {"k1": b"\1" * 32}, {"k2": b"\2" * 32}
BOTH = NEW | OLD


@pytest.fixture
def secrets(chatbot: Chatbot, neighbour: Chatbot, settings: Settings) -> dict[str, str]:
    """Each kind of secret of two chatbots, of a user and of a legal hold, by what it is bound to, under the key k1.

    Both keys are in the ring.
    """
    settings.ENCRYPTION_KEYS, settings.CANARY_URL = OLD, "http://127.0.0.1:9"
    user = User.objects.create_user("sam.staff", is_staff=True)
    kept = {authenticator_binding(user.pk): set_up_codes(user).authenticator.bin_key.hex()}
    for owner in (chatbot, neighbour):
        for new in (
            create_api_key(chatbot=owner, type=ApiKey.Type.SIGNING, label="CRM", actor="command"),
            create_identity_key(chatbot=owner, label="shop", actor="command"),
        ):
            kept[secret_binding(new.api_key.prefix)] = str(new.secret)
        create_api_key(chatbot=owner, type=ApiKey.Type.TOKEN, label="t", actor="command", scopes=["requests:read"])
        secret = create_callback_secret(chatbot=owner, actor="command").secret
        kept[callback_secret_binding(CallbackSecret.objects.get(chatbot=owner).pk)] = secret
        set_bucket(chatbot=owner, client=with_(KEY, prefix=owner.slug), actor="command")
        kept[bucket_secret_binding(owner.pk)] = str(KEY.secret)
    run("create_canary")
    canary = Canary.objects.get()
    of_canary = Client.of(canary)
    kept[canary_token_binding(canary.chatbot_id)] = of_canary.token
    kept[secret_binding(ApiKey.objects.get(chatbot=canary.chatbot, type="signing").prefix)] = of_canary.secret
    hold, _ = place(chatbot, "42")
    kept[legal_hold_binding(hold.pk)] = "42"
    settings.ENCRYPTION_KEYS = BOTH
    return kept


rotate = partial(run, "rotate_secrets")


def report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rotate("--json")[1])
    return found


def readable() -> dict[str, str]:
    """Every secret in the database, by what it is bound to."""
    found = {}
    for secret in rotation.SECRETS:
        rows = secret.model._default_manager.exclude(**{secret.field: ""})
        for bound, stored in rows.values_list(secret.bound_by, secret.field):
            found[secret.binding(bound)] = decrypt(stored, bound_to=secret.binding(bound))
    return found


def test_every_secret_can_be_read_with_the_new_key_alone(secrets: dict[str, str], settings: Settings) -> None:
    code, out, _ = rotate()

    assert code == 0
    assert "chatbots.ApiKey.secret_encrypted: 5 under k1 before, 5 under k2 after; 5 rotated" in out
    assert "0 left under k1. If it is a former key, it can be removed" in out
    assert "if it is the next one, put it first" in out
    assert "All secrets are under k2." in out
    settings.ENCRYPTION_KEYS = NEW
    assert readable() == secrets
    assert rotate()[0] == 0
    assert sum(store["rotated"] for store in report()["stores"]) == 0


def test_a_dry_run_changes_nothing(secrets: dict[str, str], settings: Settings) -> None:
    code, out, _ = rotate("--dry-run")

    assert code == 3
    assert "12 left under k1. Keep it in ENCRYPTION_KEYS." in out
    settings.ENCRYPTION_KEYS = OLD
    assert readable() == secrets


def test_what_cannot_be_read_is_named_by_its_row_and_left_as_it_is(secrets, chatbot, settings) -> None:
    settings.ENCRYPTION_KEYS = {"lost": b"\3" * 32}
    lost = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="lost", actor="command")
    settings.ENCRYPTION_KEYS = BOTH
    # One that was copied from another row.
    moved, other = Bucket.objects.filter(hosting="client").order_by("pk")
    Bucket.objects.filter(pk=moved.pk).update(secret_encrypted=other.secret_encrypted)
    stored = ApiKey.objects.get(pk=lost.api_key.pk).secret_encrypted

    code, out, _ = rotate()

    assert code == 3
    assert f"1 cannot be decrypted, rows {lost.api_key.pk}\n" in out
    assert f"1 cannot be decrypted, rows {moved.pk}\n" in out
    assert "1 left under k1. Keep it" in out
    assert "1 left under lost, which is not in ENCRYPTION_KEYS. Put it back, at the end." in out
    assert "All secrets" not in out
    assert stored.split(":")[2] not in out
    assert lost.secret not in out
    assert ApiKey.objects.get(pk=lost.api_key.pk).secret_encrypted == stored
    assert Bucket.objects.get(pk=moved.pk).secret_encrypted == other.secret_encrypted
    left = report()
    assert (left["done"], left["left"]) == (False, {"k1": 1, "lost": 1})


def test_a_secret_that_is_replaced_meanwhile_is_not_overwritten(secrets, chatbot, settings) -> None:
    bucket = Bucket.objects.get(chatbot=chatbot)
    bound_to = bucket_secret_binding(chatbot.pk)
    replaced: list[str] = []

    def replace(_rows: int) -> None:
        # The batch has been read. A process that does not have the new key yet writes the new secret.
        if not replaced and CallbackSecret.objects.filter(secret_encrypted__startswith="v1:k2:").count() == 2:
            settings.ENCRYPTION_KEYS = OLD
            replaced.append(encrypt("another-secret", bound_to=bound_to))
            settings.ENCRYPTION_KEYS = BOTH
            Bucket.objects.filter(pk=bucket.pk).update(secret_encrypted=replaced[0])

    done = rotation.rotate(progress=replace)

    assert replaced
    assert done.is_done
    settings.ENCRYPTION_KEYS = NEW
    assert readable() == secrets | {bound_to: "another-secret"}


def test_the_secret_of_a_revoked_key_is_needed_no_more(secrets, chatbot, settings) -> None:
    settings.ENCRYPTION_KEYS = {"lost": b"\3" * 32}
    lost = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="lost", actor="command").api_key
    settings.ENCRYPTION_KEYS = BOTH
    assert rotate()[0] == 3

    revoke_api_key(prefix=lost.prefix, actor="command")

    assert rotate()[0] == 0
    assert checks.secrets_can_be_read(databases=["default"]) == []


def test_a_run_that_was_killed_is_continued(secrets: dict[str, str], settings: Settings) -> None:
    rows = 0

    def die(more: int) -> None:
        nonlocal rows
        rows += more
        if rows == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotation.rotate(progress=die)
    assert readable() == secrets
    continued = report()
    assert sum(store["rotated"] for store in continued["stores"]) == 9
    settings.ENCRYPTION_KEYS = NEW
    assert readable() == secrets


@pytest.mark.django_db(transaction=True)
def test_a_bucket_that_is_saved_meanwhile_does_not_bring_the_old_key_back(secrets, chatbot, settings) -> None:
    rotating: list[Elsewhere] = []

    def when_read(instance: Bucket, **_: Any) -> None:
        if instance.chatbot_id == chatbot.pk and not rotating:
            rotating.append(Elsewhere(rotation.rotate))
            assert rotating[0].waits  # until the bucket is saved

    post_init.connect(when_read, sender=Bucket)
    try:
        set_bucket(
            chatbot=chatbot, client=with_(KEY, prefix=chatbot.slug, secret=None, sse="AES256"), actor="command"
        )
    finally:
        post_init.disconnect(when_read, sender=Bucket)
    rotating[0].end()

    settings.ENCRYPTION_KEYS = NEW
    assert readable() == secrets


def test_the_deployment_check_names_keys_that_are_missing_or_old(secrets: dict[str, str], settings: Settings) -> None:
    def found() -> dict[str, str]:
        with role("worker"):
            # A worker does not see the secrets of staff.
            return {str(one.id): str(one.msg) for one in checks.secrets_can_be_read(databases=["default"])}

    assert checks.secrets_can_be_read in registry.deployment_checks
    assert "11 stored secrets under the key k1" in found()["compliance.W006"]
    with role("web"):
        (warning,) = checks.secrets_can_be_read(databases=["default"])
    assert "12 stored secrets" in warning.msg
    settings.ENCRYPTION_KEYS = NEW
    assert "under the key k1, which ENCRYPTION_KEYS lacks" in found()["compliance.E008"]
    settings.ENCRYPTION_KEYS = BOTH
    rotation.rotate()
    assert found() == {}
    assert checks.secrets_can_be_read(databases=None) == []


def test_every_encrypted_field_is_rotated() -> None:
    fields = {
        f"{model._meta.label}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.local_fields
        if field.name.endswith("_encrypted")
    }
    assert {secret.name for secret in rotation.SECRETS} == fields


# What each module does with `encrypt`: it stores in fields of `rotation.SECRETS`, or the text is soon over.
_USES = {
    "chatbots/operations/buckets.py": "stored",
    "chatbots/operations/identity_keys.py": "stored",
    "chatbots/operations/keys.py": "stored",
    "accounts/second_factor.py": "stored, form",
    "chatbots/authentication.py": "memory",
    "common/pagination.py": "cursor",
    "console/common/sealed.py": "form",
    "compliance/requests/downloads.py": "link",
    "compliance/holds.py": "stored",
    "compliance/management/commands/create_canary.py": "stored",
    "compliance/rotation.py": "stored",
}


def test_every_use_of_encryption_is_known(settings: Settings) -> None:
    packages = ("accounts", "chatbots", "common", "compliance", "config", "console", "conversations")
    uses = {
        str(path.relative_to(settings.BASE_DIR))
        for package in packages
        for path in Path(settings.BASE_DIR, package).rglob("*.py")
        if path.name != "crypto.py" and re.search(r"\bencrypt\(|import .*\bencrypt\b", path.read_text())
    }
    assert uses == _USES.keys(), "Does it store what it encrypts? Then its field belongs in compliance/rotation.py."


def test_a_ciphertext_that_is_none_is_unreadable() -> None:
    for stored in ("", "v1", "v1:k1:", "plain text"):
        with pytest.raises(SecretUnreadable):
            decrypt(stored, bound_to="x")
