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
        empty_label="Choose a user",
        help_text="Active staff. Superusers do not need a role.",
    )
    role = forms.ChoiceField(
        choices=[("", "None (remove)"), *Membership.Role.choices],
        required=False,
        initial=Membership.Role.VIEWER.value,
        help_text="Viewers read. Support also manages requests and downloads files. Officers also approve, reject, "
        "and change settings.",
    )

    def __init__(self, *args: Any, chatbot: Chatbot, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["user"]
        # Members who are no longer staff are included, so that their role can be removed.
        member = Q(pk__in=Membership.objects.filter(chatbot=chatbot).values("user"))
        field.queryset = User.objects.filter(member | Q(is_staff=True, is_active=True)).order_by("username")

    def role_or_none(self) -> Membership.Role | None:
        role = self.cleaned_data["role"]
        return Membership.Role(role) if role else None
