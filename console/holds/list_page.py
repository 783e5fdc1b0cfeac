"""The list of legal holds: those in force, and the last ones that were released."""

from typing import Any

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.http import urlencode

from compliance.models import LegalHold
from console.changelog import names_of
from console.common.lists import ListPage, MergedQuery
from console.common.pages import page, render
from console.common.scope import DECIDE, ChatbotScope, scope_of

_VIEWS = {"in-force": ("In force", Q(released_at=None)), "released": ("Released", Q(released_at__isnull=False))}
# Released holds below those in force.
_MOST_RELEASED = 10
# Personal, and never read for a list.
_UNREAD = ("value_encrypted", "uci_digest")


@page
def holds(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request, roles=DECIDE)
    view = request.GET.get("view", "in-force")
    if view not in _VIEWS:
        raise Http404
    found: ListPage[LegalHold] = _query(scope, view).page(request)
    released = _query(scope, "released").order_by("-id")[:_MOST_RELEASED] if view == "in-force" else []
    return render(
        request,
        "console/holds/list.html",
        title="Legal holds",
        scope=scope,
        page=found,
        released=released,
        people=names_of(name for one in [*found.rows, *released] for name in (one.placed_by, one.released_by)),
        now=timezone.now(),
        view=view,
        views=[_tab(name, view, scope.slug) for name in _VIEWS],
    )


def _query(scope: ChatbotScope, view: str) -> MergedQuery[LegalHold]:
    rows = LegalHold.objects.select_related("chatbot", "variable").defer(*_UNREAD)
    return MergedQuery(rows, scope.ids, branches=(_VIEWS[view][1],))


def _tab(name: str, view: str, slug: str) -> dict[str, Any]:
    parameters = {"view": name} | ({"chatbot": slug} if slug else {})
    return {"label": _VIEWS[name][0], "url": f"?{urlencode(parameters)}", "is_here": name == view}
