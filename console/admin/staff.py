"""Users, their authenticators, and their log-ins."""

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.forms import UserChangeForm, UserCreationForm
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables
from django_otp.plugins.otp_static import admin as _of_codes  # noqa: F401  (registers what is removed below)
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp import admin as _of_apps  # noqa: F401
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import invitations, second_factor
from accounts.models import Authenticator, LoginFailures, StaffLogin
from accounts.proof import require_password
from chatbots.models import Chatbot, Membership
from chatbots.operations.chatbots import add_user
from console.admin.base import ReadOnlyInline, SuperusersOnly
from console.common.forms import ConsoleForm
from console.common.pages import render
from console.common.scope import actor_of, is_superuser, within_scope
from console.settings.forms import MemberForm
from console.settings.page import address_of

# Groups grant nothing here. The library's own device pages show secrets and create devices for others.
admin.site.unregister([User, Group, TOTPDevice, StaticDevice])

_SUPERUSER = "superuser"


class MembershipInline(ReadOnlyInline):
    """Changed in the chatbot's settings."""

    model = Membership
    fields: ClassVar = ("settings_page", "role")
    readonly_fields = fields
    verbose_name_plural = "Roles in chatbots (changed in the chatbot's settings)"

    @admin.display(description="Chatbot")
    def settings_page(self, membership: Membership) -> SafeString:
        slug = membership.chatbot.slug
        return format_html('<a href="{}">{}</a>', address_of(slug, "members"), slug)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("chatbot").order_by("chatbot__slug")


class StaffForm(UserChangeForm):  # type: ignore[type-arg]
    # Shown as a link instead.
    password = None  # type: ignore[assignment]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.instance.pk == getattr(self, "edited_by", None):
            for flag in ("is_active", "is_staff", "is_superuser"):
                if flag in self.changed_data:
                    self.add_error(flag, "You cannot remove this from your own account. Ask another superuser.")
        return cleaned


class NewUserForm(ConsoleForm, UserCreationForm):  # type: ignore[type-arg]
    """Django's form without passwords: the user sets their own."""

    password1 = password2 = None  # type: ignore[assignment]
    role = forms.ChoiceField(
        choices=[*Membership.Role.choices, (_SUPERUSER, "Superuser")],
        widget=forms.RadioSelect,
        help_text=f"{MemberForm.base_fields['role'].help_text} Superusers do everything, in every chatbot.",
    )
    chatbots: Any = forms.ModelMultipleChoiceField(
        queryset=Chatbot.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Where the user has this role. It can be changed for each chatbot in its settings.",
    )

    class Meta(UserCreationForm.Meta):
        fields = ("username", "email")

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label, self.fields["email"].label = "User name", "Mail address"
        self.fields["email"].required = settings.MAILS
        chatbots: Any = self.fields["chatbots"]
        chatbots.label_from_instance = lambda chatbot: f"{chatbot.name} ({chatbot.slug})"
        chatbots.queryset = within_scope(Chatbot.objects.order_by("name", "slug"), request, chatbot="id")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("role") != _SUPERUSER and "chatbots" in cleaned and not cleaned["chatbots"]:
            self.add_error("chatbots", "Choose a chatbot: without one this role sees nothing.")
        return cleaned

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `operations.add_user`."""
        role = self.cleaned_data["role"]
        if role == _SUPERUSER:
            return {"user": self.instance, "role": None, "chatbots": []}
        return {"user": self.instance, "role": Membership.Role(role), "chatbots": self.cleaned_data["chatbots"]}


class StaffAdmin(SuperusersOnly, auth_admin.UserAdmin):  # type: ignore[type-arg]
    """Every form here can give access to a person, so each requires a recent password."""

    form = StaffForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "has_second_factor", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    filter_horizontal = ()
    inlines = (MembershipInline,)
    readonly_fields = ("has_password", "has_second_factor", "last_login", "date_joined")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("username", "has_password", "has_second_factor")}),
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

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:  # noqa: ARG002
        """Add a user, and create a link by which they set their password."""
        _require_superuser(request)
        form = NewUserForm(request.POST or None, request=request)
        if form.is_valid():
            try:
                add_user(**form.arguments(), actor=actor_of(request))
            except ValidationError as error:
                form.refuse(error)
            else:
                self.log_addition(request, form.instance, "Added.")
                return self._invite(request, form.instance)
        return render(request, "console/users/new.html", title="New user", form=form, mails=settings.MAILS)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002, ARG002
        """Create a link for a user, after a confirmation. Django's page would ask the superuser for a password."""
        _require_superuser(request)
        user = self.get_object(request, unquote(id))
        if user is None:
            raise Http404
        if user == request.user:
            return redirect("admin:password_change")
        if request.method == "POST":
            return self._invite(request, user)
        return render(request, "console/users/link.html", title="New password", person=user, mails=settings.MAILS)

    @sensitive_variables("link")
    def _invite(self, request: HttpRequest, user: User) -> HttpResponse:
        path = reverse("console:set_password")
        page = f"{settings.CONSOLE_URL}{path}" if settings.CONSOLE_URL else request.build_absolute_uri(path)
        try:
            link = invitations.create(user=user, page=page, actor=actor_of(request))
        except ValidationError as error:
            messages.error(request, error.message)
        else:
            self.log_change(request, user, "A link was made.")
            if not settings.MAILS:
                return render(request, "console/users/invited.html", title="Link for a user", person=user, link=link)
            if code := invitations.send(user=user, link=link):
                messages.error(request, f"The link could not be mailed ({code}). Send a new one when this is fixed.")
            else:
                messages.success(request, "The link was mailed to the user.")
        return redirect("admin:auth_user_change", user.pk)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        # A user whose access is restored needs a new link.
        if not (obj.is_active and obj.is_staff):
            invitations.end(obj)
        super().save_model(request, obj, form, change)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return second_factor.with_factor(super().get_queryset(request))

    @admin.display(description="Password")
    def has_password(self, user: User) -> SafeString:
        state = "Set." if user.has_usable_password() else "Not set: the user needs a link, or has one."
        return format_html(
            '{} <a href="{}">New password</a>', state, reverse("admin:auth_user_password_change", args=[user.pk])
        )

    @admin.display(description="Second factor", boolean=True)
    def has_second_factor(self, user: User) -> bool:
        return second_factor.is_set_up(user)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: type[forms.ModelForm[Any]] = super().get_form(request, obj, change=change, **kwargs)
        form.edited_by = request.user.pk  # type: ignore[attr-defined]
        return form


def _require_superuser(request: HttpRequest) -> None:
    if not is_superuser(request):
        raise PermissionDenied
    require_password(request)


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
