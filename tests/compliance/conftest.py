from collections.abc import Callable

import pytest

from chatbots.buckets import ObjectStorage
from compliance import worker

Drain = Callable[[], None]


@pytest.fixture
def drain(storage: ObjectStorage) -> Drain:
    """Carry out everything that waits, as a worker does, in this process."""

    def run() -> None:
        assert not worker.drain(seconds=60)

    return run
