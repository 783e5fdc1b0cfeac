"""Decorators and responses of the console's pages.

A view is decorated with `@page`, `@staff_page`, `@action` or `@form`. It gets its chatbot from `chatbot_or_404`,
makes one call into an operation or a query, and responds with `render`, or with a redirect after a change.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from django import shortcuts
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import Error
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from chatbots.models import Chatbot
from common.database_errors import describe_database_error, was_not_served
from common.problems import RETRY_AFTER_SECONDS
from common.texts import counted
from console.common.scope import READ, Role, has_role, may, visible_chatbots, within_scope

logger = logging.getLogger(__name__)

_Given = ParamSpec("_Given")
View = Callable[Concatenate[HttpRequest, _Given], HttpResponseBase]

_NOT_YOURS = (
    "Your role in this chatbot does not allow this. A superuser can change your role in the settings of the chatbot."
)
_TAKES_A_FORM = (
    "This page cannot be opened directly. If you were logged out while you submitted a form, nothing was changed: go "
    "back and submit it again."
)
_TAKES_NO_FORM = "Nothing was changed: this page does not accept forms."
_SLOW = (
    "The database did not respond in time. If you submitted a form, check whether it was carried out before you try "
    "again."
)
_NO_CHATBOT = "You do not have access to a chatbot yet. Ask a superuser for a role in one."


class Instead(Exception):
    """Ends a view. The response takes the place of the view's own."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__()
        self.response = response


def page(view: View[_Given]) -> View[_Given]:
    """Make a view a GET page of the console, for staff with access to a chatbot. It is never cached.

    Others are redirected to the login. Http404, PermissionDenied, a wrong method and a database that does not respond
    are answered with pages of the console.
    """
    return _of_console(require_safe(view))


def staff_page(view: View[_Given]) -> View[_Given]:
    """As `page`, for every staff user, even without access to a chatbot."""
    return _of_console(require_safe(view), needs_chatbot=False)


def action(view: View[_Given]) -> View[_Given]:
    """As `page`, for POST only."""
    return _of_console(require_POST(view))


def form(view: View[_Given]) -> View[_Given]:
    """As `page`, for GET and POST."""
    return _of_console(require_http_methods(["GET", "HEAD", "POST"])(view))


def polled(view: View[_Given]) -> View[_Given]:
    """Mark a page that a script polls, above `@page`: it does not keep the session alive.

    After the session has ended it responds with 401 instead of the login page.
    """
    view.counts_as_activity = False  # type: ignore[attr-defined]  # accounts.sessions looks for it
    return view


def _of_console(view: View[_Given], *, needs_chatbot: bool = True) -> View[_Given]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: _Given.args, **kwargs: _Given.kwargs) -> HttpResponseBase:
        try:
            if needs_chatbot and not has_role(request, READ):
                raise PermissionDenied(_NO_CHATBOT)
            answer = view(request, *args, **kwargs)
        except Instead as instead:
            return instead.response
        except Http404:
            text = "This page does not exist, or belongs to a chatbot that you cannot access."
            return refusal(request, status=404, title="Not found", text=text)
        except PermissionDenied as denied:
            return refusal(request, status=403, title="Not allowed", text=str(denied) or _NOT_YOURS)
        except Error as error:
            if not was_not_served(error):
                raise
            detail = describe_database_error(error)
            logger.error("The database did not serve a page: %s", detail)  # noqa: TRY400  (its text may quote a row)
            slow = refusal(request, status=503, title="Temporarily unavailable", text=_SLOW)
            slow["Retry-After"] = str(RETRY_AFTER_SECONDS)
            return slow
        if isinstance(answer, HttpResponseNotAllowed):
            return _not_allowed(request, answer["Allow"])
        return answer

    # No report of an error contains what was submitted: many forms have a value or a secret.
    private = sensitive_post_parameters()(guarded)

    @wraps(view)
    def opened(request: HttpRequest, *args: _Given.args, **kwargs: _Given.kwargs) -> HttpResponseBase:
        # Not at import: the site exists only when the apps are ready.
        answer: HttpResponseBase = admin.site.admin_view(private)(request, *args, **kwargs)
        return answer

    return cast("View[_Given]", opened)


def render(request: HttpRequest, template: str, *, title: str, status: int = 200, **context: Any) -> HttpResponse:
    """Render a template that extends `console/page.html`. `title` is not personal: browser histories keep it."""
    full_context = {**admin.site.each_context(request), "title": title, **context}
    return shortcuts.render(request, template, full_context, status=status)


def refusal(request: HttpRequest, *, status: int, title: str, text: str, **context: Any) -> HttpResponse:
    return render(request, "console/refusal.html", title=title, status=status, text=text, **context)


def _not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    is_read = request.method in {"GET", "HEAD"}
    text = _TAKES_A_FORM if is_read else _TAKES_NO_FORM
    answer = refusal(request, status=405, title="Page not available" if is_read else "Nothing was changed", text=text)
    answer["Allow"] = allowed
    return answer


def chatbot_or_404(request: HttpRequest, slug: str, *, roles: Collection[Role] = READ) -> Chatbot:
    """Return the chatbot of a page.

    Raises Http404 if it does not exist or the user may not see it, and PermissionDenied if the user has no such role.
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


def choose_chatbot(
    request: HttpRequest, template: str, *, title: str, roles: Collection[Role], then: str
) -> HttpResponse:
    """List the chatbots in which the user has one of the roles; redirect to the page `then` if there is only one."""
    chatbots = visible_chatbots(request, roles=roles)
    if not chatbots:
        raise PermissionDenied
    if len(chatbots) == 1:
        return shortcuts.redirect(then, chatbots[0].slug)
    return render(request, template, title=title, chatbots=chatbots)


def report(request: HttpRequest, noun: str, results: Counter[str], done: str) -> None:
    """Tell for how many rows an action was `done`, the empty string in `results`, and which errors others had."""
    for error, number in sorted(results.items()):
        (messages.error if error else messages.success)(request, f"{counted(number, noun)}: {error or done}")


def csv_file(name: str, lines: Iterable[str]) -> HttpResponseBase:
    """Respond with a download of the lines, which can be read from the database as it goes on."""
    disposition = f'attachment; filename="{name}"'
    kind = "text/csv; charset=utf-8"
    return StreamingHttpResponse(lines, content_type=kind, headers={"Content-Disposition": disposition})


def back_to(request: HttpRequest, name: str) -> str:
    """Return the URL that a list had when its form was sent (`back`), or the list's own URL."""
    here, asked = reverse(name), request.POST.get("back", "")
    return asked if asked == here or asked.startswith(f"{here}?") else here
