"""The two clients: one that blocks, and one for asyncio."""

import asyncio
import functools
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import closing
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

import httpx

from data_compliance_client.core import Answer, Call, Item, Items, Outcome, Pause, Steps, Transport
from data_compliance_client.operations import Operations

P = ParamSpec("P")
R = TypeVar("R")

# httpx and httpcore log addresses. That of a file in the storage contains the chatter's value.
_IS_PRIVATE: ContextVar[bool] = ContextVar("is_private", default=False)
for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy"):
    logging.getLogger(_name).addFilter(lambda _record: not _IS_PRIVATE.get())


class _Base:
    """What both clients are made of."""

    _connect: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        url: str,
        chatbot: str,
        *,
        token: str = "",
        signing_secret: str = "",
        patience: float = 120.0,
        timeout: float = 30.0,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Make a client for one chatbot.

        `url` is the address of the service, such as https://compliance.example.com, and `chatbot` the slug. `token`
        is for all calls. With `signing_secret`, deletions, exports and batches are signed in place of it. A call that
        fails for now is repeated for `patience` seconds: nothing is filed twice by that. `timeout` is in seconds, for
        each attempt. `verify` and `transport` are those of httpx. Raises ValueError.
        """
        self._operations = Operations(
            Transport(url, chatbot, token=token, signing_secret=signing_secret, patience=patience)
        )
        agent = f"data-compliance-client/{version('data-compliance-client')}"
        self._http: Any = type(self)._connect(
            timeout=timeout, verify=verify, transport=transport, headers={"User-Agent": agent}
        )

    def _request_of(self, call: Call) -> httpx.Request:
        # Bytes of a file are wanted as they are stored.
        plain = {"Accept-Encoding": "identity"} if call.sink else {}
        request: httpx.Request = self._http.build_request(
            call.method, call.url, headers={**call.headers, **plain}, content=call.body
        )
        return request


def _blocking(operation: Callable[Concatenate[Operations, P], Steps[R]]) -> Callable[Concatenate["Client", P], R]:
    @functools.wraps(operation)
    def method(client: "Client", /, *args: P.args, **options: P.kwargs) -> R:
        # Closed at once, also while an error is held: a file that is half there is removed.
        with closing(operation(client._operations, *args, **options)) as steps:
            outcome: Outcome = None
            while True:
                try:
                    step = steps.send(outcome)
                except StopIteration as end:
                    result: R = end.value
                    return result
                outcome = client._take(step)

    return method


def _iterating(
    operation: Callable[Concatenate[Operations, P], Items[R]],
) -> Callable[Concatenate["Client", P], Iterator[R]]:
    @functools.wraps(operation)
    def method(client: "Client", /, *args: P.args, **options: P.kwargs) -> Iterator[R]:
        steps = operation(client._operations, *args, **options)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration:
                return
            outcome = None
            if isinstance(step, Item):
                yield step.value
            else:
                outcome = client._take(step)

    return method


def _awaiting(
    operation: Callable[Concatenate[Operations, P], Steps[R]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, R]]:
    @functools.wraps(operation)
    async def method(client: "AsyncClient", /, *args: P.args, **options: P.kwargs) -> R:
        # Closed at once, also while an error is held: a file that is half there is removed.
        with closing(operation(client._operations, *args, **options)) as steps:
            outcome: Outcome = None
            while True:
                try:
                    step = steps.send(outcome)
                except StopIteration as end:
                    result: R = end.value
                    return result
                outcome = await client._take(step)

    return method


def _iterating_async(
    operation: Callable[Concatenate[Operations, P], Items[R]],
) -> Callable[Concatenate["AsyncClient", P], AsyncIterator[R]]:
    @functools.wraps(operation)
    async def method(client: "AsyncClient", /, *args: P.args, **options: P.kwargs) -> AsyncIterator[R]:
        steps = operation(client._operations, *args, **options)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration:
                return
            outcome = None
            if isinstance(step, Item):
                yield step.value
            else:
                outcome = await client._take(step)

    return method


class Client(_Base):
    """Calls the API and blocks. Close it, or use it in `with`. Threads can share it.

    Methods raise an APIError, each code a subclass in `data_compliance_client.codes`, if the service refuses the
    call, and Unreachable if it does not answer.
    """

    _connect = httpx.Client
    _http: httpx.Client

    delete = _blocking(Operations.delete)
    export = _blocking(Operations.export)
    file = _iterating(Operations.file)
    preview = _blocking(Operations.preview)
    request = _blocking(Operations.request)
    requests = _iterating(Operations.requests)
    lookup = _blocking(Operations.lookup)
    wait = _blocking(Operations.wait)
    decide = _blocking(Operations.decide)
    redact = _blocking(Operations.redact)
    download = _blocking(Operations.download)
    send = _iterating(Operations.send)
    identify = _iterating(Operations.identify)
    conversations = _iterating(Operations.conversations)
    changelog = _iterating(Operations.changelog)
    call = _blocking(Operations.call)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _take(self, step: Call | Pause) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        token = _IS_PRIVATE.set(step.sink is not None)
        try:
            return self._attempt(step)
        except httpx.RequestError as error:
            return error
        finally:
            _IS_PRIVATE.reset(token)

    def _attempt(self, call: Call) -> Answer:
        to_sink = call.sink is not None
        response = self._http.send(self._request_of(call), stream=to_sink, follow_redirects=to_sink)
        try:
            if call.sink is not None and response.is_success:
                call.sink.restart()
                for part in response.iter_raw():
                    call.sink.write(part)
                return Answer(response.status_code, response.headers, b"")
            return Answer(response.status_code, response.headers, response.read())
        finally:
            response.close()


class AsyncClient(_Base):
    """Calls the API in asyncio. It has the methods of `Client`: await them, and iterate with `async for`.

    Documents to send, and files that are downloaded, are read and written without giving way to other tasks.
    """

    _connect = httpx.AsyncClient
    _http: httpx.AsyncClient

    delete = _awaiting(Operations.delete)
    export = _awaiting(Operations.export)
    file = _iterating_async(Operations.file)
    preview = _awaiting(Operations.preview)
    request = _awaiting(Operations.request)
    requests = _iterating_async(Operations.requests)
    lookup = _awaiting(Operations.lookup)
    wait = _awaiting(Operations.wait)
    decide = _awaiting(Operations.decide)
    redact = _awaiting(Operations.redact)
    download = _awaiting(Operations.download)
    send = _iterating_async(Operations.send)
    identify = _iterating_async(Operations.identify)
    conversations = _iterating_async(Operations.conversations)
    changelog = _iterating_async(Operations.changelog)
    call = _awaiting(Operations.call)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def _take(self, step: Call | Pause) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        token = _IS_PRIVATE.set(step.sink is not None)
        try:
            return await self._attempt(step)
        except httpx.RequestError as error:
            return error
        finally:
            _IS_PRIVATE.reset(token)

    async def _attempt(self, call: Call) -> Answer:
        to_sink = call.sink is not None
        response = await self._http.send(self._request_of(call), stream=to_sink, follow_redirects=to_sink)
        try:
            if call.sink is not None and response.is_success:
                call.sink.restart()
                async for part in response.aiter_raw():
                    call.sink.write(part)
                return Answer(response.status_code, response.headers, b"")
            return Answer(response.status_code, response.headers, await response.aread())
        finally:
            await response.aclose()
