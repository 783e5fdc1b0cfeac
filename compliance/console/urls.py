"""The paths of this app's pages; `config/urls.py` joins them with those of the other apps."""

from django.urls import URLPattern, path

from compliance.console import lookup
from compliance.console.filing import urls as filing
from compliance.console.requests import urls as requests
from compliance.console.settings import urls as settings
from compliance.console.watch import urls as watch

urlpatterns: list[URLPattern] = [
    path("lookup/", lookup.look_up, name="lookup"),
    *settings.urlpatterns,
    *watch.urlpatterns,
    *filing.urlpatterns,
    *requests.urlpatterns,
]
