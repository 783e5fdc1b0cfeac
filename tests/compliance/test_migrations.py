"""The migrations that change stored rows."""

from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.models import Callback, ComplianceRequest, Export, RequestSubject
from tests import factories

URL = "https://hooks.example.com/own"


@pytest.mark.parametrize("batch", [1, 10])
def test_addresses_of_what_was_given_up_are_emptied(chatbot, monkeypatch, batch) -> None:
    migration = import_module("compliance.migrations.0018_addresses_and_keys")
    monkeypatch.setattr(migration, "_BATCH", batch)
    now = timezone.now()
    over, failed, waits = (factories.deletion_of(chatbot, value, callback_url=URL) for value in "123")
    factories.CallbackFactory.create(request=over, given_up=True)
    factories.CallbackFactory.create(
        request=failed, given_up=True, status="failed", error_code="worker_lost", occurred_at=now
    )
    factories.CallbackFactory.create(request=waits)

    migration.empty(apps, SimpleNamespace(connection=connection))

    assert [bool(one.url) for one in Callback.objects.order_by("request__seq")] == [False, False, True]
    kept = ComplianceRequest.objects.exclude(callback_url="").order_by("seq")
    assert list(kept) == [failed, waits], "the first has ended, and the others may call again"


def test_exports_that_a_deletion_has_met_are_known_by_their_expiry(chatbot: Chatbot) -> None:
    migration = import_module("compliance.migrations.0019_last_copies")
    now = timezone.now()
    for value, days in (("met", settings.EXPORT_GRACE_DAYS), ("unmet", settings.HOSTED_FILE_DAYS)):
        factories.ExportFactory.create(
            request=factories.export_of(chatbot, value), key=value, rows=1, bytes=1, sha256="0" * 64,
            finished_at=now, expires_at=now + days,
        )  # fmt: skip
    factories.ExportFactory.create(
        request=factories.export_of(chatbot, "unfinished"), key="unfinished", expires_at=now - timedelta(seconds=1)
    )

    migration.note(apps, SimpleNamespace(connection=connection))

    assert list(Export.objects.exclude(last_copy_since=None).values_list("key", flat=True)) == ["met"]


def test_conversations_that_requests_name_move_from_arrays_to_rows_and_back(chatbot: Chatbot) -> None:
    factories.of_conversations(chatbot, "c-2", "c-1")
    factories.deletion_of(chatbot, "42")
    factories.of_conversations(chatbot, "c-1", kind="export")
    named = {one.pk: one.conversation_digests for one in ComplianceRequest.objects.all()}
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    former = MigrationExecutor(connection).migrate([("compliance", "0019_last_copies")]).apps
    arrays = former.get_model("compliance", "ComplianceRequest").objects.values_list("pk", "conversation_digests")
    assert {pk: found and [bytes(one) for one in found] for pk, found in arrays} == named

    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("compliance"))
    assert {one.pk: one.conversation_digests for one in ComplianceRequest.objects.all()} == named
    assert [one.chatbot_id for one in RequestSubject.objects.all()] == [chatbot.pk] * 3
