"""`django.contrib.admin` with our site as its default."""

from django.contrib.admin.apps import AdminConfig


class ConsoleAdminConfig(AdminConfig):
    """Stands in INSTALLED_APPS in place of `django.contrib.admin`."""

    default_site = "chatbots.console.site.ConsoleSite"
