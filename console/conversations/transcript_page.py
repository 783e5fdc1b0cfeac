"""The transcript of a conversation, one bubble per message by day, and its files."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from http import HTTPStatus
from itertools import groupby
from zoneinfo import ZoneInfo

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import reverse
from rest_framework.pagination import Cursor
from rest_framework.request import Request

from chatbots.models import Chatbot
from common.storage import StorageError
from compliance.models import Redaction
from compliance.redaction import filing
from console.common.lists import paginate
from console.common.pages import Instead, page, refusal, render, require
from console.common.scope import DECIDE, MANAGE_REQUESTS, READ, Role, actor_of, may, within_scope
from console.conversations.log_page import log_url
from conversations import messages
from conversations.messages import MessagePages, MessageWithFiles
from conversations.models import Conversation, UploadedFile
from conversations.protection import find_restricted

MESSAGES = 100
# Longer texts are folded.
LONGEST = 3_000
_BEGINNING = 1_500
# How far back a text is cut at a space.
_BACK = 200


class TranscriptPages(MessagePages):
    """A transcript in pages; `?at=end` is the last one."""

    def decode_cursor(self, request: Request) -> Cursor | None:
        if self.query.cursor is None and request.GET.get("at") == "end":
            return Cursor(offset=0, reverse=True, position=None)
        return super().decode_cursor(request)


@page
def transcript(request: HttpRequest, number: int) -> HttpResponse:
    """Show a conversation's messages. The change log records each view."""
    conversation, chatbot = open_conversation(request, number)
    with viewed(request, conversation) as open_one:
        places = paginate(
            request,
            messages.positions(open_one),
            ordering=TranscriptPages.ordering,
            size=MESSAGES,
            kind=TranscriptPages,
        )
        read = messages.read([place["id"] for place in places.rows], conversation=open_one)
        waiting = filing.waiting(chatbot=chatbot, number=open_one.pk)
        facts = messages.details(open_one)
    return render(
        request,
        "console/conversations/transcript.html",
        title=f"Conversation {open_one.pk}",
        conversation=open_one,
        chatbot=chatbot,
        zone=chatbot.timezone,
        days=by_day(read, zone=ZoneInfo(chatbot.timezone)),
        waiting=waiting.messages,
        places=places,
        facts=facts,
        may_manage=may(request, chatbot, MANAGE_REQUESTS),
        is_restricted=open_one.pk in find_restricted(chatbot.pk, [open_one.pk]),
        reasons=Redaction.Reason.choices,
        comment_waits_for=waiting.csat_comment,
        open_redactions=sorted({*waiting.messages.values(), *filter(None, [waiting.csat_comment])}),
        address=reverse("console:conversation", args=[open_one.pk]),
    )


@page
def file(request: HttpRequest, number: int, file_id: int) -> HttpResponse:
    """Redirect to a download link of a few minutes. This URL contains numbers only, since URLs end up in logs."""
    if request.method != "GET":
        return HttpResponseNotAllowed(["GET"])
    conversation, chatbot = open_conversation(request, number, roles=MANAGE_REQUESTS)
    found = UploadedFile.objects.filter(chatbot=chatbot, conversation=conversation, pk=file_id).first()
    if found is None:
        raise Http404
    try:
        sees_restricted = may(request, chatbot, DECIDE)
        link = messages.download_link(file=found, actor=actor_of(request), sees_restricted=sees_restricted)
        return HttpResponseRedirect(link)
    except messages.ConversationRestricted:
        return restricted_conversation(request)
    except messages.FileDeleted:
        text = "The file was deleted, or its upload has not finished."
        return refusal(request, status=HTTPStatus.GONE, title="File not available", text=text)
    except StorageError as error:
        return refusal(
            request, status=HTTPStatus.SERVICE_UNAVAILABLE, title="Storage not available", text=error.detail
        )


def open_conversation(
    request: HttpRequest, number: int, *, roles: Collection[Role] = READ
) -> tuple[Conversation, Chatbot]:
    """Return an open conversation and its chatbot, for a user with one of the roles.

    Raises Http404 outside the user's chatbots, and `Instead` for a closed conversation.
    """
    within = within_scope(Conversation.objects.filter(pk=number), request, chatbot="chatbot_id")
    conversation = within.select_related("chatbot").first()
    if conversation is None:
        raise Http404
    require(request, conversation.chatbot, roles)
    if conversation.is_closed:
        raise Instead(closed_conversation(request, conversation))
    return conversation, conversation.chatbot


@contextmanager
def viewed(request: HttpRequest, conversation: Conversation) -> Iterator[Conversation]:
    """Record that the user reads the conversation. Raises `Instead` if it is closed meanwhile, or is restricted."""
    sees_restricted = may(request, conversation.chatbot, DECIDE)
    try:
        with messages.logged_view(conversation, actor=actor_of(request), sees_restricted=sees_restricted) as open_one:
            yield open_one
    except messages.ConversationClosed:
        conversation.refresh_from_db(from_queryset=Conversation.objects.filter(chatbot=conversation.chatbot))
        raise Instead(closed_conversation(request, conversation)) from None
    except messages.ConversationRestricted:
        raise Instead(restricted_conversation(request)) from None


def closed_conversation(request: HttpRequest, conversation: Conversation) -> HttpResponse:
    """Return the page (410) that replaces each page of a closed conversation."""
    return render(
        request,
        "console/conversations/gone.html",
        title="Deleted conversation" if conversation.deleted_at else "Deletion in progress",
        status=HTTPStatus.GONE,
        number=conversation.pk,
        deleted_at=conversation.deleted_at,
        request_id=conversation.deletion_request_id,
        zone=conversation.chatbot.timezone,
        log_url=log_url(conversation.chatbot),
    )


def restricted_conversation(request: HttpRequest) -> HttpResponse:
    """Return the page (403) that replaces each page of a restricted conversation for staff who are no officers."""
    text = (
        "A legal hold keeps this conversation although its erasure is requested, so only officers can read it. New "
        "messages are still stored."
    )
    return refusal(request, status=HTTPStatus.FORBIDDEN, title="Restricted conversation", text=text)


def by_day(found: Sequence[MessageWithFiles], *, zone: ZoneInfo) -> list[tuple[date, list[MessageWithFiles]]]:
    """Return messages by day of a time zone, in the order of time."""
    days = groupby(found, key=lambda one: one.message.sent_at.astimezone(zone).date())
    return [(day, list(of_day)) for day, of_day in days]


def folded(text: str) -> tuple[str, str]:
    """Return the beginning and the rest of a long text, cut at a space if there is one."""
    if len(text) <= LONGEST:
        return text, ""
    cut = max(text.rfind(" ", _BEGINNING - _BACK, _BEGINNING), text.rfind("\n", _BEGINNING - _BACK, _BEGINNING))
    cut = cut if cut > 0 else _BEGINNING
    return text[:cut], text[cut:]
