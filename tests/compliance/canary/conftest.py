"""A service that answers as a test says."""

from collections.abc import Iterator

import pytest

from tests.compliance.canary.support import Service, serving


@pytest.fixture
def service() -> Iterator[type[Service]]:
    Service.answers, Service.idempotency_keys = {}, []
    with serving(Service) as Service.address:
        yield Service
