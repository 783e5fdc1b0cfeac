"""The admin site with our log-in and second factor."""

import enum
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.conf import settings
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_View = TypeVar("_View", bound=Callable[..., HttpResponseBase])


class Access(enum.Enum):
    DENIED = "not logged in, not staff, or without their second factor"
    NEEDS_SECOND_FACTOR = "staff who have to set up a second factor first"
    GRANTED = "staff"


def access_of(request: HttpRequest) -> Access:
    from accounts import second_factor  # noqa: PLC0415  (needs the models; the site is created before them)

    user = request.user
    if not (user.is_active and getattr(user, "is_staff", False)):
        return Access.DENIED
    if getattr(user, "otp_device", None) is not None:
        return Access.GRANTED
    if second_factor.is_set_up(user):
        return Access.DENIED
    return Access.NEEDS_SECOND_FACTOR if settings.SECOND_FACTOR_REQUIRED else Access.GRANTED


def form_page(view: _View) -> _View:
    """A page with a form about passwords or codes: never cached or reported, and sent from its own page alone."""
    guarded: Any = require_http_methods(["GET", "HEAD", "POST"])(view)
    return cast("_View", sensitive_post_parameters()(never_cache(csrf_protect(guarded))))


class AccessSite(AdminSite):
    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        # Rows are deleted by operations, one at a time.
        self.disable_action("delete_selected")

    def has_permission(self, request: HttpRequest) -> bool:
        return access_of(request) is Access.GRANTED

    def admin_view(self, view: _View, cacheable: bool = False) -> _View:  # noqa: ARG002
        """Allow staff; redirect those who need a second factor to its set-up."""
        # Never cached: each page shows the user.
        guarded = super().admin_view(view)

        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if access_of(request) is not Access.NEEDS_SECOND_FACTOR:
                answer: HttpResponseBase = guarded(request, *args, **kwargs)
            elif request.path == reverse("admin:logout"):
                answer = csrf_protect(never_cache(view))(request, *args, **kwargs)
            else:
                answer = never_cache(_redirect_to_set_up)(request)
            return answer

        return cast("_View", update_wrapper(inner, guarded))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """As Django's, but a wrong password counts as a failed log-in, also in a stolen session."""
        from accounts import lockouts  # noqa: PLC0415  (needs the models)

        user = cast("User", request.user)
        if request.method != "POST":
            lockouts.require_open(request, user)
            return super().password_change(request, extra_context)
        with lockouts.attempt(request, user.get_username()) as attempt:
            page = super().password_change(request, extra_context)
            form = (getattr(page, "context_data", None) or {}).get("form")
            attempt.is_wrong = form is not None and form.has_error("old_password", "password_incorrect")
        return page

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        from accounts import login  # noqa: PLC0415  (needs the models)

        if request.method == "GET":
            match access_of(request):
                case Access.GRANTED:
                    return HttpResponseRedirect(reverse("admin:index"))
                case Access.NEEDS_SECOND_FACTOR:
                    return _redirect_to_set_up(request)
        context = {**self.each_context(request), "title": "Log in", "subtitle": None, **(extra_context or {})}
        return login.ask_password(request, context)


def _redirect_to_set_up(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  a view
    return HttpResponseRedirect(reverse("console:second_factor"))
