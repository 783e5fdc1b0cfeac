from django.apps import AppConfig
from django.db.models.signals import pre_migrate

from common import db


class ConversationsConfig(AppConfig):
    name = "conversations"

    def ready(self) -> None:
        from conversations import placement  # noqa: PLC0415  (needs the app registry)
        from conversations.placement import coordinator  # noqa: PLC0415  (as above)

        db.ALSO_SET.append(placement.settings_of_machines)
        pre_migrate.connect(coordinator.keep_local_tables, sender=self, dispatch_uid="conversations.placement")
