from django.apps import AppConfig


class ComplianceConfig(AppConfig):
    name = "compliance"

    def ready(self) -> None:
        from compliance.work import notify  # noqa: PLC0415  (registers the system checks)

        notify.never_unpickle()
