"""Requests in the admin: watch them, and decide on those that wait for a person. Whom one names is not shown.

Each action makes one call into `compliance/operations/` for each selected request. Superusers may do
everything; of a chatbot's members, officers approve and reject, and support retries and cancels, as officers
do too. Viewers watch.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.timesince import timesince

from chatbots.admin_scope import (
    ChatbotFilter,
    Role,
    ScopedReadOnlyAdmin,
    actor_of,
    chatbots_with_role,
    is_superuser,
    within_scope,
)
from compliance import operations
from compliance.errors import Refused
from compliance.models import ComplianceRequest

DECIDE = (Role.OFFICER,)
TEND = (Role.SUPPORT, Role.OFFICER)


@admin.register(ComplianceRequest)
class ComplianceRequestAdmin(ScopedReadOnlyAdmin):
    list_display = (
        "id",
        "chatbot",
        "kind",
        "status",
        "hold_reason",
        "age",
        "due_at",
        "attempts",
        "error_code",
        "reference",
    )
    list_filter = (ChatbotFilter, "kind", "status", "hold_reason")
    list_select_related = ("chatbot",)
    # The ids are UUIDv7: this is newest first.
    ordering = ("-id",)
    actions = ("approve", "reject", "retry", "cancel")
    fields = (
        "id",
        "chatbot",
        "kind",
        "selector",
        "origin",
        "reference",
        "status",
        "hold_reason",
        "result",
        "erase_exports",
        "include_shared",
        "received_at",
        "not_before",
        "due_at",
        "held_at",
        "started_at",
        "cut_at",
        "completed_at",
        "failed_at",
        "cancelled_at",
        "rejected_at",
        "approved_at",
        "approved_by",
        "attempts",
        "error_code",
        "error_detail",
        "conversations_total",
        "conversations",
        "shared_conversations",
        "messages",
        "identities",
        "variable_values",
        "files",
        "exports",
        "extracts",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ComplianceRequest]:
        # Neither value nor digests are even read.
        return super().get_queryset(request).defer("uci_value", "uci_digest", "conversation_digests")

    @admin.display(ordering="received_at")
    def age(self, request: ComplianceRequest) -> str:
        return timesince(request.received_at, timezone.now(), depth=1)

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request) or bool(chatbots_with_role(request, DECIDE))

    def has_tend_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request) or bool(chatbots_with_role(request, TEND))

    @admin.action(permissions=["decide"], description="Approve: let held requests go on")
    def approve(self, request: HttpRequest, queryset: QuerySet[ComplianceRequest]) -> None:
        self._act(request, queryset, operations.approve, roles=DECIDE, done="approved")

    @admin.action(permissions=["decide"], description="Reject: end held requests undone")
    def reject(self, request: HttpRequest, queryset: QuerySet[ComplianceRequest]) -> None:
        self._act(request, queryset, operations.reject, roles=DECIDE, done="rejected")

    @admin.action(permissions=["tend"], description="Retry failed requests")
    def retry(self, request: HttpRequest, queryset: QuerySet[ComplianceRequest]) -> None:
        self._act(request, queryset, operations.retry, roles=TEND, done="put at the end of the line")

    @admin.action(permissions=["tend"], description="Cancel requests that have not begun")
    def cancel(self, request: HttpRequest, queryset: QuerySet[ComplianceRequest]) -> None:
        self._act(request, queryset, operations.cancel, roles=TEND, done="cancelled")

    def _act(
        self,
        request: HttpRequest,
        queryset: QuerySet[ComplianceRequest],
        operation: Callable[..., Any],
        *,
        roles: tuple[Role, ...],
        done: str,
    ) -> None:
        """Call the operation for each selected request whose chatbot gives the user a role; say how it went."""
        selected = list(queryset.order_by("seq").values_list("pk", flat=True))
        allowed = set(within_scope(queryset, request, chatbot="chatbot_id", roles=roles).values_list("pk", flat=True))
        went: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for request_id in selected:
            if request_id not in allowed:
                refused["Your role in this chatbot does not allow it."] += 1
                continue
            try:
                operation(request_id=request_id, actor=actor_of(request))
            except Refused as refusal:
                refused[refusal.detail] += 1
            else:
                went[done] += 1
        self._say(request, went, level=messages.SUCCESS)
        self._say(request, refused, level=messages.ERROR)

    def _say(self, request: HttpRequest, outcomes: Counter[str], *, level: int) -> None:
        for outcome, number in outcomes.items():
            self.message_user(request, f"{number} request{'s' * (number != 1)}: {outcome}", level)
