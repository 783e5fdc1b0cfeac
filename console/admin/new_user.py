"""The form that adds a user with a role in chatbots."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import UserCreationForm
from django.http import HttpRequest

from chatbots.models import Chatbot, Membership
from console.common.forms import ConsoleForm
from console.common.scope import within_scope
from console.settings.forms import MemberForm

_SUPERUSER = "superuser"


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
