"""Choose for which chatbot to file."""

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from chatbots.models import Chatbot
from console.common.pages import page, render
from console.common.scope import MANAGE_REQUESTS, within_scope

TITLE = "File a request"


@page
def choose_chatbot(request: HttpRequest) -> HttpResponse:
    """Show the chatbots in which the user may file; where there is one alone, go on to it."""
    chatbots = list(
        within_scope(Chatbot.objects.order_by("name", "slug"), request, chatbot="id", roles=MANAGE_REQUESTS)
    )
    match chatbots:
        case []:
            raise PermissionDenied
        case [only]:
            return HttpResponseRedirect(reverse("console:file_request", args=[only.slug]))
    return render(request, "console/filing/choose.html", title=TITLE, chatbots=chatbots)
