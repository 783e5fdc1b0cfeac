"""The second factor of staff: an authenticator app (TOTP) and recovery codes.

django-otp verifies codes, throttles guesses and accepts no code twice. The tables are useless on their own: secrets
are encrypted under `ENCRYPTION_KEYS`, and recovery codes are stored as digests under `DIGEST_KEY`.
"""

import logging
import re
import secrets
from base64 import b32encode
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django_otp.models import Device
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken

from accounts.models import Authenticator, authenticator_binding
from common.crypto import SecretUnreadable, decrypt, digest, encrypt

logger = logging.getLogger(__name__)

RECOVERY_CODES = 10

_CODE = re.compile(r"[0-9]{6}")


class CodeRefused(Exception):
    """The code is incorrect or was already used."""


class TooSoon(Exception):
    """The last code was incorrect; the next one is accepted from `until` on."""

    def __init__(self, until: datetime) -> None:
        super().__init__("The last code was incorrect.")
        self.until = until


class CodesUnreadable(Exception):
    """No code of the app can be verified: `ENCRYPTION_KEYS` cannot decrypt its secret. Recovery codes still can."""


class AlreadySetUp(Exception):
    """The user has a second factor."""


class Offer(NamedTuple):
    """An authenticator that is not stored until it is confirmed; `token` restores it."""

    authenticator: Authenticator
    token: str

    @property
    def secret(self) -> str:
        """Return the secret in groups of four characters."""
        text = b32encode(self.authenticator.bin_key).decode()
        return " ".join(re.findall(r".{4}", text))


def with_factor(users: QuerySet[User]) -> QuerySet[User]:
    """Annotate users with `has_factor`: whether they have a second factor."""
    confirmed = Authenticator.objects.filter(user=OuterRef("pk"), confirmed=True)
    return users.annotate(has_factor=Exists(confirmed))


def is_set_up(user: AbstractBaseUser | AnonymousUser) -> bool:
    """Return whether a user has a second factor, without a query for users of `with_factor`."""
    known = getattr(user, "has_factor", None)
    return _authenticators(user).exists() if known is None else bool(known)


def offer(user: User) -> Offer:
    return _offer(user, secrets.token_hex(20))


def restore_offer(user: User, token: str) -> Offer:
    """Return an offer by its token. Raises CodeRefused if it belongs to another user."""
    try:
        return _offer(user, decrypt(token, bound_to=_binding(user)))
    except SecretUnreadable:
        raise CodeRefused from None


def set_up(*, user: User, offered: Offer, code: str) -> tuple[Authenticator, list[str]]:
    """Store an authenticator after verifying its first code. Returns it with new recovery codes.

    Raises CodeRefused, or AlreadySetUp.
    """
    totp = TOTP(offered.authenticator.bin_key)
    if not totp.verify(_number(code), tolerance=1):
        raise CodeRefused
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        if _authenticators(user).exists():
            raise AlreadySetUp
        authenticator = offered.authenticator
        # The code that confirmed it is used up.
        authenticator.last_t, authenticator.drift = totp.t(), totp.drift
        authenticator.save()
        codes = _new_codes(user)
    logger.info("second_factor.set_up user=%s", user.pk)
    return authenticator, codes


def verify(*, user: User, code: str) -> Device:
    """Return the device of a valid code of the app. Raises CodeRefused, TooSoon or CodesUnreadable."""
    number = str(_number(code))
    try:
        return _verify(Authenticator.objects.filter(user=user, confirmed=True), number)
    except SecretUnreadable:
        logger.exception("second_factor.unreadable user=%s", user.pk)
    raise CodesUnreadable


def verify_recovery_code(*, user: User, code: str) -> Device:
    """Use up a recovery code and return its device. Raises CodeRefused or TooSoon."""
    used = _verify(StaticDevice.objects.filter(user=user, confirmed=True), _stored(user, code))
    logger.warning("second_factor.recovery_code_used user=%s left=%s", user.pk, recovery_codes_left(user))
    return used


def recovery_codes_left(user: User) -> int:
    return int(StaticToken.objects.filter(device__user=user).count())


def renew_recovery_codes(*, user: User) -> list[str]:
    """Replace all recovery codes of a user. Returns the new ones, which cannot be shown again."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        codes = _new_codes(user)
    logger.info("second_factor.recovery_codes_renewed user=%s", user.pk)
    return codes


def remove(*, user: User, actor: str) -> bool:
    """Remove a user's second factor and end its sessions. Returns whether there was one."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        removed, _ = Authenticator.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()
    if removed:
        logger.warning("second_factor.removed user=%s actor=%s", user.pk, actor)
    return bool(removed)


def _authenticators(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Authenticator]:
    found: QuerySet[Authenticator] = Authenticator.objects.filter(user=user.pk, confirmed=True)
    return found


def _offer(user: User, secret: str) -> Offer:
    encrypted = encrypt(secret, bound_to=authenticator_binding(user.pk))
    authenticator = Authenticator(user=user, name="Authenticator app", key="", secret_encrypted=encrypted)
    return Offer(authenticator, encrypt(secret, bound_to=_binding(user)))


def _binding(user: User) -> str:
    return f"user:{user.pk}:offered_authenticator"


def _number(code: str) -> int:
    code = "".join(code.split())
    if not _CODE.fullmatch(code):
        raise CodeRefused
    return int(code)


def _verify(devices: "QuerySet[Any]", code: str) -> Device:
    with transaction.atomic():
        # The lock makes a second request with the same code find it used.
        device = devices.select_for_update().first()
        if device is None:
            raise CodeRefused
        is_allowed, why_not = device.verify_is_allowed()
        verified = is_allowed and device.verify_token(code)
    if not is_allowed:
        raise TooSoon(why_not["locked_until"])
    if not verified:
        raise CodeRefused
    return device


def _new_codes(user: User) -> list[str]:
    # The device stays the same, so that its sessions continue.
    device, _ = StaticDevice.objects.get_or_create(user=user, defaults={"name": "Recovery codes"})
    device.token_set.all().delete()
    codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=_stored(user, code)) for code in codes)
    return [f"{code[:4]}-{code[4:]}" for code in codes]


def _stored(user: User, code: str) -> str:
    plain = "".join(re.findall(r"[a-z2-7]", code.lower()))
    return b32encode(digest("recovery_code", user.pk, plain)).decode().lower()[:16]
