from collections.abc import Iterator

import pytest
from pytest_django import Settings

from chatbots.models import Chatbot
from compliance.callbacks.queue import RECEIVERS
from tests.calls import SigningCaller
from tests.receivers import Receiver, receiving


@pytest.fixture(autouse=True)
def _no_paused_receivers() -> Iterator[None]:
    RECEIVERS.forget()
    yield
    RECEIVERS.forget()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture
def signing(chatbot: Chatbot) -> SigningCaller:
    return SigningCaller(chatbot)


@pytest.fixture
def nothing_listed(settings: Settings) -> None:
    """No private network is listed, as in production."""
    settings.CALLBACK_PRIVATE_NETWORKS = ()
