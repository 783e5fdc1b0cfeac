"""The change log in the admin: shown only. All else of a chatbot is on the console's own pages."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from chatbots.access import admin as _access_admin  # noqa: F401  (registers its models)
from chatbots.changelog import VOCABULARY
from chatbots.console.scope import ChatbotFilter, ScopedReadOnlyAdmin
from chatbots.models import ChangeLogEntry


class EventFilter(admin.SimpleListFilter):
    title = "event"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        return [(event, event) for event in VOCABULARY]

    def queryset(
        self,
        request: HttpRequest,  # noqa: ARG002
        queryset: QuerySet[ChangeLogEntry],
    ) -> QuerySet[ChangeLogEntry]:
        event = self.value()
        if event is None:
            return queryset
        return queryset.filter(event=event) if event in VOCABULARY else queryset.none()


@admin.register(ChangeLogEntry)
class ChangeLogEntryAdmin(ScopedReadOnlyAdmin):
    list_display = ("at", "chatbot", "event", "actor", "request_id", "data")
    list_filter = (ChatbotFilter, EventFilter)
    list_select_related = ("chatbot",)
    ordering = ("-id",)
    fields = list_display
