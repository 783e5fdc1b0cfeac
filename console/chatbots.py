"""The list of chatbots, and the page that makes one."""

import zoneinfo

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from chatbots import operations
from chatbots.models import Chatbot
from chatbots.overview import overview_of, with_setup
from console.common.pages import form as form_page
from console.common.pages import page, render
from console.common.paging import page_of
from console.common.scope import actor_of, is_superuser, within_scope
from console.settings.forms import NewChatbotForm

_MOST_OF_SEARCH = 200


@page
def chatbots(request: HttpRequest) -> HttpResponse:
    """Show the chatbots that the user may see, by name, each with what it lacks."""
    wanted = request.GET.get("q", "").replace("\0", "")[:_MOST_OF_SEARCH].strip()
    found = within_scope(Chatbot.objects.all(), request, chatbot="id")
    if wanted:
        found = found.filter(Q(name__icontains=wanted) | Q(slug__icontains=wanted))
    rows = page_of(request, with_setup(found), ordering=("name", "slug"))
    return render(
        request,
        "console/chatbots/list.html",
        title="Chatbots",
        page=rows,
        overviews=[overview_of(chatbot) for chatbot in rows.rows],
        wanted=wanted,
        may_run=is_superuser(request),
    )


@form_page
def new_chatbot(request: HttpRequest) -> HttpResponse:
    """Make a chatbot. Superusers only."""
    if not is_superuser(request):
        raise PermissionDenied
    form = NewChatbotForm(request.POST or None, initial={"timezone": "UTC"})
    if request.method == "POST" and form.is_valid():
        try:
            made = operations.create_chatbot(**form.asked(), actor=actor_of(request))
        except ValidationError as error:
            form.refuse(error)
        else:
            messages.success(request, "The chatbot is made. Give its callers an API key next.")
            return redirect(reverse("console:settings", args=[made.slug]))
    return render(
        request,
        "console/chatbots/new.html",
        title="New chatbot",
        form=form,
        timezones=sorted(zoneinfo.available_timezones()),
    )
