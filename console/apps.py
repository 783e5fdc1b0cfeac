"""The console's own app, and `django.contrib.admin` with our site as its default."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin


class ConsoleConfig(AppConfig):
    name = "console"
    default = True


class ConsoleAdminConfig(admin.AdminConfig):
    """Replaces `django.contrib.admin` in INSTALLED_APPS."""

    default = False
    default_site = "console.site.ConsoleSite"
