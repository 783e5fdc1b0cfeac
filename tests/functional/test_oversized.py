"""Very many conversations of a value, and very many requests: every transaction and statement stays bounded."""

import json
import math
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from common.db import by_index
from compliance import worker
from compliance.erasure import rows, verify
from compliance.ledger import service
from compliance.models import ComplianceRequest, JournalEntry
from compliance.requests import decisions
from compliance.work.sql import subjects
from conversations.models import Conversation, Message
from conversations.placement import machines
from tests.factories import conversation_of, deletion_of
from tests.functional.company import Company, document, settle, work
from tests.functional.refusing import EXTRACTS, Refusals

# How often a statement may read each row.
_LOOKS = 100


def talk_much(company: Company, times: int, *people: str) -> None:
    documents = [document(f"c-{number}", person) for number in range(times) for person in people]
    for start in range(0, len(documents), 1_000):
        company.send(*documents[start : start + 1_000])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def rows_looked_at(statement: Any, values: dict[str, Any]) -> float:
    """Carry out a statement as a transaction of a claim does; return how many rows its nodes have gone through."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(by_index())
        explained = statement.as_string(connection.connection)
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {explained}", values)
        [(found,)] = cursor.fetchall()
    [top] = json.loads(found) if isinstance(found, str) else found
    counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    looks = 0.0
    for node in nodes(top["Plan"]):
        looks += node["Actual Loops"] * sum(node.get(name, 0) for name in counted)
    return looks


@pytest.mark.long(reason="thousands of conversations are stored")
def test_an_approved_deletion_is_erased_in_chunks_whatever_size_was_measured(company: Company) -> None:
    """The limit check stops counting at the limit, so its count is not the real number."""
    talk_much(company, rows.CHUNK_CONVERSATIONS + 1, "guest")
    deletion = company.delete("guest")
    work()
    assert company.request_object(deletion)["hold_reason"] == "too_many_conversations"
    decisions.approve(request_id=UUID(deletion), actor="command")
    settle()

    result = company.request_object(deletion)
    assert (result["status"], result["counts"]["conversations"]) == ("completed", rows.CHUNK_CONVERSATIONS + 1)
    with connection.cursor() as cursor:
        # Each row has the id of the transaction that wrote it.
        cursor.execute(
            f"SELECT count(*) FROM {Conversation._meta.db_table} WHERE deleted_at IS NOT NULL GROUP BY xmin::text"
        )
        assert max(number for (number,) in cursor.fetchall()) <= rows.CHUNK_CONVERSATIONS


def test_the_query_reads_each_row_a_few_times_after_another_deletion(company: Company, refusals: Refusals) -> None:
    times = 300
    talk_much(company, times, "alice", "bob")
    company.make_day()
    refusals.unwritable.add(EXTRACTS)
    company.delete("alice")
    work()
    second = company.delete("bob")
    work()

    left = verify.find_leftovers([UUID(second)])[UUID(second)]
    assert (left.erased_before, left.rows[verify.EXTRACTS]) == (times, 1)
    assert rows_looked_at(verify._question(), subjects([UUID(second)])) < _LOOKS * times


Status = ComplianceRequest.Status


def test_many_requests_are_erased_set_wise(chatbot, storage, monkeypatch) -> None:
    """A claim costs the same number of statements whether it holds three requests or sixty."""

    def statements(chatters: int) -> int:
        for number in range(chatters):
            conversation_of(chatbot, f"{chatters}-{number}", messages=1)
            deletion_of(chatbot, f"{chatters}-{number}")
        JournalEntry.objects.update(at=Now())  # younger than what the journal writes on a slow machine
        with CaptureQueriesContext(connection) as queries:
            worker.drain(seconds=60)
        return len(queries)

    machines.ask()
    monkeypatch.setattr(machines, "ASK_SECONDS", math.inf)  # nor are machines of Citus asked again meanwhile
    worker.drain()  # shares the storage state learned while emptying the bucket
    service.current()
    assert statements(60) == statements(3)
    assert not Message.objects.exists()
    assert Conversation.objects.filter(deleted_at__isnull=False).count() == 63
    assert set(ComplianceRequest.objects.values_list("status", flat=True)) == {Status.COMPLETED}
