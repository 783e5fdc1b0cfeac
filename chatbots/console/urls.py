"""The paths of this app's pages; `config/urls.py` joins them with those of the other apps."""

from django.urls import URLPattern, path

import accounts.urls
from chatbots.console import changelog
from chatbots.console.chatbots import chatbots as chatbots_page
from chatbots.console.chatbots import new_chatbot

urlpatterns: list[URLPattern] = [
    *accounts.urls.urlpatterns,
    path("changelog/", changelog.changelog, name="changelog"),
    path("chatbots/", chatbots_page, name="chatbots"),
    path("chatbots/new/", new_chatbot, name="new_chatbot"),
]
