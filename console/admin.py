"""Users, their authenticators, and what is kept of their log-ins: for superusers."""

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django_otp.plugins.otp_static import admin as _of_codes  # noqa: F401  (registers what is taken out below)
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp import admin as _of_apps  # noqa: F401
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import second_factor
from accounts.models import Authenticator, LoginFailures, StaffLogin
from accounts.proof import require_password
from chatbots.models import Membership
from console.common.scope import ModelAdmin, ReadOnlyInline, ShortPaginator, actor_of, is_superuser

# Groups grant nothing here. The library's own pages of devices show secrets, and make devices for others.
admin.site.unregister([User, Group, TOTPDevice, StaticDevice])


class SuperusersOnly(ModelAdmin):
    """Shows rows to superusers and changes nothing; its entries in Django's history name rows by number."""

    paginator = ShortPaginator
    show_full_result_count = False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return is_superuser(request)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        # An empty one is none: Django would look for a field without a name.
        return super().get_object(request, object_id, from_field or None)

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        return _note(request, obj, ADDITION, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        return _note(request, obj, CHANGE, message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Model]) -> list[LogEntry]:
        return [_note(request, obj, DELETION, "") for obj in queryset]


def _note(request: HttpRequest, obj: Model, flag: int, message: Any) -> LogEntry:
    # Django would keep a user's name here for ever, also when it was changed.
    return LogEntry.objects.create(
        user_id=request.user.pk or 0,
        content_type=ContentType.objects.get_for_model(obj, for_concrete_model=False),
        object_id=obj.pk,
        object_repr=f"{obj._meta.verbose_name} {obj.pk}",
        action_flag=flag,
        change_message=json.dumps(message) if isinstance(message, list) else message,
    )


class MembershipInline(ReadOnlyInline):
    """Given and taken on the chatbot's page."""

    model = Membership
    fields: ClassVar = ("chatbot", "role")
    readonly_fields = fields
    verbose_name_plural = "Roles in chatbots (given and taken in the chatbot's settings)"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("chatbot").order_by("chatbot__slug")


class StaffForm(UserChangeForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.instance.pk == getattr(self, "asked_by", None):
            for flag in ("is_active", "is_staff", "is_superuser"):
                if flag in self.changed_data:
                    self.add_error(flag, "You cannot take this from yourself: ask another superuser.")
        return cleaned


class StaffAdmin(SuperusersOnly, auth_admin.UserAdmin):  # type: ignore[type-arg]
    """Each of its forms gives somebody access, or could: it is shown to whoever gave their password lately."""

    form = StaffForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "has_second_factor", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    filter_horizontal = ()
    inlines = (MembershipInline,)
    readonly_fields = ("has_second_factor", "last_login", "date_joined")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("username", "password", "has_second_factor")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        (
            "Access",
            {
                "fields": ("is_active", "is_staff", "is_superuser"),
                "description": "Staff may log in, and see the chatbots in which they have a role. Superusers may do "
                "everything in every chatbot. Users are not deleted, since the change log names them by number: "
                "switch Active off instead.",
            },
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    has_add_permission = SuperusersOnly.has_module_permission
    has_change_permission = SuperusersOnly.has_view_permission

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if is_superuser(request):
            require_password(request)
        return super().changeform_view(request, *args, **kwargs)

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if is_superuser(request):
            require_password(request)
        return super().user_change_password(request, *args, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return second_factor.with_factor(super().get_queryset(request))

    @admin.display(description="Second factor", boolean=True)
    def has_second_factor(self, user: User) -> bool:
        return second_factor.is_set_up(user)

    def get_inlines(self, request: HttpRequest, obj: Model | None) -> Any:  # noqa: ARG002
        return self.inlines if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        made: type[forms.ModelForm[Any]] = super().get_form(request, obj, change=change, **kwargs)
        made.asked_by = request.user.pk  # type: ignore[attr-defined]
        return made


class AuthenticatorAdmin(SuperusersOnly):
    """To delete one is to take the second factor away from its owner, who has lost it."""

    list_display = ("user", "created_at", "last_used_at")
    list_select_related = ("user",)
    ordering = ("user__username",)
    fields: ClassVar = list_display

    has_delete_permission = SuperusersOnly.has_view_permission

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if is_superuser(request):
            require_password(request)
        return super().delete_view(request, *args, **kwargs)

    def delete_model(self, request: HttpRequest, obj: Authenticator) -> None:
        second_factor.remove(user=obj.user, actor=actor_of(request))


class FailuresAdmin(SuperusersOnly):
    """Failures that lock somebody out, or count towards it; to delete a row lifts that."""

    list_display = ("ends_at", "counted", "user", "address", "failures")
    list_select_related = ("user",)
    ordering = ("-ends_at",)
    fields: ClassVar = list_display

    has_delete_permission = SuperusersOnly.has_view_permission

    @admin.display(description="Counted by")
    def counted(self, row: LoginFailures) -> str:
        if row.address is None:
            return "user name" if row.user_id else "unknown user name, or unknown address"
        return "user name and address" if row.user_id else "address, or unknown user name there"


class LoginAdmin(SuperusersOnly):
    list_display = ("at", "ended_at", "user", "address")
    list_select_related = ("user",)
    ordering = ("-id",)
    fields: ClassVar = list_display


admin.site.register(User, StaffAdmin)
admin.site.register(Authenticator, AuthenticatorAdmin)
admin.site.register(LoginFailures, FailuresAdmin)
admin.site.register(StaffLogin, LoginAdmin)
