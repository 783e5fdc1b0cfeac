"""Migrations of staff: what they refuse, and that nobody loses a second factor."""

import hmac
import importlib
from collections.abc import Iterator

import pytest
from django.apps.registry import Apps
from django.contrib.auth.models import User
from django.core.management import CommandError
from django.db import IntegrityError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django import Settings

from accounts import second_factor
from accounts.models import Authenticator
from common.crypto import SecretUnreadable
from tests import under_roles
from tests.codes import PASSWORD, App, log_in, set_up

refuse_older = importlib.import_module("accounts.migrations.0001_initial").refuse_older

PAGE = "/admin/password_change/"


def migrate(name: str) -> Apps:
    executor = MigrationExecutor(connection)
    return executor.migrate([("accounts", name)]).apps


def test_an_older_database_is_refused_with_instructions() -> None:
    with connection.schema_editor() as editor:
        refuse_older(None, editor)
        MigrationRecorder(connection).record_applied("chatbots", "0002_guards")
        with pytest.raises(CommandError, match="Begin with an empty one"):
            refuse_older(None, editor)


@pytest.fixture
def before(transactional_db: None) -> Iterator[Apps]:
    """The database of before migration 0002, which is applied at the end if the test has not."""
    yield migrate("0001_initial")
    migrate("0002_authenticator_secrets")
    under_roles.grant()


@pytest.mark.long(reason="a database is migrated back and forth")
def test_enrolled_staff_keep_their_apps_sessions_and_recovery_codes(before: Apps, settings: Settings) -> None:
    secrets: dict[User, bytes] = {}
    clients: dict[User, Client] = {}
    codes: dict[User, list[str]] = {}
    for name in ("sam.staff", "kim.staff"):
        user = User.objects.create_superuser(name, password=PASSWORD)
        # As the version before stored and derived it.
        device = before.get_model("otp_totp", "TOTPDevice").objects.create(
            user_id=user.pk, name="Authenticator app", confirmed=True
        )
        keyed = f"authenticator:{user.pk}:".encode() + bytes.fromhex(device.key)
        secrets[user] = hmac.digest(settings.DIGEST_KEY, keyed, "sha256")[:20]
        codes[user] = second_factor.renew_recovery_codes(user=user)
        clients[user] = Client()
        clients[user].force_login(user)
        session = clients[user].session
        session[DEVICE_ID_SESSION_KEY] = f"accounts.authenticator/{device.pk}"
        session.save()

    migrate("0002_authenticator_secrets")
    under_roles.grant()

    settings.DIGEST_KEY, digest_key = b"\7" * 32, settings.DIGEST_KEY
    for user, client in clients.items():
        assert client.get(PAGE).status_code == 200
        authenticator = Authenticator.objects.get(user=user)
        assert (authenticator.bin_key, authenticator.key) == (secrets[user], "")
        app, new = App(authenticator, codes[user]), Client()
        app.forget_codes()
        log_in(new, user)
        assert new.post("/admin/login/code/", {"code": app.next_code()})["Location"] == "/admin/"
        assert new.get(PAGE).status_code == 200
    settings.DIGEST_KEY = digest_key
    for user, (first, *_) in codes.items():
        log_in(new := Client(), user)
        assert new.post("/admin/login/code/", {"recovery_code": first})["Location"] == "/admin/"
    # There is no seed to go back to.
    with pytest.raises(CommandError, match="cannot be moved back"):
        migrate("0001_initial")


def test_no_secret_is_stored_in_the_clear_nor_without_its_owner(user: User) -> None:
    app = set_up(user)
    secret = app.authenticator.bin_key
    stored = Authenticator.objects.values().get()
    assert secret.hex() not in str(stored)
    other = User.objects.create_superuser("kim.staff", password=PASSWORD)
    moved = Authenticator(user=other, key="", secret_encrypted=stored["secret_encrypted"])
    with pytest.raises(SecretUnreadable):
        _ = moved.bin_key
    with pytest.raises(IntegrityError, match="totpdevice_has_no_key"):
        TOTPDevice.objects.create(user=other)


def test_without_its_key_only_recovery_codes_let_in(user: User, settings: Settings) -> None:
    app = set_up(user)
    code = app.next_code()
    settings.ENCRYPTION_KEYS = {"other": b"\1" * 32}
    log_in(client := Client(), user)

    answer = client.post("/admin/login/code/", {"code": code})

    assert (answer.status_code, "Codes of your app cannot be checked for now." in answer.text) == (200, True)
    assert client.post("/admin/login/code/", {"recovery_code": app.recovery_codes[0]})["Location"] == "/admin/"


def test_an_offer_is_no_stored_secret(user: User) -> None:
    stored = set_up(user).authenticator.secret_encrypted
    with pytest.raises(second_factor.CodeRefused):
        second_factor.offer_again(user, stored)
