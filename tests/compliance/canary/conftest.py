"""A service that answers as a test says."""

from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from threading import Thread

import pytest

from tests.compliance.canary.support import Service


@pytest.fixture
def service() -> Iterator[type[Service]]:
    Service.answers, Service.idempotency_keys = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        Service.address = f"http://127.0.0.1:{server.server_port}"
        yield Service
        server.shutdown()
        thread.join()
