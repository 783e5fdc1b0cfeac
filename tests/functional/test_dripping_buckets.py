"""Storages that drip delay only the work that needs them.

No single read of such a call times out, and they never end it: we do, half a minute after its start.
"""

import time
from collections.abc import Iterator

import pytest

from compliance.cluster import notify
from compliance.ledger import journal
from compliance.work import health
from conversations.models import Conversation
from scripts.processes import Processes
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.support import manage, worker_environment
from tests.functional.test_killed_worker import wait_until
from tests.hostile import Hostile, behaving, drips_a_head

pytestmark = pytest.mark.long(reason="a call to a storage ends after half a minute, and real clusters wait for it")

TOLD_WITHIN = 60.0


@pytest.fixture
def server() -> Iterator[Hostile]:
    with behaving(drips_a_head) as server:
        yield server


def test_rows_are_erased_while_the_hosted_bucket_drips_and_health_reports_it(chatbot, server) -> None:
    """Of requests that the ledger has: of others nothing is erased before it has them."""
    environment = worker_environment() | {"S3_ENDPOINT_URL": server.url()}
    for number in range(6):
        conversation_of(chatbot, f"gone-{number}")
        journal.intend([deletion_of(chatbot, f"gone-{number}").pk])
        export_of(chatbot, f"member-{number}")
    notify.notify_workers()
    with Processes() as processes:
        processes.start("worker", manage("qcluster"), env=environment)
        began = time.monotonic()
        left = Conversation.objects.filter(deleted_at__isnull=True)
        wait_until(lambda: not left.exists(), seconds=TOLD_WITHIN)
        wait_until(lambda: "storage_silent" in {each.code for each in health.check().problems}, seconds=90)
        found = time.monotonic() - began
        conversation_of(chatbot, "late")
        journal.intend([deletion_of(chatbot, "late").pk])
        notify.notify_workers()
        wait_until(lambda: not left.exists(), seconds=90)
    assert found < TOLD_WITHIN
