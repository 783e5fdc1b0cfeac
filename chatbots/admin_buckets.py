"""Buckets in the admin. Superusers set and check them; a secret goes in and never comes out again."""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from chatbots.bucket_operations import ClientBucket, check_bucket, check_settings, set_bucket
from chatbots.console.scope import ScopedReadOnlyAdmin, UntransactedAdmin, actor_of, is_superuser
from chatbots.models import Bucket

# Generic in the stubs alone.
if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm

_OF_CLIENT = ("bucket", "region", "prefix", "endpoint", "sse", "kms_key_id", "access_key_id", "role_arn")


class BucketForm(ModelForm):
    secret = forms.CharField(
        required=False,
        strip=False,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="Of the access key; never shown again. Empty: the stored one stays.",
    )

    class Meta:
        model = Bucket
        fields = ("chatbot", "hosting", *_OF_CLIENT)
        labels = {"sse": "Encryption (SSE)", "kms_key_id": "KMS key id", "role_arn": "Role ARN"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "chatbot" in self.fields:  # of a new bucket; each chatbot has one
            choices: Any = self.fields["chatbot"]
            choices.queryset = choices.queryset.filter(bucket__isnull=True)

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        client = self.client()
        if client is not None and not self.errors:
            check_settings(chatbot=self.cleaned_data.get("chatbot") or self.instance.chatbot, client=client)
        return cleaned

    def client(self) -> ClientBucket | None:
        """Return what was filled in of a client's bucket, or None for the hosted one, which has no settings."""
        data = self.cleaned_data
        if data.get("hosting") != Bucket.Hosting.CLIENT:
            return None
        return ClientBucket(**{name: data.get(name, "") for name in _OF_CLIENT}, secret=data["secret"] or None)

    def _post_clean(self) -> None:
        """Leave the row alone: the operation makes it whole and asks the constraints."""


class BucketAdmin(UntransactedAdmin, ScopedReadOnlyAdmin):
    list_display = ("chatbot", "hosting", "bucket", "prefix", "last_checked_at", "last_error")
    list_select_related = ("chatbot",)
    ordering = ("chatbot__slug",)
    form = BucketForm
    actions = ("check_access",)
    fields: ClassVar = ("chatbot", "hosting", *_OF_CLIENT[:-1], "secret", "role_arn", *("external_id", "created_at"))
    readonly_fields: ClassVar = ("external_id", "created_at", "last_checked_at", "last_error")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Bucket]:
        # Not even the ciphertext is read for a page.
        return super().get_queryset(request).defer("secret_encrypted")

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:  # noqa: ARG002
        shown = [*self.fields, "last_checked_at", "last_error"]
        return shown if is_superuser(request) else [name for name in shown if name != "secret"]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        # A bucket stays with its chatbot.
        return [*super().get_readonly_fields(request, obj), *(["chatbot"] if obj else [])]

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return is_superuser(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request)

    @method_decorator(sensitive_post_parameters("secret"))
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: Bucket, form: Any, change: bool) -> None:  # noqa: ARG002
        chatbot = form.cleaned_data.get("chatbot") or obj.chatbot
        obj.pk = set_bucket(chatbot=chatbot, client=form.client(), actor=actor_of(request)).pk

    @admin.action(description="Check access", permissions=["change"])
    def check_access(self, request: HttpRequest, queryset: QuerySet[Bucket]) -> None:
        for bucket in queryset.select_related("chatbot"):
            outcome = check_bucket(chatbot=bucket.chatbot)
            level = messages.SUCCESS if outcome.is_ok else messages.ERROR
            told = outcome.error or "the bucket can be used."
            self.message_user(request, f"{bucket.chatbot}: {told}", level)
