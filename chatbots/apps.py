from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class ChatbotsConfig(AppConfig):
    name = "chatbots"

    def ready(self) -> None:
        from chatbots.access import sessions  # noqa: PLC0415  (needs the app registry)

        user_logged_in.connect(sessions.begin, dispatch_uid="chatbots.access.sessions")
