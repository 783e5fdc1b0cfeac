"""The daily extracts in the admin. The conversations log has pages of its own: `conversations/console/`."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from chatbots.console.scope import (
    ChatbotFilter,
    Role,
    ScopedReadOnlyAdmin,
    actor_of,
    chatbots_with_role,
    is_superuser,
    within_scope,
)
from conversations.extracts import ordering
from conversations.models import DailyExtract


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
