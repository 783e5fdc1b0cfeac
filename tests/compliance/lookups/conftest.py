from collections.abc import Iterator

import pytest

from chatbots.models import Chatbot
from compliance.lookups.queue import RESOLVERS
from tests.looking_up import with_resolver
from tests.receivers import Receiver, receiving


@pytest.fixture(autouse=True)
def _no_resting_resolvers() -> Iterator[None]:
    RESOLVERS.forget()
    yield
    RESOLVERS.forget()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """The client's server, which identifies every chatter as 42."""
    with receiving(body=b'{"value": "42"}') as one:
        yield one


@pytest.fixture
def secret(chatbot: Chatbot, receiver: Receiver) -> str:
    """The callback secret of the chatbot, which has a resolver at the client's server."""
    return with_resolver(chatbot, receiver.url("/who-5813"))
