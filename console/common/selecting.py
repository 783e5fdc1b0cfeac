"""Lists in which rows are selected and acted upon together."""

from collections.abc import Collection

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.urls import reverse

from console.common.scope import Role, chatbots_with_role, is_superuser


def back_to(request: HttpRequest, name: str) -> str:
    """Return the address of a list as it was when its form was sent (`back`), or the list's own."""
    here, asked = reverse(name), request.POST.get("back", "")
    return asked if asked == here or asked.startswith(f"{here}?") else here


def require_in_all(request: HttpRequest, chatbots: Collection[int], roles: Collection[Role]) -> None:
    """Raise PermissionDenied unless the user has one of the roles in each of the chatbots."""
    if not is_superuser(request) and not set(chatbots) <= set(chatbots_with_role(request, roles)):
        raise PermissionDenied
