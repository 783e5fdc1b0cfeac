"""Frequent updates change a row in place (HOT): no index entry is added, and no dead entries pile up."""

from typing import NamedTuple

import pytest
from django.db import connection

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from compliance.work import claims
from tests.conversations.documents import message, parsed, update
from tests.conversations.intakes import results
from tests.factories import deletion_of

pytestmark = pytest.mark.one_postgresql(reason="statistics of the tables")


class _Updates(NamedTuple):
    all: int
    in_place: int


def _updates(table: str) -> _Updates:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s", [table])
        return _Updates(*cursor.fetchone())


def test_a_new_message_updates_its_conversation_in_place(chatbot: Chatbot) -> None:
    assert set(results(chatbot, *(parsed(f"c-{number}") for number in range(1000)))) == {"created"}
    before = _updates("conversations_conversation")

    # Four or so on each page: the room that the fill factor leaves is enough, whether or not the page can be tidied
    # meanwhile, which any old snapshot in the database prevents.
    more = [update(f"c-{number}", messages=[message("m9")]) for number in range(0, 1000, 10)]
    assert set(results(chatbot, *more)) == {"updated"}

    after = _updates("conversations_conversation")
    assert after.all - before.all == 100
    assert after.in_place - before.in_place > 90


def test_a_claim_is_renewed_in_place(chatbot: Chatbot) -> None:
    deletion_of(chatbot, "42")
    held = claims.take(ComplianceRequest.Kind.DELETION)
    assert held
    before = _updates("compliance_claim")

    # So few that they fit into the row's page even when an old snapshot in the database keeps it from being tidied.
    for _ in range(10):
        held.renew()

    after = _updates("compliance_claim")
    assert after.all - before.all == after.in_place - before.in_place == 10
