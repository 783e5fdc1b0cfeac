"""The pages on which staff manage their password and second factor."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import segno
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp import login as remember_device

from accounts import invitations, lockouts, proof, second_factor
from accounts.forms import LINK_OVER, CodeForm, ConfirmForm, InvitationForm, PasswordForm
from accounts.second_factor import AlreadySetUp, CodeRefused, Offer
from accounts.site import Access, access_of, form_page

_View = Callable[[HttpRequest], HttpResponse]

_NOT_RIGHT = (
    "This code is incorrect. Check that the clock of your phone is right, since codes depend on the time, and try "
    "again."
)


def _own_page(view: _View) -> _View:
    """A page for staff, also for those who still have to set up a second factor."""

    @form_page
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if access_of(request) is Access.DENIED:
            return redirect_to_login(request.path, reverse("admin:login"))
        lockouts.require_open(request, _user_of(request))
        return view(request)

    return guarded


@form_page
def set_password(request: HttpRequest) -> HttpResponse:
    """Set the password of the user with a link of `invitations`. It does not log the user in."""
    form = InvitationForm(None)
    if request.method == "POST":
        code = request.POST.get("code", "")
        # Not counted by user: others could lock users out by their numbers.
        with lockouts.attempt(request, None) as attempt:
            user = invitations.user_of(code)
            attempt.is_wrong = user is None
        form = InvitationForm(user, request.POST)
        if form.is_valid() and user is not None:
            if invitations.accept(user=user, password=form.cleaned_data["new_password1"]):
                return redirect(f"{reverse('admin:login')}?ended=password")
            form.add_error("code", LINK_OVER)
    return render(request, "accounts/set_password.html", {"title": "Set your password", "form": form})


@_own_page
def overview(request: HttpRequest) -> HttpResponse:
    user = _user_of(request)
    if not second_factor.is_set_up(user):
        return redirect("console:second_factor_set_up")
    return _page(request, "overview", "Second factor", left=second_factor.recovery_codes_left(user))


@_own_page
def confirm_password(request: HttpRequest) -> HttpResponse:
    form = PasswordForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        if proof.is_right(request, form.cleaned_data["password"]):
            return redirect(proof.next_url(request))
        form.add_error("password", "Incorrect password.")
    again = proof.SEND_AGAIN in request.GET
    return _page(request, "confirm_password", "Confirm your password", form=form, again=again)


@_own_page
def set_up(request: HttpRequest) -> HttpResponse:
    proof.require_password(request)
    user = _user_of(request)
    if second_factor.is_set_up(user):
        return redirect("console:second_factor")
    if request.method != "POST":
        offered = second_factor.offer(user)
        return _offer_page(request, offered, ConfirmForm(initial={"token": offered.token}))
    form = ConfirmForm(request.POST)
    try:
        offered = second_factor.restore_offer(user, request.POST.get("token", ""))
    except CodeRefused:
        return redirect("console:second_factor_set_up")
    if form.is_valid():
        try:
            authenticator, codes = second_factor.set_up(user=user, offered=offered, code=form.cleaned_data["code"])
        except AlreadySetUp:
            return redirect("console:second_factor")
        except CodeRefused:
            form.add_error("code", _NOT_RIGHT)
        else:
            request.session.cycle_key()
            remember_device(request, authenticator)
            return _page(request, "recovery_codes", "Your recovery codes", codes=codes)
    return _offer_page(request, offered, form)


@_own_page
def renew_recovery_codes(request: HttpRequest) -> HttpResponse:
    def renew(user: User) -> HttpResponse:
        codes = second_factor.renew_recovery_codes(user=user)
        return _page(request, "recovery_codes", "Your recovery codes", codes=codes)

    return _with_code(request, "renew", "New recovery codes", renew)


@_own_page
def remove(request: HttpRequest) -> HttpResponse:
    def remove_factor(user: User) -> HttpResponse:
        second_factor.remove(user=user, actor=f"user:{user.pk}")
        # Otherwise this session would end too.
        request.session.pop(DEVICE_ID_SESSION_KEY, None)
        return redirect("console:second_factor_set_up")

    return _with_code(request, "remove", "Remove the second factor", remove_factor)


def _with_code(request: HttpRequest, name: str, title: str, then: Callable[[User], HttpResponse]) -> HttpResponse:
    proof.require_password(request)
    user = _user_of(request)
    if not second_factor.is_set_up(user):
        return redirect("console:second_factor_set_up")
    form = CodeForm.given(request, user)
    if form.is_valid():
        return then(user)
    return _page(request, name, title, form=form)


def _offer_page(request: HttpRequest, offered: Offer, form: ConfirmForm) -> HttpResponse:
    return _page(
        request,
        "set_up",
        "Set up two-factor authentication",
        form=form,
        secret=offered.secret,
        picture=_picture(offered),
    )


def _picture(offered: Offer) -> SafeString:
    """Return the secret as an inline QR code, dark on light in both themes. So it is in no URL or cache."""
    code = segno.make(offered.authenticator.config_url, error="m")
    svg = code.svg_inline(scale=5, border=3, dark="#000", light="#fff", svgclass="qr", omitsize=False)
    return mark_safe(svg)  # noqa: S308  (shapes alone)


def _user_of(request: HttpRequest) -> User:
    return cast("User", request.user)


def _page(request: HttpRequest, name: str, title: str, **context: Any) -> HttpResponse:
    full_context = {
        **admin.site.each_context(request),
        "title": title,
        "must_set_up": access_of(request) is Access.NEEDS_SECOND_FACTOR,
        **context,
    }
    page = render(request, f"accounts/{name}.html", full_context)
    page["Cache-Control"] = "no-store"
    return page
