"""Requests, exports, callbacks, daily extracts and claims for operators: all fields but personal ones, read-only.

The tables can be large, so nothing is counted or sorted: a list has the newest 2,000 rows in the order of the primary
key, and filters apply to those. An older row is found by its id.
"""

from typing import Any, ClassVar, cast

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from compliance.inventory import STORES, Disposition
from compliance.models import Callback, Claim, ComplianceRequest, Export
from console.admin.base import ShortPaginator, SuperusersOnly
from conversations.models import DailyExtract

# An object key can contain a UCI value, a reference is the client's own text, a token is a worker's secret.
_ALSO_HIDDEN = {"key", "upload_id", "reference", "token"}
_NOT_PERSONAL = {Disposition.KEPT, Disposition.EXPIRES}


def hidden_fields(model: type[Model]) -> set[str]:
    """Return the fields that no page may read: those that erasure empties or deletes, and `_ALSO_HIDDEN`."""
    personal = {
        name
        for store in STORES
        if store.model is model
        for name, (disposition, _) in store.fields.items()
        if disposition not in _NOT_PERSONAL
    }
    return (personal | _ALSO_HIDDEN) & {field.name for field in model._meta.concrete_fields}


class NewestFilter(admin.ChoicesFieldListFilter):
    """A filter by a closed list of values that reads the newest rows only, however few of them match."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.used_parameters:
            return queryset
        newest = queryset.model._default_manager.order_by("-pk").values_list("pk", flat=True)
        oldest = list(newest[ShortPaginator.most - 1 : ShortPaginator.most])
        if oldest:
            queryset = queryset.filter(pk__gte=oldest[0])
        return cast("QuerySet[Any]", super().queryset(request, queryset))


class NewestFirst(ChangeList):
    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:  # noqa: ARG002
        # Django would sort by any column in the URL.
        return ["-pk"]


class RecordAdmin(SuperusersOnly):
    filters: ClassVar[tuple[str, ...]] = ()

    list_per_page = 50
    list_select_related = ("chatbot",)
    ordering = ("-pk",)
    sortable_by: ClassVar = ()
    search_fields = ("id",)

    @admin.display(description="Request")
    def console_page(self, row: Any) -> SafeString:
        """Link to the request's page in the console, which explains its state."""
        request_id = getattr(row, "request_id", row.pk)
        return format_html('<a href="{}">{}</a>', reverse("console:request", args=[request_id]), request_id)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        # Not `search_help_text`: Django's search field has no visible label, and a description does not replace it.
        newest = f"The newest {ShortPaginator.most:,}. Filters search only these. Search for the id of an older one."
        return super().changelist_view(request, {"subtitle": newest} | (extra_context or {}))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ARG002
        return NewestFirst

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*hidden_fields(self.model))

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:  # noqa: ARG002
        # In place of the request's own row, which would be read with its personal fields.
        hidden = hidden_fields(self.model) | {"request"}
        names = [field.name for field in self.model._meta.concrete_fields if field.name not in hidden]
        return ["console_page", *names] if "console_page" in self.list_display else names

    def get_list_filter(self, request: HttpRequest) -> list[Any]:  # noqa: ARG002
        return [(name, NewestFilter) for name in self.filters]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:  # noqa: ARG002
        # Django would filter by any column in the URL, personal ones included.
        return lookup.removesuffix("__exact") in self.filters

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002
        queryset: QuerySet[Any],
        search_term: str,
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        try:
            return queryset.filter(pk=self.opts.pk.to_python(search_term.strip())), False
        except ValidationError:
            return queryset.none(), False


class RequestAdmin(RecordAdmin):
    list_display = (
        *("id", "console_page", "chatbot", "kind", "status", "hold_reason", "lane", "attempts", "error_code"),
        *("received_at", "requested_at", "due_at", "completed_at"),
    )
    filters = ("kind", "status", "hold_reason", "lane", "origin")


class ExportAdmin(RecordAdmin):
    list_display = (
        *("id", "console_page", "chatbot", "hosting", "rows", "bytes"),
        *("finished_at", "expires_at", "removed_at"),
    )


class CallbackAdmin(RecordAdmin):
    list_display = (
        *("id", "console_page", "chatbot", "event", "state", "attempts", "last_status", "last_error"),
        *("occurred_at", "next_attempt_at", "delivered_at"),
    )
    filters = ("state", "status", "last_error")


class ExtractAdmin(RecordAdmin):
    list_display = (
        *("id", "chatbot", "day", "state", "hosting", "attempts", "error_code", "rows", "bytes"),
        *("finished_at", "expires_at", "stale_at"),
    )
    filters = ("state",)


class ClaimAdmin(RecordAdmin):
    list_display = ("id", "owner", "is_large", "bucket_of", "created_at", "expires_at")
    list_select_related = ("bucket_of",)


admin.site.register(ComplianceRequest, RequestAdmin)
admin.site.register(Export, ExportAdmin)
admin.site.register(Callback, CallbackAdmin)
admin.site.register(DailyExtract, ExtractAdmin)
admin.site.register(Claim, ClaimAdmin)
