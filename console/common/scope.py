"""Permissions in the console: superusers may do everything, other staff what their Memberships allow.

Django's model permissions grant nothing here. To give a user access, give them a Membership.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from django.urls import reverse

from chatbots.models import Chatbot, Membership

Role = Membership.Role

# Rows of a page of a list.
PAGE_SIZE = 50

# What roles allow: to read, to file and manage requests, to decide on requests and settings.
READ: tuple[Role, ...] = (Role.VIEWER, Role.SUPPORT, Role.OFFICER)
MANAGE_REQUESTS: tuple[Role, ...] = (Role.SUPPORT, Role.OFFICER)
DECIDE: tuple[Role, ...] = (Role.OFFICER,)
SUPERUSER_ONLY: tuple[Role, ...] = ()

_Row = TypeVar("_Row", bound=Model)


def actor_of(request: HttpRequest) -> str:
    """Return the user of a request in the form of the change log's actors."""
    return f"user:{request.user.pk}"


def is_superuser(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_superuser


def chatbots_with_role(request: HttpRequest, roles: Collection[Role]) -> list[int]:
    """Return the ids of the chatbots in which a staff user who is no superuser has one of the roles."""
    user = request.user
    if not (user.is_authenticated and user.is_active and user.is_staff):
        return []
    # Read once for a request: a page asks many times.
    if "roles" not in vars(request):
        vars(request)["roles"] = list(user.memberships.values_list("chatbot_id", "role"))
    return [chatbot_id for chatbot_id, role in vars(request)["roles"] if role in roles]


def has_role(request: HttpRequest, roles: Collection[Role]) -> bool:
    """Return whether the user has one of the roles in any chatbot. Superusers have all of them."""
    return is_superuser(request) or bool(chatbots_with_role(request, roles))


def within_scope(
    queryset: QuerySet[_Row], request: HttpRequest, *, chatbot: str, roles: Collection[Role] = tuple(Role)
) -> QuerySet[_Row]:
    """Return the rows of the chatbots in which the user has one of the roles.

    `chatbot` is the lookup from a row to the id of its chatbot, such as `chatbot_id`. Rows of a chatbot that
    waits for an operator's decision after a restore are left out.
    """
    if chatbot == "id":
        queryset = queryset.filter(closed_at=None)
    else:
        queryset = queryset.exclude(**{f"{chatbot}__in": Chatbot.objects.exclude(closed_at=None).values("pk")})
    if is_superuser(request):
        return queryset
    return queryset.filter(**{f"{chatbot}__in": chatbots_with_role(request, roles)})


def row_or_404(request: HttpRequest, rows: QuerySet[_Row]) -> _Row:
    """Return the first of the rows in the user's chatbots."""
    row = within_scope(rows, request, chatbot="chatbot_id").first()
    if row is None:
        raise Http404
    return row


def visible_chatbots(request: HttpRequest, *, roles: Collection[Role] = tuple(Role)) -> list[Chatbot]:
    """Return the chatbots in which the user has one of the roles, by name."""
    return list(within_scope(Chatbot.objects.order_by("name", "slug"), request, chatbot="id", roles=roles))


def may(request: HttpRequest, chatbot: Chatbot, roles: Collection[Role]) -> bool:
    """Return whether the user has one of the roles in a chatbot. Superusers have all of them."""
    return is_superuser(request) or chatbot.pk in chatbots_with_role(request, roles)


def seen_of_selected(request: HttpRequest, rows: QuerySet[_Row], *, most: int) -> tuple[set[Any], QuerySet[_Row]]:
    """Return the first keys of rows that a form selected, and those of the rows that the user sees.

    Raises Http404 for what is no key.
    """
    to_key = rows.model._meta.pk.to_python
    try:
        keys = {to_key(text) for text in request.POST.getlist("selected")[:most]}
    except ValidationError:
        raise Http404 from None
    return keys, within_scope(rows.filter(pk__in=keys), request, chatbot="chatbot_id")


def selected(request: HttpRequest, rows: QuerySet[_Row], roles: Collection[Role]) -> QuerySet[_Row]:
    """Return the rows of a list that a form selected, at most a page of them.

    Raises Http404 for an unknown row, PermissionDenied if the user has none of the roles in the chatbot of one.
    """
    keys, found = seen_of_selected(request, rows, most=PAGE_SIZE)
    chatbots = list(found.values_list("chatbot_id", flat=True))
    if len(chatbots) < len(keys):
        raise Http404
    if not is_superuser(request) and not set(chatbots) <= set(chatbots_with_role(request, roles)):
        raise PermissionDenied
    return found


@dataclass(frozen=True)
class ChatbotScope:
    """The chatbots of a page: `chosen` is the one in the URL, or the only one that the user may see."""

    visible: list[Chatbot]
    chosen: Chatbot | None

    @property
    def first(self) -> Chatbot | None:
        """The chosen chatbot, or else the first. None for a superuser without a chatbot."""
        return self.chosen or next(iter(self.visible), None)

    @property
    def ids(self) -> list[int]:
        return [self.chosen.pk] if self.chosen else [chatbot.pk for chatbot in self.visible]

    @property
    def zone(self) -> str:
        """The chatbot's time zone, or UTC for several."""
        return self.chosen.timezone if self.chosen else "UTC"

    @property
    def slug(self) -> str:
        return self.chosen.slug if self.chosen else ""

    def link(self, name: str, **filters: str) -> str:
        """Return the URL of a list, with these filters, of the chosen chatbot if there is one.

        A place `{day}` in it stays as it is.
        """
        chosen = {"chatbot": self.slug} if self.chosen else {}
        return f"{reverse(name)}?{urlencode(chosen | filters, safe='{}')}"


def scope_of(request: HttpRequest, *, roles: Collection[Role] = READ) -> ChatbotScope:
    """Return the chatbot of `?chatbot=`, or all chatbots in which the user has one of the roles.

    Raises Http404 if the user may not see the chatbot, and PermissionDenied if they have none of the roles.
    """
    seen = visible_chatbots(request)
    visible = [one for one in seen if may(request, one, roles)]
    wanted = request.GET.get("chatbot", "")
    chosen = find_visible(seen, wanted) if wanted and visible else None
    if (chosen and chosen not in visible) or not (visible or is_superuser(request)):
        raise PermissionDenied
    return ChatbotScope(visible, visible[0] if chosen is None and len(visible) == 1 else chosen)


def find_visible(visible: list[Chatbot], slug: str) -> Chatbot:
    """Return one of the chatbots. Raises Http404."""
    # Without a query: the parameter may be any text, and the chatbots were read already.
    for chatbot in visible:
        if chatbot.slug == slug:
            return chatbot
    raise Http404
