"""Log-in: the password, then the code of the second factor if the user has one.

Between the two steps the user is not logged in; the session stores the user for a few minutes. Wrong codes count like
wrong passwords (`lockouts`), and only a complete log-in clears the count.
"""

import time
from typing import Any, cast

from django.conf import settings
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import REDIRECT_FIELD_NAME, login
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.http import urlencode

from accounts import lockouts, proof, second_factor, sessions
from accounts.forms import CodeForm
from accounts.site import form_page

_AWAITED = "access_code_awaited"
_SECONDS_TO_TYPE = 300

_BACKEND = settings.AUTHENTICATION_BACKENDS[-1]

# The `ended` parameter of the log-in page -> its message.
ENDED = {
    "age": "Your session has expired after 8 hours. Log in again to continue.",
    "idle": "You were logged out due to inactivity. Log in again to continue.",
    "password": "Your password was saved. Log in with it.",
    "access": "You were logged out because your access changed. Log in again to continue.",
}


class StaffBackend(ModelBackend):
    """Authenticates staff. Permissions come from Memberships, not from Django's permissions."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_kwargs: Any
    ) -> User | None:
        """Return the staff user with this password. Raises Locked or TooBusy before checking it."""
        if username is None or password is None:
            return None
        if request is None:
            raise ValueError("authenticate() needs the request, to count failures.")
        with lockouts.attempt(request, username) as attempt:
            user = super().authenticate(request, username, password)
            staff = user if isinstance(user, User) and user.is_staff else None
            attempt.is_wrong = staff is None
        return staff

    def get_user(self, user_id: Any) -> User | None:
        """Return the user with `has_factor`."""
        user = second_factor.with_factor(User.objects.all()).filter(pk=user_id).first()
        return user if self.user_can_authenticate(user) else None

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:  # noqa: ARG002
        return set()


class _PasswordView(LoginView):
    template_name = "admin/login.html"
    authentication_form = AdminAuthenticationForm

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        if not second_factor.is_set_up(user):
            login(self.request, user)
            return HttpResponseRedirect(self.get_success_url())
        _start_second_step(self.request, user)
        there = {REDIRECT_FIELD_NAME: self.get_redirect_url()} if self.get_redirect_url() else {}
        return HttpResponseRedirect(f"{reverse('console:login_code')}{'?' if there else ''}{urlencode(there)}")

    def get_default_redirect_url(self) -> str:
        return reverse("admin:index")


def ask_password(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """The log-in page. `context` is that of the admin site."""
    context |= {
        "app_path": request.get_full_path(),
        "username": request.user.get_username(),
        "ended": ENDED.get(request.GET.get("ended", "")),
    }
    return cast("HttpResponse", _PasswordView.as_view(extra_context=context)(request))


@form_page
def ask_code(request: HttpRequest) -> HttpResponse:
    user = _awaited_user(request)
    if user is None:
        return redirect("admin:login")
    form = CodeForm.given(request, user)
    if form.is_valid():
        request.session.flush()
        user.otp_device = form.device  # type: ignore[attr-defined]  # django-otp takes it into the session
        login(request, user, backend=_BACKEND)
        return HttpResponseRedirect(proof.next_url(request))
    return render(
        request,
        "accounts/login_code.html",
        {"title": "Two-factor authentication", "form": form, "next": request.GET.get(REDIRECT_FIELD_NAME, "")},
    )


def _start_second_step(request: HttpRequest, user: User) -> None:
    request.session.flush()
    request.session[_AWAITED] = {"user": user.pk, "hash": user.get_session_auth_hash(), "at": int(time.time())}
    request.session.set_expiry(_SECONDS_TO_TYPE)


def _awaited_user(request: HttpRequest) -> User | None:
    awaited = request.session.get(_AWAITED)
    if awaited is None or time.time() - awaited["at"] > _SECONDS_TO_TYPE:
        return None
    user = second_factor.with_factor(User.objects.filter(is_active=True, is_staff=True)).filter(pk=awaited["user"])
    found = user.first()
    # After a change of the password the first step has to be repeated.
    hashes = sessions.hashes_of(found) if found is not None else []
    return found if any(constant_time_compare(awaited["hash"], one) for one in hashes) else None
