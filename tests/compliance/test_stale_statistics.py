"""What a deletion has marked is found by the index made for it, also when the statistics are of before the mark."""

from uuid import uuid4

import pytest
from django.db import connection

from chatbots.models import Chatbot
from compliance import claims
from compliance.erasure import ledger
from config.arrays import array
from tests.factories import conversation_of


@pytest.mark.django_db
def test_an_index_that_was_empty_when_it_was_analysed_is_not_read_whole(chatbot: Chatbot) -> None:
    for number in range(50):
        conversation_of(chatbot, f"member-{number}", messages=0)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE conversations_conversation")
        cursor.execute(f"SELECT {claims.BY_INDEX}")
        cursor.execute(f"EXPLAIN {ledger._CONVERSATIONS}", [array([uuid4(), uuid4()])])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Cond: (deletion_request_id = ours.id)" in plan, plan
