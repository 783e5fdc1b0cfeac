"""The conversations log, read-only and newest first.

A conversation that was deleted, or is about to be, is listed by what is kept of it and cannot be opened.
There is no search: what people would search for is personal, and a search stands in the URL.
"""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_GET

from chatbots.buckets import StorageError
from chatbots.console.scope import (
    ChatbotFilter,
    ReadOnlyInline,
    Role,
    ScopedReadOnlyAdmin,
    actor_of,
    chatbots_with_role,
    is_superuser,
    within_scope,
)
from conversations import downloads
from conversations.extracts import ordering
from conversations.models import Conversation, DailyExtract, UploadedFile


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        return [("live", "Live"), ("marked", "Being deleted"), ("deleted", "Deleted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> QuerySet[Conversation]:  # noqa: ARG002
        match self.value():
            case "live":
                return queryset.filter(deletion_request_id__isnull=True)
            case "marked":
                return queryset.filter(deletion_request_id__isnull=False, deleted_at__isnull=True)
            case "deleted":
                return queryset.filter(deleted_at__isnull=False)
        return queryset


class FileInline(ReadOnlyInline):
    model = UploadedFile
    verbose_name_plural = "files"
    fields = readonly_fields = ("number", "name", "content_type", "bytes", "state", "uploaded", "download")
    ordering = ("id",)

    @admin.display
    def number(self, file: UploadedFile) -> int:
        return file.pk

    @admin.display(description="size")
    def bytes(self, file: UploadedFile) -> str | None:
        return None if file.size is None else filesizeformat(file.size)

    @admin.display
    def uploaded(self, file: UploadedFile) -> str:
        return timezone.localtime(file.created_at).strftime("%Y-%m-%d %H:%M")

    @admin.display
    def download(self, file: UploadedFile) -> str | None:
        if file.state != UploadedFile.State.STORED:
            return None
        url = reverse("admin:conversations_conversation_file", args=[file.conversation_id, file.pk])
        return format_html('<a href="{}">Download</a>', url)


@admin.register(Conversation)
class ConversationAdmin(ScopedReadOnlyAdmin):
    # Counting each filter's rows would read the whole log.
    show_facets = admin.ShowFacets.NEVER
    list_display = (
        "number",
        "conversation",
        "chatbot",
        "channel",
        "started",
        "messages",
        "score",
        "csat_score",
        "csat_vote",
    )
    # The link stands in the column itself, where there is one.
    list_display_links = None
    list_filter = (ChatbotFilter, StateFilter, "started_at", "channel", "has_agent_handover", "csat_vote")
    list_select_related = ("chatbot",)
    inlines = (FileInline,)
    ordering = ("-started_at", "-id")
    fields = (
        "number",
        "external_id",
        "chatbot",
        "channel",
        "language",
        "user_name",
        "uci_variable",
        "started_at",
        "last_message_at",
        "messages",
        "has_file_upload",
        "has_agent_handover",
        "has_push",
        "score",
        "csat_score",
        "csat_vote",
        "csat_comment",
    )

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        # An index has one chatbot's log in this order. Of several chatbots together only the numbers stand in order:
        # the newest that came, which is nearly the same.
        return self.ordering if ChatbotFilter.parameter_name in request.GET else ("-id",)

    @admin.display(description="number", ordering="id")
    def number(self, conversation: Conversation) -> int:
        return conversation.pk

    @admin.display
    def conversation(self, conversation: Conversation) -> str:
        if conversation.deleted_at is not None:
            return "Deleted conversation"
        if conversation.is_closed:
            return "Conversation being deleted"
        url = reverse("admin:conversations_conversation_change", args=[conversation.pk])
        return format_html('<a href="{}">Conversation</a>', url)

    @admin.display(ordering="started_at")
    def started(self, conversation: Conversation) -> str:
        pattern = "%Y-%m-%d" if conversation.is_closed else "%Y-%m-%d %H:%M"
        return timezone.localtime(conversation.started_at).strftime(pattern)

    @admin.display
    def messages(self, conversation: Conversation) -> int | None:
        return None if conversation.is_closed else conversation.message_count

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        return self._refuse_closed(request, object_id) or super().change_view(
            request, object_id, form_url, extra_context
        )

    def get_urls(self) -> list[URLPattern]:
        download = path(
            "<int:object_id>/files/<int:file_id>/",
            require_GET(self.admin_site.admin_view(self.download_view)),
            name="conversations_conversation_file",
        )
        return [download, *super().get_urls()]

    def download_view(self, request: HttpRequest, object_id: int, file_id: int) -> HttpResponse:
        """Send on to a link of minutes. Numbers alone stand in the address: it ends up in logs."""
        if closed := self._refuse_closed(request, str(object_id)):
            return closed
        conversation = self.get_object(request, str(object_id))
        file = UploadedFile.objects.filter(conversation=conversation, pk=file_id).first() if conversation else None
        if file is None:
            raise Http404
        try:
            return HttpResponseRedirect(downloads.link_to(file=file, actor=actor_of(request)))
        except downloads.FileGone:
            return _text("There is no such file any more.", status=410)
        except StorageError as error:
            return _text(error.detail, status=503)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return self._refuse_closed(request, object_id) or super().history_view(request, object_id, extra_context)

    def _refuse_closed(self, request: HttpRequest, object_id: str) -> HttpResponse | None:
        """Answer 410 for a conversation that cannot be opened; None leaves the answer to Django."""
        found = self.get_object(request, object_id)
        if found is None or not found.is_closed:
            return None
        return _text("This conversation was deleted. It cannot be opened.", status=410)


def _text(text: str, *, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")


@admin.register(DailyExtract)
class DailyExtractAdmin(ScopedReadOnlyAdmin):
    """The extracts' days. Superusers, and officers of the chatbot, may have a hosted file made again."""

    list_display = ("day", "chatbot", "state", "rows", "bytes", "hosting", "finished_at", "expires_at", "error_code")
    list_filter = (ChatbotFilter, "state")
    list_select_related = ("chatbot",)
    ordering = ("-id",)
    actions = ("make_again",)
    fields = (
        "day",
        "chatbot",
        "state",
        "starts_at",
        "ends_at",
        "hosting",
        "bucket",
        "key",
        "rows",
        "bytes",
        "sha256",
        "finished_at",
        "expires_at",
        "stale_at",
        "attempts",
        "not_before",
        "error_code",
        "error_detail",
    )

    def has_order_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request) or bool(chatbots_with_role(request, (Role.OFFICER,)))

    @admin.action(permissions=["order"], description="Make again")
    def make_again(self, request: HttpRequest, queryset: QuerySet[DailyExtract]) -> None:
        selected = queryset.count()
        allowed = within_scope(queryset, request, chatbot="chatbot_id", roles=(Role.OFFICER,))
        ordered = ordering.order_rows(allowed, actor=actor_of(request))
        if ordered:
            self.message_user(request, f"{ordered} to be made again, within a minute.", messages.SUCCESS)
        if left := selected - ordered:
            why = "they wait already, are in the client's bucket, or your role does not allow it."
            self.message_user(request, f"{left} left as they are: {why}", messages.WARNING)
