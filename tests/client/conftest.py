"""The package in client/ against the real service: Django's server in a thread, and workers in the test."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

import data_compliance_client as package
from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from tests.calls import SigningCaller, TokenCaller


class Awaited:
    """An AsyncClient with the methods of a Client, so that a test is about both."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = package.AsyncClient(*args, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def blocking(*args: Any, **options: Any) -> Any:
            found = method(*args, **options)
            return self._loop.run_until_complete(found if inspect.iscoroutine(found) else _listed(found))

        return blocking

    def close(self) -> None:
        async def use() -> None:
            async with self._client:
                pass

        self._loop.run_until_complete(use())
        self._loop.close()


async def _listed(found: Any) -> list[Any]:
    return [one async for one in found]


# For each kind of step that the two clients take differently: a call, a pause, an item of a list, a file, an error.
# What they do is the same operation (test_the_clients_have_the_same_operations).
IN_BOTH = pytest.mark.parametrize("make_client", [package.Client, Awaited], ids=["blocking", "async"], indirect=True)


@pytest.fixture
def make_client(request: pytest.FixtureRequest, live_server: Any, chatbot: Chatbot) -> Iterator[Callable[..., Any]]:
    """Return a function that makes a client of the chatbot, with a token of all scopes unless told otherwise."""
    kind = getattr(request, "param", package.Client)
    made: list[Any] = []

    def make(**options: Any) -> Any:
        keys = {"token": str(TokenCaller(chatbot).token)} | options
        made.append(kind(live_server.url, chatbot.slug, **{"patience": 20} | keys))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def client(make_client: Callable[..., Any], storage: ObjectStorage) -> Any:
    return make_client()


@pytest.fixture
def signing_secret(chatbot: Chatbot) -> str:
    return SigningCaller(chatbot).secret


@pytest.fixture
def working(chatbot: Chatbot) -> Iterator[None]:
    """Requests are carried out in another thread, as by a worker."""
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(0.1):
            worker.drain(seconds=30)
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    is_over.set()
    thread.join()
