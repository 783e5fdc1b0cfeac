from django.apps import AppConfig
from django.db.models.signals import pre_migrate


class ConversationsConfig(AppConfig):
    name = "conversations"

    def ready(self) -> None:
        from conversations import citus  # noqa: PLC0415  (needs the app registry)

        pre_migrate.connect(citus.keep_local_tables, sender=self, dispatch_uid="conversations.citus")
