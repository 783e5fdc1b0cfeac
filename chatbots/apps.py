from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class ChatbotsConfig(AppConfig):
    name = "chatbots"

    def ready(self) -> None:
        from chatbots import digest_key  # noqa: PLC0415  (needs the app registry)
        from chatbots.access import sessions  # noqa: PLC0415

        user_logged_in.connect(sessions.begin, dispatch_uid="chatbots.access.sessions")
        user_logged_out.connect(sessions.note_the_end, dispatch_uid="chatbots.access.sessions.note_the_end")
        connection_created.connect(digest_key.compare, dispatch_uid="chatbots.digest_key")
        post_migrate.connect(digest_key.remember, sender=self, dispatch_uid="chatbots.digest_key")
