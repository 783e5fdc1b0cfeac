"""Shared by Django's admin pages: for superusers, without counts of rows, and read-only by default."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core import paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from console.common.scope import is_superuser

# Generic in the stubs only.
if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
    Paginator = paginator.Paginator[Any]
else:
    ModelAdmin = admin.ModelAdmin
    TabularInline = admin.TabularInline
    Paginator = paginator.Paginator


class ShortPaginator(Paginator):
    """Pages through the first rows of a list only: counting all of them would read the whole table each time."""

    most = 2_000
    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        # In the list's order, so that the index that serves a page also serves the count.
        return len(self.object_list.values_list("pk", flat=True)[: self.most])


class _ReadOnly:
    def _never(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    has_add_permission = has_change_permission = has_delete_permission = _never


class SuperusersOnly(_ReadOnly, ModelAdmin):
    """Shows rows to superusers and changes nothing. Django's history identifies rows by number only."""

    paginator = ShortPaginator
    show_full_result_count = False
    # Facets would count the rows of each choice.
    show_facets = admin.ShowFacets.NEVER

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return is_superuser(request)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        # Django would look up a field without a name for an empty `_to_field`.
        return super().get_object(request, object_id, from_field or None)

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        return _log(request, obj, ADDITION, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        return _log(request, obj, CHANGE, message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Model]) -> list[LogEntry]:
        return [_log(request, obj, DELETION, "") for obj in queryset]


def _log(request: HttpRequest, obj: Model, flag: int, message: Any) -> LogEntry:
    # Django would keep a user's name here for ever, even after it was changed.
    return LogEntry.objects.create(
        user_id=request.user.pk or 0,
        content_type=ContentType.objects.get_for_model(obj, for_concrete_model=False),
        object_id=obj.pk,
        object_repr=f"{obj._meta.verbose_name} {obj.pk}",
        action_flag=flag,
        change_message=json.dumps(message) if isinstance(message, list) else message,
    )


class ReadOnlyInline(_ReadOnly, TabularInline):
    """Rows of a page that has checked its permissions already: shown, never changed."""

    extra = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return True
