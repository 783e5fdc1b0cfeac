"""The paths of this app's pages; `config/urls.py` joins them with those of the other apps."""

from django.urls import URLPattern

import chatbots.access.urls

urlpatterns: list[URLPattern] = [
    *chatbots.access.urls.urlpatterns,
]
