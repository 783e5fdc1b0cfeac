"""The paths for load balancers: they answer to any host name, over plain HTTP, with yes or no only."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections
from django.test import Client


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_answers_by_address_and_over_plain_http(db: None, settings, path: str) -> None:
    settings.SECURE_SSL_REDIRECT = True

    answer = Client(headers={"host": "10.11.12.13:8000"}).get(path)

    assert (answer.status_code, answer.content, answer["Cache-Control"]) == (200, b"ok\n", "no-store")
    assert Client().head(path).status_code == 200
    assert Client().post(path).status_code == 405


@pytest.mark.django_db(transaction=True)
def test_with_another_digest_key_the_process_answers_and_is_not_ready(settings) -> None:
    settings.DIGEST_KEY = b"another key of 32 bytes, not ours"[:32]
    connection.close()

    answers = [Client().get(path) for path in ("/healthz", "/readyz")]

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"ok\n"), (503, b"unavailable\n")]


@pytest.mark.django_db(transaction=True)
def test_without_a_database_the_process_answers_and_is_not_ready() -> None:
    def ask() -> list[tuple[int, bytes]]:
        # Only this thread's connection is broken.
        connections["default"].settings_dict = connection_settings | {"HOST": "127.0.0.1", "PORT": "9"}
        try:
            answers = [Client().get(path) for path in ("/healthz", "/readyz")]
            return [(answer.status_code, answer.content) for answer in answers]
        finally:
            del connections["default"]

    connection_settings = connection.settings_dict
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() == [(200, b"ok\n"), (503, b"unavailable\n")]
