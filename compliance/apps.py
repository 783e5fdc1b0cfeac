from django.apps import AppConfig


class ComplianceConfig(AppConfig):
    name = "compliance"

    def ready(self) -> None:
        from compliance import checks  # noqa: F401, PLC0415  (registers the system checks)
        from compliance.work import notify  # noqa: PLC0415

        notify.disable_unpickling()
