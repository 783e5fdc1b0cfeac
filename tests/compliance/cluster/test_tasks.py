import traceback

import pytest
from django.db import IntegrityError, connection, transaction

from compliance import tasks, worker
from compliance.cluster.broker import TaskFailed
from tests.factories import ConversationFactory


def test_a_failed_task_contains_no_row_data(monkeypatch, caplog) -> None:
    """django-q2 keeps the text and traceback of a task's exception, and PostgreSQL quotes the row."""

    def fail(*_: object) -> None:
        ConversationFactory.create(user_name="Ada Lovelace", deletion_request_id=None)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE conversations_conversation SET deleted_at = now()")

    monkeypatch.setattr(worker, "sweep", fail)

    with pytest.raises(TaskFailed) as caught:
        tasks.sweep()

    kept = "".join(traceback.format_exception(caught.value))
    # Citus does not say which constraint it was.
    assert str(caught.value) in {
        "django.db.utils.IntegrityError: SQLSTATE 23514 (conversation_erased_holds_nothing)",
        "django.db.utils.IntegrityError: SQLSTATE 23514",
    }
    assert "Ada" not in kept
    assert caught.value.__context__ is None
    assert IntegrityError.__name__ in caplog.text
