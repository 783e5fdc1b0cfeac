"""What each page of the console has in common: who may open it, and how it is answered.

A view is a plain function below `@page` or `@action`. It finds its chatbot with `chatbot_or_404`, makes one call into
an operation or a query, and answers with `render`, or with a redirect to a page after it has changed something.
"""

import logging
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from django import shortcuts
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from chatbots.models import Chatbot
from common.logs import describe_database_error
from common.problems import RETRY_AFTER_SECONDS
from console.common.scope import READ, Role, chatbots_with_role, is_superuser, may, within_scope

logger = logging.getLogger(__name__)

_Given = ParamSpec("_Given")
View = Callable[Concatenate[HttpRequest, _Given], HttpResponse]

_NOT_YOURS = (
    "Your role in this chatbot does not allow it. A superuser can give you another role, in the settings of the "
    "chatbot."
)
_TAKES_A_FORM = (
    "This address takes a form and shows nothing by itself. If you were logged out when you sent one, nothing was "
    "done: go back to its page and send it again."
)
_TAKES_NO_FORM = "Nothing was done: this address takes no form."
_SLOW = (
    "The database did not answer in time. If you have sent a form, look first whether it was carried out; then try "
    "again."
)
_NO_CHATBOT = "You are logged in, but no chatbot has been given to you yet. Ask a superuser for a role in one."


def page(view: View[_Given]) -> View[_Given]:
    """Make a function a page of the console, by GET: for staff who may see some chatbot, never cached or stored.

    Whoever is not logged in is sent to the login. Http404 and PermissionDenied become pages of the console, and so do
    a method that it does not take and a database that does not answer.
    """
    return _of_console(require_safe(view))


def action(view: View[_Given]) -> View[_Given]:
    """As `page`, by POST alone. The form's CSRF token is checked."""
    return _of_console(require_POST(view))


def form(view: View[_Given]) -> View[_Given]:
    """As `page`, by GET and by POST: a form that answers itself."""
    return _of_console(require_http_methods(["GET", "HEAD", "POST"])(view))


def polled(view: View[_Given]) -> View[_Given]:
    """Mark a page, above `@page`, that a script asks for by itself: it keeps no session alive.

    Where the session is over it answers 401, and no log-in page that the script would take for its part.
    """
    view.counts_as_activity = False  # type: ignore[attr-defined]  # accounts.sessions looks for it
    return view


def _of_console(view: View[_Given]) -> View[_Given]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: _Given.args, **kwargs: _Given.kwargs) -> HttpResponse:
        try:
            if not (is_superuser(request) or chatbots_with_role(request, READ)):
                raise PermissionDenied(_NO_CHATBOT)
            answer = view(request, *args, **kwargs)
        except Http404:
            text = "There is nothing at this address, or it belongs to a chatbot that is not yours to see."
            return refusal(request, status=404, title="Not found", text=text)
        except PermissionDenied as denied:
            return refusal(request, status=403, title="Not allowed", text=str(denied) or _NOT_YOURS)
        except (OperationalError, InterfaceError) as error:
            # Away, or it gave this up as too much: the same can go well later.
            told = describe_database_error(error)
            logger.error("The database did not serve a page: %s", told)  # noqa: TRY400  (its text may quote a row)
            slow = refusal(request, status=503, title="Not now", text=_SLOW)
            slow["Retry-After"] = str(RETRY_AFTER_SECONDS)
            return slow
        if isinstance(answer, HttpResponseNotAllowed):
            return _not_allowed(request, answer["Allow"])
        return answer

    @wraps(view)
    def opened(request: HttpRequest, *args: _Given.args, **kwargs: _Given.kwargs) -> HttpResponse:
        # When it is called: importing a page must not ask for the site, which is made when the apps are ready.
        answer: HttpResponse = admin.site.admin_view(guarded)(request, *args, **kwargs)
        return answer

    return cast("View[_Given]", opened)


def render(request: HttpRequest, template: str, *, title: str, status: int = 200, **context: Any) -> HttpResponse:
    """Answer with a template that extends `console/page.html`. `title` holds nothing personal: histories keep it."""
    shown = {**admin.site.each_context(request), "title": title, **context}
    return shortcuts.render(request, template, shown, status=status)


def refusal(request: HttpRequest, *, status: int, title: str, text: str, **context: Any) -> HttpResponse:
    """Answer with a page that says why this cannot be seen or done, and what can be."""
    return render(request, "console/refusal.html", title=title, status=status, text=text, **context)


def _not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    is_read = request.method in {"GET", "HEAD"}
    text = _TAKES_A_FORM if is_read else _TAKES_NO_FORM
    answer = refusal(request, status=405, title="Nothing to see here" if is_read else "Nothing was done", text=text)
    answer["Allow"] = allowed
    return answer


def chatbot_or_404(request: HttpRequest, slug: str, *, roles: Collection[Role] = READ) -> Chatbot:
    """Return the chatbot of a page.

    Raises Http404 where the user may not see it, just as where there is none; PermissionDenied where they may, but
    have none of `roles` there.
    """
    chatbot = within_scope(Chatbot.objects.filter(slug=slug), request, chatbot="id").first()
    if chatbot is None:
        raise Http404
    require(request, chatbot, roles)
    return chatbot


def require(request: HttpRequest, chatbot: Chatbot, roles: Collection[Role]) -> None:
    """Raise PermissionDenied unless the user has one of the roles in a chatbot that they see."""
    if not may(request, chatbot, roles):
        raise PermissionDenied


def back_to(request: HttpRequest, name: str) -> str:
    """Return the URL of a list as it was when its form was sent (`back`), or the list's own."""
    here, asked = reverse(name), request.POST.get("back", "")
    return asked if asked == here or asked.startswith(f"{here}?") else here
