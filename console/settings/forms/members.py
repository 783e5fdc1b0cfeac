"""The form of a member's role."""

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.db.models import Q

from chatbots.models import Chatbot, Membership
from console.settings.forms.base import ConsoleForm


class MemberForm(ConsoleForm):
    user: Any = forms.ModelChoiceField(
        queryset=User.objects.none(),
        empty_label="Choose somebody",
        help_text="Active staff. Superusers may do everything without a role.",
    )
    role = forms.ChoiceField(
        choices=[("", "None: take the role away"), *Membership.Role.choices],
        required=False,
        initial=Membership.Role.VIEWER.value,
        help_text="A viewer looks. Support also tends requests and downloads files. An officer also decides.",
    )

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["user"]
        # A member who is no staff any more can still lose the role.
        member = Q(pk__in=Membership.objects.filter(chatbot=chatbot).values("user"))
        field.queryset = User.objects.filter(member | Q(is_staff=True, is_active=True)).order_by("username")

    def role_or_none(self) -> Membership.Role | None:
        role = self.cleaned_data["role"]
        return Membership.Role(role) if role else None
