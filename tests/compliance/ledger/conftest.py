from datetime import timedelta

import pytest

from common.storage import ObjectStorage
from compliance.ledger import service, tripwire
from compliance.models import Service
from tests.ledger import header, put


@pytest.fixture
def ours(storage: ObjectStorage) -> Service:
    """This service, which knows an object from two days ago."""
    row = service.current()
    put(storage, header(row, age=timedelta(days=2)), is_known=True)
    return row


@pytest.fixture(autouse=True)
def _without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tripwire, "_looks_again_at", 0.0)
