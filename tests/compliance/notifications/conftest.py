from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from chatbots.models import Chatbot
from tests.compliance.notifications.officers import member
from tests.mail_server import MailServer, mail_server


@pytest.fixture
def server(settings: Settings) -> Iterator[MailServer]:
    with mail_server() as server:
        settings.MAILS = True
        settings.EMAIL_BACKEND = "common.outbound.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", server.port, 10
        settings.DEFAULT_FROM_EMAIL = "compliance@example.com"
        settings.CONSOLE_URL = "https://console.example.com"
        yield server


@pytest.fixture
def officer(chatbot: Chatbot) -> User:
    return member(chatbot, "ada")
