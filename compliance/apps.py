from django.apps import AppConfig, apps
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate, pre_migrate

from common import former_schema
from common.commands import before_command


class ComplianceConfig(AppConfig):
    name = "compliance"

    def ready(self) -> None:
        from compliance import checks  # noqa: F401, PLC0415  (registers the system checks)
        from compliance.ledger import closed, service  # noqa: PLC0415
        from compliance.retention import due  # noqa: PLC0415
        from compliance.work import legal_holds, restriction  # noqa: PLC0415
        from conversations import protection  # noqa: PLC0415

        connection_created.connect(service.compare, dispatch_uid="compliance.service")
        before_command.connect(closed.refuse_unless_open, dispatch_uid="compliance.ledger")
        pre_migrate.connect(former_schema.refuse, sender=self, dispatch_uid="compliance.former_schema")
        post_migrate.connect(service.remember, sender=self, dispatch_uid="compliance.service")

        protection.RESTRICTED.append(restriction.find_restricted)
        protection.WAITED_FOR.append(due.find_kept)
        protection.UNDER_HOLD.append(lambda chatbot_id, numbers: legal_holds.find_held([chatbot_id], numbers))
        protection.WITHHOLDING.append(legal_holds.find_withholding)
        # The admin, dumpdata or a shell must not read a pickle of django-q2, which can run any function. Our tasks
        # have neither arguments nor results.
        for name in ("args", "kwargs", "result"):
            apps.get_model("django_q", "Task")._meta.get_field(name).to_python = lambda _: None
