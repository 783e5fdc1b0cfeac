"""The admin site of the project."""

from typing import Any

from django.http import HttpRequest
from django.urls import path

from accounts.site import AccessSite
from console.common.navigation import navigation

# Unused here, and they would reveal rows to any staff user.
_CLOSED = {"view_on_site", "autocomplete"}


class ConsoleSite(AccessSite):
    site_header = site_title = "Data Compliance"
    site_url = None
    enable_nav_sidebar = False

    def get_urls(self) -> list[Any]:
        # The dashboard is the first page; Django's index of models is at records/.
        urls = [one for one in super().get_urls() if getattr(one, "name", None) not in _CLOSED]
        return [path("records/", self.admin_view(self.index), name="records"), *urls]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context = super().each_context(request)
        return {**context, "navigation": navigation(request) if context["has_permission"] else []}
