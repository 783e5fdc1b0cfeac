"""The list of refused identities: conversations that were to be given the value of an erased chatter."""

from django.db.models import Q
from django.http import HttpRequest, HttpResponse

from console.common.lists import MergedQuery
from console.common.pages import page, render
from console.common.scope import DECIDE, scope_of
from conversations.models import RefusedIdentity
from conversations.models.conversations import EARLIEST


@page
def refused_identities(request: HttpRequest) -> HttpResponse:
    scope = scope_of(request, roles=DECIDE)
    is_listed = Q(at__gt=EARLIEST)  # by the index of the list
    rows = RefusedIdentity.objects.select_related("chatbot").filter(is_listed, chatbot__in=scope.ids)
    return render(
        request,
        "console/monitoring/refused.html",
        title="Refused identities",
        scope=scope,
        page=MergedQuery(rows, scope.ids, conditions=(is_listed,), of_conversations=True).page(request),
    )
