"""The paths of this app's pages; `config/urls.py` joins them with those of the other apps."""

from django.urls import URLPattern

from compliance.console.filing import urls as filing
from compliance.console.settings import urls as settings

urlpatterns: list[URLPattern] = [*settings.urlpatterns, *filing.urlpatterns]
