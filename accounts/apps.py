from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_logged_out


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import sessions  # noqa: PLC0415  (needs the app registry)

        user_logged_in.connect(sessions.begin, dispatch_uid="accounts.sessions")
        user_logged_out.connect(sessions.record_logout, dispatch_uid="accounts.sessions.record_logout")
