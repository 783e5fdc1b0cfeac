"""Chatbots in the admin. Superusers change settings and memberships; everything else is shown only.

Chatbots and keys are made by `create_chatbot` and `create_api_key`: a key's secret is shown once, there.
"""

import zoneinfo
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from chatbots import operations
from chatbots.access import admin as _access_admin  # noqa: F401  (registers its models)
from chatbots.admin_buckets import BucketAdmin
from chatbots.callback_urls import receiver_of
from chatbots.changelog import VOCABULARY
from chatbots.console.scope import (
    ChatbotFilter,
    ReadOnlyInline,
    ScopedReadOnlyAdmin,
    TabularInline,
    UntransactedAdmin,
    actor_of,
    is_superuser,
)
from chatbots.models import ApiKey, Bucket, ChangeLogEntry, Chatbot, Membership, Variable

# Generic in the stubs alone.
if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm


class ChatbotForm(ModelForm):
    timezone = forms.ChoiceField(choices=lambda: [(name, name) for name in sorted(zoneinfo.available_timezones())])

    class Meta:
        model = Chatbot
        fields = operations.SETTINGS
        help_texts = {"extracts_enabled": "Whether the extract of each day is written into the bucket."}

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        operations.check_settings(
            chatbot=self.instance,
            changes={name: self.cleaned_data[name] for name in self.changed_data if name in self.cleaned_data},
        )
        return cleaned


class MembershipForm(ModelForm):
    class Meta:
        model = Membership
        fields = ("user", "role")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A membership of another user is another membership.
        self.fields["user"].disabled = self.instance.pk is not None


class VariableInline(ReadOnlyInline):
    model = Variable
    fields = ("name", "category", "is_uci", "was_uci")


class MembershipInline(TabularInline):
    model = Membership
    form = MembershipForm
    extra = 0

    # Superusers only: whoever hands out roles has all of them.
    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return is_superuser(request)

    has_change_permission = has_view_permission
    has_add_permission = has_view_permission
    has_delete_permission = has_view_permission


@admin.register(Chatbot)
class ChatbotAdmin(UntransactedAdmin, ScopedReadOnlyAdmin):
    chatbot_lookup = "id"
    list_display = ("slug", "name", "timezone", "compliance_enabled", "four_eyes")
    ordering = ("slug",)
    form = ChatbotForm
    fields: ClassVar = ("slug", *operations.SETTINGS, "created_at")
    readonly_fields = ("slug", "callback_receiver", "created_at")
    inlines = (VariableInline, MembershipInline)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:  # noqa: ARG002
        if is_superuser(request):
            return self.fields
        return ["callback_receiver" if name == "callback_url" else name for name in self.fields]

    @admin.display(description="Callbacks go to")
    def callback_receiver(self, chatbot: Chatbot) -> str | None:
        return receiver_of(chatbot.callback_url)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        # Superusers only: an officer who could lift the guard could also approve what it held.
        return is_superuser(request)

    def save_model(self, request: HttpRequest, obj: Chatbot, form: "forms.ModelForm[Any]", change: bool) -> None:  # noqa: ARG002
        changes = {name: form.cleaned_data[name] for name in form.changed_data}
        operations.change_settings(chatbot=obj, changes=changes, actor=actor_of(request))

    def save_formset(
        self,
        request: HttpRequest,
        form: "forms.ModelForm[Any]",
        formset: Any,
        change: bool,  # noqa: ARG002
    ) -> None:
        """Only memberships can differ. The formset learns what it saved, for Django's history."""
        chatbot, actor = form.instance, actor_of(request)
        for membership in formset.save(commit=False):
            operations.set_role(
                chatbot=chatbot, user=membership.user, role=Membership.Role(membership.role), actor=actor
            )
        for membership in formset.deleted_objects:
            operations.set_role(chatbot=chatbot, user=membership.user, role=None, actor=actor)


admin.site.register(Bucket, BucketAdmin)


@admin.register(ApiKey)
class ApiKeyAdmin(ScopedReadOnlyAdmin):
    list_display = ("prefix", "chatbot", "type", "label", "scopes", "last_used_at", "expires_at", "revoked_at")
    list_filter = (ChatbotFilter, "type")
    list_select_related = ("chatbot",)
    ordering = ("-created_at",)
    fields: ClassVar = (*list_display, "rate_limit", "created_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        # Neither the encrypted secret nor the digest is even read.
        return super().get_queryset(request).defer("secret_encrypted", "secret_sha256")


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
