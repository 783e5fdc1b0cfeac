import pytest
from django.test import Client

from chatbots.models import Chatbot
from tests.browser import chromium
from tests.compliance.conftest import drain
from tests.console.filing_pages import Filer
from tests.people import Role, member

__all__ = ["chromium", "drain", "filer"]


@pytest.fixture
def filer(chatbot: Chatbot) -> Filer:
    return Filer(member(chatbot, Role.SUPPORT), chatbot)


@pytest.fixture
def officer(chatbot: Chatbot) -> Client:
    return member(chatbot, Role.OFFICER)


@pytest.fixture
def support(chatbot: Chatbot) -> Client:
    return member(chatbot, Role.SUPPORT)
