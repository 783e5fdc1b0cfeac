"""Users, their authenticators, and their log-ins."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group, User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django_otp.plugins.otp_static import admin as _of_codes  # noqa: F401  (registers what is removed below)
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp import admin as _of_apps  # noqa: F401
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import second_factor
from accounts.models import Authenticator, LoginFailures, StaffLogin
from accounts.proof import require_password
from chatbots.models import Membership
from console.admin.base import ReadOnlyInline, SuperusersOnly
from console.common.scope import actor_of, is_superuser

# Groups grant nothing here. The library's own device pages show secrets and create devices for others.
admin.site.unregister([User, Group, TOTPDevice, StaticDevice])


class MembershipInline(ReadOnlyInline):
    """Changed in the chatbot's settings."""

    model = Membership
    fields: ClassVar = ("chatbot", "role")
    readonly_fields = fields
    verbose_name_plural = "Roles in chatbots (changed in the chatbot's settings)"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("chatbot").order_by("chatbot__slug")


class StaffForm(UserChangeForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.instance.pk == getattr(self, "edited_by", None):
            for flag in ("is_active", "is_staff", "is_superuser"):
                if flag in self.changed_data:
                    self.add_error(flag, "You cannot remove this from your own account. Ask another superuser.")
        return cleaned


class StaffAdmin(SuperusersOnly, auth_admin.UserAdmin):  # type: ignore[type-arg]
    """Every form here can give access to a person, so each requires a recent password."""

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
                "description": "Staff can log in and see the chatbots in which they have a role. Superusers can do "
                "everything in every chatbot. Users are not deleted, since the change log refers to them by number: "
                "turn Active off instead.",
            },
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    has_add_permission = SuperusersOnly.has_view_permission
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
        form: type[forms.ModelForm[Any]] = super().get_form(request, obj, change=change, **kwargs)
        form.edited_by = request.user.pk  # type: ignore[attr-defined]
        return form


class AuthenticatorAdmin(SuperusersOnly):
    """Deleting one removes the second factor of an owner who has lost it."""

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
    """Failures that lock a user out, or count towards it. Deleting a row lifts the lockout."""

    list_display = ("ends_at", "counted", "user", "address", "failures")
    list_select_related = ("user",)
    ordering = ("-ends_at",)
    fields: ClassVar = list_display

    has_delete_permission = SuperusersOnly.has_view_permission

    @admin.display(description="Counted by")
    def counted(self, row: LoginFailures) -> str:
        if row.address is None:
            return "user name" if row.user_id else "unknown user name or address"
        return "user name and address" if row.user_id else "address, or unknown user name from it"


class LoginAdmin(SuperusersOnly):
    list_display = ("at", "ended_at", "user", "address")
    list_select_related = ("user",)
    ordering = ("-id",)
    fields: ClassVar = list_display


admin.site.register(User, StaffAdmin)
admin.site.register(Authenticator, AuthenticatorAdmin)
admin.site.register(LoginFailures, FailuresAdmin)
admin.site.register(StaffLogin, LoginAdmin)
