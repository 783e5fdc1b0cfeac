"""The paths of all pages; `config/urls.py` puts them in front of the admin's own, in the namespace `console`."""

from django.urls import URLPattern, path

import accounts.urls
from console import changelog, lookup
from console.chatbots import chatbots as chatbots_page
from console.chatbots import new_chatbot
from console.conversations import urls as conversations
from console.filing import urls as filing
from console.monitoring import urls as monitoring
from console.requests import urls as requests
from console.settings import urls as settings

urlpatterns: list[URLPattern] = [
    *accounts.urls.urlpatterns,
    path("changelog/", changelog.changelog, name="changelog"),
    path("chatbots/", chatbots_page, name="chatbots"),
    path("chatbots/new/", new_chatbot, name="new_chatbot"),
    path("lookup/", lookup.look_up, name="lookup"),
    *conversations.urlpatterns,
    *settings.urlpatterns,
    *monitoring.urlpatterns,
    *filing.urlpatterns,
    *requests.urlpatterns,
]
