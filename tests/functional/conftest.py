import pytest

from chatbots.buckets import ObjectStorage
from chatbots.models import Chatbot
from tests.functional.company import Company
from tests.functional.refusing import Refusals


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """What the storage refuses: nothing, until the test says otherwise."""
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    return refusals


@pytest.fixture
def company(chatbot: Chatbot, storage: ObjectStorage) -> Company:
    """The chatbot's owner, with an empty hosted bucket."""
    return Company(chatbot)
