"""Who a session's user is, with what the console asks of them at each page.

Django's permissions grant nothing: what one may do stands in Memberships, and superusers may everything.
"""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from accounts import lockouts, second_factor


class StaffBackend(ModelBackend):
    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_kwargs: Any
    ) -> User | None:
        """Return the staff user whose password it is. Raises Locked, or TooBusy, before it is looked at."""
        if username is None or password is None:
            return None
        if request is None:
            raise ValueError("A log-in without its call cannot be counted: hand the request to authenticate().")
        with lockouts.attempt(request, username) as attempt:
            user = super().authenticate(request, username, password)
            if not (isinstance(user, User) and user.is_staff):
                attempt.failed()
                return None
            attempt.was_no_failure()
            return user

    def get_user(self, user_id: Any) -> User | None:
        """Return the user, who knows without another query whether they have a second factor."""
        user = second_factor.with_factor(User.objects.all()).filter(pk=user_id).first()
        return user if self.user_can_authenticate(user) else None

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:  # noqa: ARG002
        return set()
