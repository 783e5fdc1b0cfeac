"""Secrets of authenticator apps: no one reads them in the database, and none fits another user."""

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django import Settings

from accounts import second_factor
from accounts.models import Authenticator
from common.crypto import SecretUnreadable
from tests.codes import PASSWORD, log_in, set_up


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
        second_factor.restore_offer(user, stored)
