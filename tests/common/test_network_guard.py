"""The network guard for clients' endpoints, against a real S3 server and lying name services."""

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from django.conf import settings as django_settings
from pytest_django import Settings

from common.network_guard import UrlRefused, is_allowed
from common.storage import ObjectStorage, StorageError
from common.storage.transport import PRIVATE_NETWORKS, check_endpoint
from tests.clients import storage_at

LOOPBACK = (ip_network("127.0.0.0/8"),)
PUBLIC = "93.184.215.14"


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Let the name service answer with these addresses in turn, then always the last. Return its queries."""
    real, asked = socket.getaddrinfo, []
    left = list(answers)

    def answer(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        return real(left.pop(0) if len(left) > 1 else left[0], *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server at a private address, which must not be called."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


def guarded(endpoint: str, **options: Any) -> ObjectStorage:
    return storage_at(
        endpoint,
        bucket_name=django_settings.S3_BUCKET,
        access_key=django_settings.S3_ACCESS_KEY_ID,
        secret_key=django_settings.S3_SECRET_ACCESS_KEY,
        guarded=True,
        **options,
    )


def refused(call: Callable[[], object]) -> tuple[str, bool]:
    with pytest.raises(StorageError) as caught:
        call()
    return caught.value.code, caught.value.retryable


@pytest.mark.parametrize(
    "address",
    [
        *(
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",  # noqa: S104  an address to refuse
        ),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::5db8:d70e", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
        "2001:0:0:0:0:0:80ff:fffe",  # Teredo, for 127.0.0.1
        *("::ffff:0:7f00:1", "4000::1", "fe00::1"),  # one that a translator maps to 127.0.0.1, others not given out
        *("192.0.0.192", "168.63.129.16"),  # clouds' own
    ],
)
def test_a_private_address_is_refused(settings: Settings, address: str) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = ()
    assert not is_allowed(address, setting=PRIVATE_NETWORKS)


@pytest.mark.parametrize(
    "address", [PUBLIC, "52.218.0.1", "2606:2800:220:1::1", f"::ffff:{PUBLIC}", "64:ff9b::5db8:d70e"]
)
def test_a_public_address_is_allowed_but_not_over_plain_http(settings: Settings, address: str) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = ()
    assert is_allowed(address, setting=PRIVATE_NETWORKS)
    assert not is_allowed(address, setting=PRIVATE_NETWORKS, encrypted=False)


def test_it_allows_a_listed_network_in_each_form_and_no_other(settings: Settings) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1"):
        assert is_allowed(address, setting=PRIVATE_NETWORKS)
        assert is_allowed(address, setting=PRIVATE_NETWORKS, encrypted=False)
    for address in ("10.2.0.1", "127.0.0.1", "fe80::1"):
        assert not is_allowed(address, setting=PRIVATE_NETWORKS)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://S3.Example.COM/", "https://s3.example.com"),
        ("https://s3.example.com:443", "https://s3.example.com"),
        ("https://s3.example.com:9000", "https://s3.example.com:9000"),
        ("HTTPS://[2606:2800:220:1::1]:9000", "https://[2606:2800:220:1::1]:9000"),
    ],
)
def test_an_endpoint_is_normalised(monkeypatch: pytest.MonkeyPatch, given: str, kept: str) -> None:
    resolve_to(monkeypatch, PUBLIC)
    assert check_endpoint(given) == kept


@pytest.mark.parametrize(
    ("endpoint", "advice"),
    [
        ("s3.example.com", "https://s3.example.com"),
        ("ftp://s3.example.com", "https://s3.example.com"),
        ("https://", "https://s3.example.com"),
        ("https://s3.example.com:0", "https://s3.example.com"),
        ("https://s3.example.com:99999", "https://s3.example.com"),
        ("https://[::1", "https://s3.example.com"),
        ("https://s3.exämple.com", "https://s3.example.com"),
        ("https://s3.example.com\n", "https://s3.example.com"),
        ("https://user:pass@s3.example.com", "no login"),
        ("https://s3.example.com/bucket", "no path"),
        ("https://s3.example.com?x", "no query"),
        ("https://s3.example.com#x", "no query"),
        ("http://s3.example.com", "Use https"),
    ],
)
def test_errors_of_an_endpoint_are_explained(monkeypatch, settings, endpoint, advice) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = ()
    resolve_to(monkeypatch, PUBLIC)
    with pytest.raises(UrlRefused, match=advice):
        check_endpoint(endpoint)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_every_spelling_of_a_private_address_is_recognised(settings: Settings, host: str) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = ()
    with pytest.raises(UrlRefused, match="BUCKET_PRIVATE_NETWORKS"):
        check_endpoint(f"https://{host}")


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = ()
    both = [(socket.AF_INET, 1, 6, "", (address, 443)) for address in (PUBLIC, "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: both)
    with pytest.raises(UrlRefused, match="private network"):
        check_endpoint("https://s3.example.com")


def test_an_unresolvable_name_is_reported() -> None:
    with pytest.raises(UrlRefused, match="does not resolve"):
        check_endpoint("https://nobody.invalid")


def test_calls_to_a_listed_network_pass(storage: ObjectStorage, settings: Settings) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = LOOPBACK
    client = guarded(str(settings.S3_ENDPOINT_URL))
    written = client.write_parts("a/key", client.open_upload("a/key", content_type="text/csv"), [b"x" * 9_000_000])
    assert written.bytes == 9_000_000
    assert storage.purge("a/key") == 1


def test_no_connection_is_opened_to_a_private_address(settings: Settings, listener: socket.socket) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = ()
    client = guarded(f"https://127.0.0.1:{listener.getsockname()[1]}")
    assert refused(lambda: client.exists("a/key")) == ("storage_address_refused", False)
    with pytest.raises(TimeoutError):
        listener.accept()


def test_nothing_is_sent_when_a_name_resolves_differently(monkeypatch, settings, listener) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = ()
    port = listener.getsockname()[1]
    # Public when set; private when the connection is about to be opened.
    asked = resolve_to(monkeypatch, PUBLIC, "127.0.0.1")
    endpoint = check_endpoint(f"https://rebinding.example.com:{port}")
    client = guarded(endpoint)
    assert refused(lambda: client.put("a/key", b"secret", "text/plain")) == ("storage_address_refused", False)
    assert asked == ["rebinding.example.com"] * 2  # tried once only
    with pytest.raises(TimeoutError):
        listener.accept()


def test_the_checked_address_is_the_one_connected_to(monkeypatch, settings, listener) -> None:
    """The name is resolved once only: a second answer could differ."""
    settings.BUCKET_PRIVATE_NETWORKS = LOOPBACK
    asked = resolve_to(monkeypatch, "127.0.0.1", "10.0.0.1")
    port = listener.getsockname()[1]
    with pytest.raises(StorageError):
        guarded(f"http://files.example.com:{port}", call_seconds=1).put("a/key", b"x", "text/plain")
    assert asked == ["files.example.com"]
    connection, _ = listener.accept()
    connection.close()


def test_nothing_is_sent_over_plain_http_to_unlisted_networks(monkeypatch, settings, listener) -> None:
    settings.BUCKET_PRIVATE_NETWORKS = LOOPBACK
    port = listener.getsockname()[1]
    client = guarded(f"http://files.example.com:{port}")
    resolve_to(monkeypatch, PUBLIC)
    assert refused(lambda: client.exists("a/key")) == ("storage_address_refused", False)


def test_proxies_from_the_environment_are_ignored(monkeypatch, storage, settings) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    settings.BUCKET_PRIVATE_NETWORKS = LOOPBACK
    storage.put("a/key", b"x", "text/plain")
    assert guarded(str(settings.S3_ENDPOINT_URL)).exists("a/key")
