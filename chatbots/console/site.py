"""The one admin site of the project."""

from typing import Any

from django.http import HttpRequest
from django.urls import path

from chatbots.access.site import AccessSite
from chatbots.console.navigation import navigation


class ConsoleSite(AccessSite):
    site_header = site_title = "Data Compliance"
    site_url = None
    enable_nav_sidebar = False

    def get_urls(self) -> list[Any]:
        # The first page is the dashboard; Django's list of all models is kept beside it.
        return [path("records/", self.admin_view(self.index), name="records"), *super().get_urls()]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context = super().each_context(request)
        return {**context, "navigation": navigation(request) if context["has_permission"] else []}
