"""Callbacks in the admin: what clients were told, and telling them again. The address is not shown, but its host."""

from typing import ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from chatbots.callback_urls import receiver_of
from chatbots.console.scope import ChatbotFilter, actor_of
from compliance.admin_actions import TEND, ActingAdmin
from compliance.callbacks import resending
from compliance.models import Callback


class CallbackAdmin(ActingAdmin):
    noun = "callback"
    list_display = (
        "id",
        "chatbot",
        "event",
        "request_id",
        "state",
        "attempts",
        "last_status",
        "last_error",
        "occurred_at",
        "next_attempt_at",
    )
    list_filter = (ChatbotFilter, "state", "status", "last_error")
    list_select_related = ("chatbot",)
    # The ids are UUIDv7: this is newest first.
    ordering = ("-id",)
    actions = ("send_again",)
    fields: ClassVar = (*list_display, "receiver", "give_up_at", "delivered_at", "expires_at", "created_at")

    @admin.display(description="event", ordering="status")
    def event(self, callback: Callback) -> str:
        return callback.event

    @admin.display(description="goes to")
    def receiver(self, callback: Callback) -> str | None:
        return receiver_of(callback.url)

    @admin.action(permissions=["tend"], description="Send again")
    def send_again(self, request: HttpRequest, queryset: QuerySet[Callback]) -> None:
        actor = actor_of(request)
        self.act(
            request,
            queryset,
            lambda key: resending.resend_one(callback_id=key, actor=actor),
            roles=TEND,
            done="to be sent again",
        )
