"""Actions of the admin that call an operation for each selected row whose chatbot gives the user a role."""

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest

from chatbots.console.scope import Role, ScopedReadOnlyAdmin, chatbots_with_role, is_superuser, within_scope
from compliance.errors import Refused

DECIDE = (Role.OFFICER,)
TEND = (Role.SUPPORT, Role.OFFICER)


class ActingAdmin(ScopedReadOnlyAdmin):
    """Superusers may do everything; of a chatbot's members, those with a role that the action asks for."""

    noun: ClassVar[str]
    acts_in_order: ClassVar[str] = "pk"

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request) or bool(chatbots_with_role(request, DECIDE))

    def has_tend_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request) or bool(chatbots_with_role(request, TEND))

    def act(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        operation: Callable[[Any], object],
        *,
        roles: tuple[Role, ...],
        done: str,
    ) -> None:
        """Call the operation with the key of each selected row; say how it went."""
        selected = list(queryset.order_by(self.acts_in_order).values_list("pk", flat=True))
        allowed = set(within_scope(queryset, request, chatbot="chatbot_id", roles=roles).values_list("pk", flat=True))
        went: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for key in selected:
            if key not in allowed:
                refused["Your role in this chatbot does not allow it."] += 1
                continue
            try:
                operation(key)
            except Refused as refusal:
                refused[refusal.detail] += 1
            else:
                went[done] += 1
        self._say(request, went, level=messages.SUCCESS)
        self._say(request, refused, level=messages.ERROR)

    def _say(self, request: HttpRequest, outcomes: Counter[str], *, level: int) -> None:
        for outcome, number in outcomes.items():
            self.message_user(request, f"{number} {self.noun}{'s' * (number != 1)}: {outcome}", level)
