"""Requests in the admin: watch them, and decide on those that wait for a person. Whom one names is not shown.

Each action makes one call into `compliance/operations/` for each selected request. Superusers may do
everything; of a chatbot's members, officers approve and reject, and support retries and cancels, as officers
do too. Viewers watch.
"""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.timesince import timesince

from chatbots.console.scope import ChatbotFilter, Role, actor_of
from compliance import operations
from compliance.admin_actions import DECIDE, TEND, ActingAdmin
from compliance.models import ComplianceRequest


@admin.register(ComplianceRequest)
class ComplianceRequestAdmin(ActingAdmin):
    noun = "request"
    acts_in_order = "seq"
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
        actor = actor_of(request)
        self.act(request, queryset, lambda key: operation(request_id=key, actor=actor), roles=roles, done=done)
