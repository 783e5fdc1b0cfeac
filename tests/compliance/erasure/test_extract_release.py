"""A built day releases the deletions that waited for it, without waiting for locks."""

from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.erasure import engine, extracts
from compliance.models import ComplianceRequest
from compliance.work import claims
from compliance.work.sizes import measure
from tests.extracting import conversation_on, make_all, noon, planned
from tests.factories import deletion_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_locked_requests_are_skipped(chatbot: Chatbot, storage: ObjectStorage) -> None:
    members = ["alice", "bob"]
    for member in members:
        conversation_on(chatbot, member, noon())
    planned(chatbot)
    make_all()
    locked, free = (deletion_of(chatbot, member) for member in members)
    held = claims.take(ComplianceRequest.Kind.DELETION)
    assert held
    engine.run(held, measure(held), deadline=float("inf"))
    assert ComplianceRequest.objects.filter(not_before__isnull=False).count() == 2

    params = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
    with psycopg.connect(**params) as other, connection.cursor() as cursor:
        other.execute("SELECT FROM compliance_compliancerequest WHERE id = %s FOR UPDATE", [locked.pk])
        cursor.execute("SET statement_timeout = '5s'")
        try:
            assert extracts.build_next(settled=False)
        finally:
            cursor.execute("RESET statement_timeout")
    locked.refresh_from_db()
    free.refresh_from_db()
    assert (locked.not_before is None, free.not_before is None) == (False, True)


def test_requests_that_wait_for_other_reasons_are_not_released(chatbot: Chatbot, storage: ObjectStorage) -> None:
    """During its grace a deletion can be cancelled."""
    later = timezone.now() + timedelta(minutes=15)
    deletion = deletion_of(chatbot, "alice", not_before=later)
    planned(chatbot)
    assert make_all() == 1
    deletion.refresh_from_db()
    assert deletion.not_before == later
