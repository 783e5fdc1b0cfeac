"""The codes of an authenticator app, for the tests of the second factor."""

import re
import time
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.test import Client
from django_otp.oath import TOTP

from accounts import second_factor
from accounts.models import Authenticator

PASSWORD = "correct horse battery"


@dataclass
class App:
    """The app of one user. Each code of `next_code` is for a later half minute than the last, as required."""

    authenticator: Authenticator
    recovery_codes: list[str]

    def next_code(self) -> str:
        last = Authenticator.objects.get(pk=self.authenticator.pk).last_t
        # Codes are accepted up to one step ahead.
        assert last <= int(time.time()) // 30, "Forget the last code first: see `forget_codes`."
        return code_of(self.authenticator.bin_key, last + 1)

    def forget_codes(self) -> None:
        """Let the current codes be accepted once more, instead of waiting for half a minute."""
        Authenticator.objects.filter(pk=self.authenticator.pk).update(
            last_t=int(time.time()) // 30 - 1, throttling_failure_count=0, throttling_failure_timestamp=None
        )


def code_of(key: bytes, step: int) -> str:
    totp = TOTP(key)
    totp.time = step * 30
    return f"{totp.token():06d}"


def set_up(user: User) -> App:
    """Give a user a second factor."""
    offered = second_factor.offer(user)
    code = code_of(offered.authenticator.bin_key, int(time.time()) // 30)
    app = App(*second_factor.set_up(user=user, offered=offered, code=code))
    app.forget_codes()
    return app


def typed_secret(page: str) -> bytes:
    """Return the secret that a page shows, as a person types it into an app."""
    from base64 import b32decode

    [shown] = re.findall(r'<code class="secret">([A-Z2-7 ]+)</code>', page)
    return b32decode(shown.replace(" ", ""))


def inside_with(app: App) -> Client:
    """Return a client of the app's user, who has logged in with password and code."""
    client = Client()
    log_in(client, app.authenticator.user)
    assert client.post("/admin/login/code/", {"code": app.next_code()}).status_code == 302
    return client


def log_in(client: Client, user: User, password: str = PASSWORD, **extra: str) -> int:
    """Give name and password on the log-in page; return the answer's status."""
    answer = client.post("/admin/login/", {"username": user.get_username(), "password": password}, **extra)
    return answer.status_code
