"""The list of chatbots, and the page that creates one."""

import zoneinfo

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from chatbots.models import Chatbot
from chatbots.operations.chatbots import create_chatbot
from chatbots.overview import overview_of, with_setup
from console.common.lists import paginate
from console.common.pages import form as form_page
from console.common.pages import page, render
from console.common.scope import actor_of, is_superuser, within_scope
from console.settings.forms import NewChatbotForm

_MOST_OF_SEARCH = 200


@page
def chatbots(request: HttpRequest) -> HttpResponse:
    """List the chatbots that the user may see by name, each with its missing settings."""
    search = request.GET.get("q", "").replace("\0", "")[:_MOST_OF_SEARCH].strip()
    found = within_scope(Chatbot.objects.all(), request, chatbot="id")
    if search:
        found = found.filter(Q(name__icontains=search) | Q(slug__icontains=search))
    rows = paginate(request, with_setup(found), ordering=("name", "slug"))
    return render(
        request,
        "console/chatbots/list.html",
        title="Chatbots",
        page=rows,
        overviews=[overview_of(chatbot) for chatbot in rows.rows],
        search=search,
        is_superuser=is_superuser(request),
    )


@form_page
def new_chatbot(request: HttpRequest) -> HttpResponse:
    if not is_superuser(request):
        raise PermissionDenied
    form = NewChatbotForm(request.POST or None, initial={"timezone": "UTC"})
    if request.method == "POST" and form.is_valid():
        try:
            chatbot = create_chatbot(**form.arguments(), actor=actor_of(request))
        except ValidationError as error:
            form.refuse(error)
        else:
            messages.success(request, "The chatbot was created. Create an API key for its callers next.")
            return redirect(reverse("console:settings", args=[chatbot.slug]))
    return render(
        request,
        "console/chatbots/new.html",
        title="New chatbot",
        form=form,
        timezones=sorted(zoneinfo.available_timezones()),
    )
