"""The pages of the conversations log: the log itself, a transcript, and its files."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import StorageError
from console.common.pages import page, refusal, render, require
from console.common.paging import page_of
from console.common.scope import MANAGE_REQUESTS, actor_of, may, visible_chatbots, within_scope
from console.common.several import one_of
from console.conversations import bubbles, filters
from console.conversations.cursors import LogCursors, TranscriptPages
from conversations import filtered_log, messages
from conversations.models import Conversation, UploadedFile

MESSAGES = 100


class Link(NamedTuple):
    text: str
    url: str


@page
def log(request: HttpRequest) -> HttpResponse:
    """The log of one chatbot: the newest that fit the filters, and the way to what is older."""
    chatbots = visible_chatbots(request)
    chatbot = one_of(chatbots, request.GET)
    if chatbot is None:
        return render(request, "console/conversations/none.html", title="Conversations")
    asked = filters.read(request.GET, zone=ZoneInfo(chatbot.timezone), now=timezone.now())
    cursors = LogCursors(request)
    found = filtered_log.read_page(
        chatbot=chatbot,
        filters=asked.filters,
        starts_at=asked.starts_at,
        ends_at=asked.ends_at,
        behind=cursors.behind,
        is_backwards=cursors.is_backwards,
    )
    is_empty = not found.rows and not found.searched_to
    return render(
        request,
        "console/conversations/log.html",
        title="Conversations",
        chatbot=chatbot,
        chatbots=chatbots,
        asked=asked,
        chips=[Link(chip.text, _address(chatbot, asked, without=chip.name)) for chip in asked.chips],
        clear_url=_address(chatbot),
        found=found,
        older_url=cursors.address_of(found.older, is_backwards=False),
        newer_url=cursors.address_of(found.newer, is_backwards=True),
        is_backwards=cursors.is_backwards,
        last_day=_last_day(chatbot, asked) if is_empty and cursors.behind is None else None,
    )


@page
def transcript(request: HttpRequest, number: int) -> HttpResponse:
    """What was said in a conversation. Whoever opens it stands in the change log."""
    conversation, chatbot = _conversation_or_404(request, number)
    if conversation.is_closed:
        return _gone(request, conversation)
    try:
        with messages.logged_view(conversation, actor=actor_of(request)) as open_one:
            places = page_of(
                request,
                messages.positions(open_one),
                ordering=TranscriptPages.ordering,
                size=MESSAGES,
                kind=TranscriptPages,
            )
            said = messages.read([place["id"] for place in places.rows], conversation=open_one)
            facts = messages.details(open_one)
    except messages.ConversationClosed:
        conversation.refresh_from_db()
        return _gone(request, conversation)
    return render(
        request,
        "console/conversations/transcript.html",
        title=f"Conversation {open_one.pk}",
        conversation=open_one,
        chatbot=chatbot,
        zone=chatbot.timezone,
        days=bubbles.by_day(said, zone=ZoneInfo(chatbot.timezone)),
        places=places,
        facts=facts,
        may_tend=may(request, chatbot, MANAGE_REQUESTS),
        address=reverse("console:conversation", args=[open_one.pk]),
    )


@page
def file(request: HttpRequest, number: int, file_id: int) -> HttpResponse:
    """Send on to a link of minutes. Numbers alone stand in the address: it ends up in logs."""
    if request.method != "GET":
        return HttpResponseNotAllowed(["GET"])
    conversation, chatbot = _conversation_or_404(request, number)
    require(request, chatbot, MANAGE_REQUESTS)
    if conversation.is_closed:
        return _gone(request, conversation)
    found = UploadedFile.objects.filter(conversation=conversation, pk=file_id).first()
    if found is None:
        raise Http404
    try:
        return HttpResponseRedirect(messages.download_link(file=found, actor=actor_of(request)))
    except messages.FileGone:
        text = "The file is not there: it went, or it has not arrived whole."
        return refusal(request, status=HTTPStatus.GONE, title="No such file", text=text)
    except StorageError as error:
        return refusal(
            request, status=HTTPStatus.SERVICE_UNAVAILABLE, title="The storage cannot be used", text=error.detail
        )


def _conversation_or_404(request: HttpRequest, number: int) -> tuple[Conversation, Chatbot]:
    within = within_scope(Conversation.objects.filter(pk=number), request, chatbot="chatbot_id")
    conversation = within.select_related("chatbot").first()
    if conversation is None:
        raise Http404
    return conversation, conversation.chatbot


def _gone(request: HttpRequest, conversation: Conversation) -> HttpResponse:
    return render(
        request,
        "console/conversations/gone.html",
        title="Deleted conversation" if conversation.deleted_at else "Deletion under way",
        status=HTTPStatus.GONE,
        number=conversation.pk,
        deleted_at=conversation.deleted_at,
        request_id=conversation.deletion_request_id,
        zone=conversation.chatbot.timezone,
        log_url=_address(conversation.chatbot),
    )


def _last_day(chatbot: Chatbot, asked: filters.Asked) -> Link | None:
    """Return the last day before the window's end on which a conversation began."""
    newest = filtered_log.newest_before(chatbot, asked.ends_at)
    if newest is None or newest >= asked.starts_at:
        return None
    day = newest.astimezone(ZoneInfo(chatbot.timezone)).date().isoformat()
    return Link(day, _address(chatbot, asked, since=day, until=day))


def _address(chatbot: Chatbot, asked: filters.Asked | None = None, *, without: str = "", **also: str) -> str:
    parameters = {"chatbot": chatbot.slug, **(asked.parameters if asked else {}), **also}
    return f"{reverse('console:conversations')}?{urlencode(_but(parameters.items(), without))}"


def _but(pairs: Iterable[tuple[str, str]], name: str) -> list[tuple[str, str]]:
    return [pair for pair in pairs if pair[0] != name]
