from typing import Any

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.ledger import journal
from compliance.models import Occurrence
from conversations.models import Conversation
from tests.commands import report
from tests.functional.company import Company


def replay(*options: str, code: int = 0) -> dict[str, Any]:
    """Run the command, and return its report."""
    return report("replay_erasures", *options, code=code)


def work() -> None:
    """Let a worker do all that waits."""
    assert not worker.drain(seconds=60)


def sweep_and_work() -> None:
    """Let a worker do all that waits, after what is due by time."""
    worker.sweep()
    work()


def write_journal() -> None:
    """Write the ledger's journal now, as a worker does every few seconds."""
    Occurrence.objects.all().delete()
    while journal._write_some():
        pass


def gone(*numbers: int) -> list[bool]:
    rows = Conversation.objects.in_bulk(numbers)
    return [rows[number].deleted_at is not None for number in numbers]


def became_of(report: dict[str, Any]) -> dict[str, str]:
    """Return the outcome of each request of a report."""
    return {one["request_id"]: one["outcome"] for one in report["requests"]}


@pytest.fixture
def company(chatbot: Chatbot, storage: ObjectStorage) -> Company:
    return Company(chatbot)


@pytest.fixture
def other(neighbour: Chatbot, storage: ObjectStorage) -> Company:
    return Company(neighbour)
