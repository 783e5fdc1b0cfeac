"""The console's own app, and `django.contrib.admin` with our site as its default."""

from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class ConsoleConfig(AppConfig):
    name = "console"
    default = True


class ConsoleAdminConfig(SimpleAdminConfig):
    """Replaces `django.contrib.admin` in INSTALLED_APPS.

    `config.urls` loads the admin classes, so that a process without pages does not.
    """

    default_site = "console.site.ConsoleSite"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(_check_classes, checks.Tags.admin)


def _check_classes(**options: Any) -> list[checks.CheckMessage]:
    admin.autodiscover()
    return check_admin_app(**options)
