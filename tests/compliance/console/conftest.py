import pytest

from chatbots.models import Chatbot
from tests.compliance.console.filing_pages import Filer
from tests.people import Role, member


@pytest.fixture
def filer(chatbot: Chatbot) -> Filer:
    return Filer(member(chatbot, Role.SUPPORT), chatbot)
