"""Who a session's user is, with what the console asks of them at each page.

Django's permissions grant nothing: what one may do stands in Memberships, and superusers may everything.
"""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User

from chatbots.access import second_factor


class StaffBackend(ModelBackend):
    def get_user(self, user_id: Any) -> User | None:
        """Return the user, who knows without another query whether they have a second factor."""
        user = second_factor.with_factor(User.objects.all()).filter(pk=user_id).first()
        return user if self.user_can_authenticate(user) else None

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:  # noqa: ARG002
        return set()
