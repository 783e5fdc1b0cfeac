from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class ChatbotsConfig(AppConfig):
    name = "chatbots"

    def ready(self) -> None:
        from chatbots import digest_key  # noqa: PLC0415  (needs the app registry)

        connection_created.connect(digest_key.compare, dispatch_uid="chatbots.digest_key")
        post_migrate.connect(digest_key.remember, sender=self, dispatch_uid="chatbots.digest_key")
