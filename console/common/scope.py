"""Who sees and does what in the admin: superusers everything, other staff what their Memberships say.

Django's own model permissions grant nothing on these models: to give somebody access is to give a Membership.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import admin
from django.core import paginator
from django.db.models import Model, QuerySet, prefetch_related_objects
from django.http import HttpRequest
from django.utils.functional import cached_property

from chatbots.models import Chatbot, Membership

# Generic in the stubs alone.
if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
    Paginator = paginator.Paginator[Any]
else:
    ModelAdmin = admin.ModelAdmin
    TabularInline = admin.TabularInline
    Paginator = paginator.Paginator

Role = Membership.Role

# What roles allow: to look, to file and tend requests, to decide on them and on what is set up. No role lets anybody
# run the service: that is for superusers alone.
READ: tuple[Role, ...] = (Role.VIEWER, Role.SUPPORT, Role.OFFICER)
MANAGE_REQUESTS: tuple[Role, ...] = (Role.SUPPORT, Role.OFFICER)
DECIDE: tuple[Role, ...] = (Role.OFFICER,)
SUPERUSER_ONLY: tuple[Role, ...] = ()

_Row = TypeVar("_Row", bound=Model)


def actor_of(request: HttpRequest) -> str:
    """Return the staff user of a call as the change log names them."""
    return f"user:{request.user.pk}"


def is_superuser(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_superuser


def chatbots_with_role(request: HttpRequest, roles: Collection[Role]) -> list[int]:
    """Return the ids of the chatbots in which a staff user, no superuser, has one of the roles."""
    user = request.user
    if not (user.is_authenticated and user.is_active and user.is_staff):
        return []
    # Remembered on the user, who lives as long as the call.
    prefetch_related_objects([user], "memberships")
    return [one.chatbot_id for one in user.memberships.all() if one.role in roles]


def within_scope(
    queryset: QuerySet[_Row], request: HttpRequest, *, chatbot: str, roles: Collection[Role] = tuple(Role)
) -> QuerySet[_Row]:
    """Return the rows of the chatbots that the user may see, or in which they have one of the roles.

    `chatbot` is the way from a row to the id of its chatbot, such as `chatbot_id`.
    """
    if is_superuser(request):
        return queryset
    return queryset.filter(**{f"{chatbot}__in": chatbots_with_role(request, roles)})


def visible_chatbots(request: HttpRequest) -> list[Chatbot]:
    """Return the chatbots that the user may see, by name."""
    return list(within_scope(Chatbot.objects.order_by("name", "slug"), request, chatbot="id"))


def may(request: HttpRequest, chatbot: Chatbot, roles: Collection[Role]) -> bool:
    """Say whether the user has one of the roles in a chatbot. Superusers have all of them."""
    return is_superuser(request) or chatbot.pk in chatbots_with_role(request, roles)


class ShortPaginator(Paginator):
    """Pages through the first rows of a list only, and counts no further.

    Counting all would read the whole table for each page shown. Who looks for older rows filters.
    """

    most = 2_000
    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        # In the list's order, so that the index which serves a page serves the count too.
        return len(self.object_list.values_list("pk", flat=True)[: self.most])


class ReadOnlyInline(TabularInline):
    """Rows of a page that is within the scope already: shown, never changed."""

    extra = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return True

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False
