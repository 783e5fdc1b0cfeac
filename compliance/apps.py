from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ComplianceConfig(AppConfig):
    name = "compliance"

    def ready(self) -> None:
        from compliance import checks  # noqa: F401, PLC0415  (registers the system checks)

        post_migrate.connect(sync_schedules, dispatch_uid="compliance.sync_schedules")


def sync_schedules(*, sender: AppConfig, **_: Any) -> None:
    """After `migrate`, once django-q2's tables are there: a deploy cannot forget the schedules."""
    if sender.name == "django_q":
        from compliance import queue  # noqa: PLC0415  (needs the app registry)

        queue.sync_schedules()
