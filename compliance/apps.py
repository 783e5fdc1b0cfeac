from django.apps import AppConfig


class ComplianceConfig(AppConfig):
    name = "compliance"

    def ready(self) -> None:
        from compliance import checks, queue  # noqa: F401, PLC0415  (registers the system checks)

        queue.never_unpickle()
