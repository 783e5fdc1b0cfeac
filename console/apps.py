"""The console's own app, and `django.contrib.admin` with our site as its default."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin


class ConsoleConfig(AppConfig):
    name = "console"
    default = True


class ConsoleAdminConfig(admin.AdminConfig):
    """Stands in INSTALLED_APPS in place of `django.contrib.admin`."""

    default = False
    default_site = "console.site.ConsoleSite"
