"""HTTP sessions for botocore's clients: with limits, and for clients' buckets in public networks only.

Networks that `BUCKET_PRIVATE_NETWORKS` lists count as public. The operator's own bucket is not checked.
"""

import os
import socket
from typing import Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.exceptions import BotoCoreError, HTTPClientError
from botocore.httpsession import URLLib3Session, get_cert_path
from botocore.session import Session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError as UrllibError

from common import outbound
from common.network_guard import Guarded, UrlRefused, check_reachable, split_url
from common.outbound import AnswerTooLong, LimitedConnection

PRIVATE_NETWORKS = "BUCKET_PRIVATE_NETWORKS"
_EXAMPLE = "https://s3.example.com"


class AddressRefused(BotoCoreError):
    """The address of a client's bucket is not allowed.

    An error of botocore, which passes it on unchanged and does not retry it.
    """

    fmt = "The address is refused."


def check_endpoint(url: str) -> str:
    """Return the endpoint of a client's bucket in canonical form. Resolves its name. Raises UrlRefused."""
    parts = split_url(url, example=_EXAMPLE)
    if parts.path.strip("/"):
        raise UrlRefused("Use scheme, host and port only: no path.")
    check_reachable(parts, setting=PRIVATE_NETWORKS)
    return parts.origin


class _Connection(LimitedConnection):
    def _consume_headers(self, fp: Any) -> None:
        # botocore's own waits forever for an empty line after the storage has hung up.
        while fp.readline() not in {b"\r\n", b""}:
            pass


class _GuardedConnection(Guarded, _Connection):
    setting = PRIVATE_NETWORKS
    refusal = AddressRefused


def _pools(mixin: type[_Connection]) -> dict[str, type]:
    """Return botocore's pools by scheme, their connections with this mixin."""
    return {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": type(connection.__name__, (mixin, connection), {})})
        for scheme, pool, connection in (
            ("http", AWSHTTPConnectionPool, AWSHTTPConnection),
            ("https", AWSHTTPSConnectionPool, AWSHTTPSConnection),
        )
    }


_POOLS, _GUARDED_POOLS = _pools(_Connection), _pools(_GuardedConnection)


class _Session(URLLib3Session):
    """Sends one try of a call, within half of the call's remaining time."""

    def __init__(self, *, pools: dict[str, type], **options: Any) -> None:
        super().__init__(**options)
        # Not in the stubs; urllib3 documents the second.
        self._pool_classes_by_scheme = pools
        self._manager.pool_classes_by_scheme = pools  # type: ignore[attr-defined]

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
                if isinstance(cause, AnswerTooLong | AddressRefused):
                    raise cause from None
                raise
            except UrllibError as error:
                raise HTTPClientError(error=error) from error
        return answer

    def _get_ssl_context(self) -> Any:
        context = super()._get_ssl_context()  # type: ignore[misc]
        context.sslsocket_class = outbound.TLSSocket
        return context


def limited_client(session: Session, service: str, *, guarded: bool = False, **options: Any) -> Any:
    """Return a client of botocore that uses the HTTP sessions of this module.

    A `guarded` one reaches public networks only, and uses no proxy, which would resolve the name itself. The others
    use the proxies of the environment.
    """
    client: Any = session.create_client(service, **options)
    verify: Any = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True
    # botocore has no option for it.
    client._endpoint.http_session = _Session(
        pools=_GUARDED_POOLS if guarded else _POOLS,
        proxies={} if guarded else get_environ_proxies(client._endpoint.host),
        timeout=(client.meta.config.connect_timeout, client.meta.config.read_timeout),
        verify=verify,
        max_pool_connections=client.meta.config.max_pool_connections,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        # Set, so that TLS to a proxy uses a context of ours.
        proxies_config={"proxy_ca_bundle": get_cert_path(verify)},
    )
    client.meta.events.register("before-call.s3.HeadBucket", _stop_redirect)
    return client


def _stop_redirect(context: dict[str, Any], **_call: Any) -> None:
    """Stop botocore from following the redirect of its own HeadBucket, which locates a redirected bucket."""
    context.get("s3_redirect", {})["redirected"] = True
