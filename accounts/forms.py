"""Forms of the second factor and the password."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone
from django_otp.models import Device

from accounts import lockouts, second_factor
from accounts.second_factor import CodeRefused, CodesUnreadable, TooSoon
from common.texts import counted

_WRONG = "This code is incorrect or was already used. Enter the code that your app shows now."
_UNREADABLE = "Codes of your app cannot be checked for now. Use a recovery code, or ask the operator of this service."
LINK_OVER = (
    "This link is over: each works once, for 72 hours, until a newer one is made. Ask a superuser for a new one."
)
_WRONG_RECOVERY = "This recovery code is incorrect or was already used."


def code_field() -> forms.CharField:
    return forms.CharField(
        label="Code",
        required=False,
        max_length=16,
        help_text="The six digits shown in your authenticator app.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True}),
    )


class CodeForm(forms.Form):
    """A code of the app or a recovery code. `device` is the device that verified it.

    `was_wrong` is set for a wrong code, but not for a missing one or one entered too soon.
    """

    @classmethod
    def given(cls, request: HttpRequest, user: User) -> "CodeForm":
        """Return the form of a request. A wrong code counts as a wrong password. Raises Locked."""
        if request.method != "POST":
            lockouts.require_open(request, user)
            return cls(user)
        with lockouts.attempt(request, user.get_username()) as attempt:
            form = cls(user, request.POST)
            form.is_valid()
            attempt.is_wrong = form.was_wrong
        return form

    code = code_field()
    recovery_code = forms.CharField(
        label="Recovery code",
        required=False,
        max_length=32,
        help_text="One of the codes from when you set up the second factor. Each works once.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def __init__(self, user: User, data: Any = None) -> None:
        super().__init__(data)
        self._user = user
        self.device: Device | None = None
        self.was_wrong = False

    def clean(self) -> None:
        super().clean()
        code, recovery_code = self.cleaned_data.get("code"), self.cleaned_data.get("recovery_code")
        try:
            if code:
                self.device = second_factor.verify(user=self._user, code=code)
            elif recovery_code:
                self.device = second_factor.verify_recovery_code(user=self._user, code=recovery_code)
            elif not self.errors:
                self.add_error("code", "Enter the code of your app or a recovery code.")
        except TooSoon as error:
            self.add_error("code" if code else "recovery_code", _wait(error.until))
        except CodesUnreadable:
            self.add_error("code", _UNREADABLE)
        except CodeRefused:
            self.was_wrong = True
            self.add_error(*(("code", _WRONG) if code else ("recovery_code", _WRONG_RECOVERY)))


class ConfirmForm(forms.Form):
    """The first code of a new authenticator."""

    token = forms.CharField(widget=forms.HiddenInput, max_length=400)
    code = code_field()


class PasswordForm(forms.Form):
    """The password of the logged-in user."""

    password = forms.CharField(
        strip=False,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )


class InvitationForm(SetPasswordForm):  # type: ignore[type-arg]
    """The code of a link and a new password. `user` is the link's user, or None for a wrong or expired code."""

    code = forms.CharField(
        max_length=100,
        help_text="What follows # in your link.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false", "data-hash": ""}
        ),
    )
    field_order = ("code", "new_password1", "new_password2")

    def __init__(self, user: User | None, data: Any = None) -> None:
        super().__init__(user, data)
        self.fields["new_password1"].help_text = "At least 12 characters, neither common nor like your name."
        self.fields["new_password2"].help_text = "The same once more."

    def clean_code(self) -> str:
        if self.user is None:
            raise forms.ValidationError(LINK_OVER)
        return str(self.cleaned_data["code"])


def _wait(until: datetime) -> str:
    seconds = max(1, round((until - timezone.now()).total_seconds()))
    return f"The last code was incorrect. Try again in {counted(seconds, 'second')}."
