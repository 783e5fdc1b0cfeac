"""HTTP sessions for boto3's clients: with limits, and for clients' buckets in public networks only."""

import os
import socket
from typing import Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.exceptions import HTTPClientError
from botocore.httpsession import URLLib3Session, get_cert_path
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError as UrllibError

from common import outbound
from common.outbound import AnswerTooLong, LimitedConnection
from common.storage import guard


class _Connection(LimitedConnection):
    def _consume_headers(self, fp: Any) -> None:
        # botocore's own waits forever for an empty line after the storage has hung up.
        while fp.readline() not in {b"\r\n", b""}:
            pass


# The stubs see a conflict between the bases of botocore's connections.
class _HTTPConnection(_Connection, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _HTTPSConnection(_Connection, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _HTTPPool(AWSHTTPConnectionPool):
    ConnectionCls: Any = _HTTPConnection


class _HTTPSPool(AWSHTTPSConnectionPool):
    ConnectionCls: Any = _HTTPSConnection


class _GuardedHTTPConnection(guard.GuardedConnection, _HTTPConnection):  # type: ignore[misc]
    encrypted = False


class _GuardedHTTPSConnection(guard.GuardedConnection, _HTTPSConnection):  # type: ignore[misc]
    encrypted = True


class _GuardedHTTPPool(_HTTPPool):
    ConnectionCls = _GuardedHTTPConnection


class _GuardedHTTPSPool(_HTTPSPool):
    ConnectionCls = _GuardedHTTPSConnection


class _Session(URLLib3Session):
    """Sends one try of a call, within half of the call's remaining time."""

    pools: dict[str, type] = {"http": _HTTPPool, "https": _HTTPSPool}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Not in the stubs; urllib3 documents the second.
        self._pool_classes_by_scheme = self.pools
        self._manager.pool_classes_by_scheme = self.pools  # type: ignore[attr-defined]

    def send(self, request: Any) -> Any:
        seconds = outbound.seconds_left(outbound.STORAGE_SECONDS) / 2
        with outbound.within(seconds, answer_bytes=outbound.STORAGE_ANSWER_BYTES):
            try:
                answer = super().send(request)
                if answer.status_code >= 300:
                    # botocore would read it later, outside of these limits.
                    _ = answer.content
            except HTTPClientError as error:
                cause = error.kwargs.get("error")
                # Unwrapped: botocore would retry an HTTPClientError.
                if isinstance(cause, AnswerTooLong | guard.AddressRefused):
                    raise cause from None
                raise
            except UrllibError as error:
                raise HTTPClientError(error=error) from error
        return answer

    def _get_ssl_context(self) -> Any:
        context = super()._get_ssl_context()  # type: ignore[misc]
        context.sslsocket_class = outbound.TLSSocket
        return context


class _GuardedSession(_Session):
    pools = {"http": _GuardedHTTPPool, "https": _GuardedHTTPSPool}


def carry(events: Any, *, guarded: bool = False) -> None:
    """Let all clients with this event emitter use the sessions of this module.

    `guarded` clients reach public networks only, and use no proxy, which would resolve the name itself. The others
    use the proxies of the environment.
    """

    def choose(base_classes: list[type], **_options: Any) -> None:
        base_classes.insert(0, _Guarded if guarded else _Carried)

    events.register("creating-client-class", choose)
    events.register("before-call.s3.HeadBucket", _follow_no_further)


def _follow_no_further(context: dict[str, Any], **_call: Any) -> None:
    """Stop botocore from following the redirect of its own HeadBucket, which locates a redirected bucket."""
    context.get("s3_redirect", {})["redirected"] = True


class _Carried:
    """Mixin for clients: boto3 has no option for the class of HTTP sessions."""

    def __init__(self, *, endpoint: Any, client_config: Any, **options: Any) -> None:
        endpoint.http_session = self._session(endpoint.host, client_config)
        super().__init__(endpoint=endpoint, client_config=client_config, **options)  # type: ignore[call-arg]

    def _session(self, url: str, config: Any) -> _Session:
        return _Session(proxies=get_environ_proxies(url), **_options(config))


class _Guarded(_Carried):
    def _session(self, url: str, config: Any) -> _Session:  # noqa: ARG002
        return _GuardedSession(proxies={}, **_options(config))


def _options(config: Any) -> dict[str, Any]:
    verify: Any = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True
    return {
        "timeout": (config.connect_timeout, config.read_timeout),
        "verify": verify,
        "max_pool_connections": config.max_pool_connections,
        "socket_options": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        # Set, so that TLS to a proxy uses a context of ours.
        "proxies_config": {"proxy_ca_bundle": get_cert_path(verify)},
    }
