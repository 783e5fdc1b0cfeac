"""Authentication of staff. Permissions come from Memberships, not from Django's permissions."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from accounts import lockouts, second_factor


class StaffBackend(ModelBackend):
    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_kwargs: Any
    ) -> User | None:
        """Return the staff user with this password. Raises Locked or TooBusy before checking it."""
        if username is None or password is None:
            return None
        if request is None:
            raise ValueError("authenticate() needs the request, to count failures.")
        with lockouts.attempt(request, username) as attempt:
            user = super().authenticate(request, username, password)
            if not (isinstance(user, User) and user.is_staff):
                attempt.failed()
                return None
            attempt.undo()
            return user

    def get_user(self, user_id: Any) -> User | None:
        """Return the user with `has_factor`."""
        user = second_factor.with_factor(User.objects.all()).filter(pk=user_id).first()
        return user if self.user_can_authenticate(user) else None

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:  # noqa: ARG002
        return set()
