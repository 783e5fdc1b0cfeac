"""The migrations that change stored rows."""

from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from chatbots.models import BucketCheck, Chatbot
from common.db import fetch
from common.leases import take
from compliance.models import Callback, CanaryTurn, ComplianceRequest, Export, Mailbox, RequestSubject
from conversations.extracts import leases
from conversations.models import DailyExtract
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

    loader = MigrationLoader(connection)
    migration, before = (
        loader.get_migration("compliance", "0020_request_subjects"),
        ("compliance", "0019_last_copies"),
    )
    with connection.schema_editor() as editor:
        migration.unapply(loader.project_state(before), editor)
    arrays = fetch("SELECT id, conversation_digests FROM compliance_compliancerequest")
    assert {pk: found and [bytes(one) for one in found] for pk, found in arrays} == named

    with connection.schema_editor() as editor:
        migration.apply(loader.project_state(before), editor)
    assert {one.pk: one.conversation_digests for one in ComplianceRequest.objects.all()} == named
    assert [one.chatbot_id for one in RequestSubject.objects.all()] == [chatbot.pk] * 3


def test_what_workers_held_or_put_off_is_taken_again_and_keeps_its_attempts(chatbot: Chatbot) -> None:
    hour, now = timedelta(hours=1), timezone.now()
    for number in range(3):
        start = now - timedelta(days=9 - number)
        day = {"day": start.date(), "starts_at": start, "ends_at": now, "attempts": 2}
        DailyExtract.objects.create(chatbot=chatbot, **day)
    for name in ("ada", "ben"):
        Mailbox.objects.create(user=User.objects.create(username=name), attempts=3)
    CanaryTurn.objects.create(chatbot=chatbot, day=now)
    BucketCheck.objects.create(chatbot=chatbot)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    loader = MigrationLoader(connection)
    migrations = [
        *(("chatbots", "0011_checks_are_leases"), ("conversations", "0014_leases"), ("compliance", "0025_leases"))
    ]
    former = {}
    for migration in migrations:
        state = loader.project_state(migration, at_end=False)
        with connection.schema_editor() as editor:
            loader.graph.nodes[migration].unapply(state.clone(), editor)
        former[migration[0]] = state.apps
    held = {"token": UUID(int=7), "claimed_until": now + hour}
    days = former["conversations"].get_model("conversations", "DailyExtract").objects
    new, taken, put_off = days.order_by("day")
    days.filter(pk=new.pk).update(not_before=None)
    days.filter(pk=taken.pk).update(not_before=now - hour, owner="host:7:8", **held)
    days.filter(pk=put_off.pk).update(not_before=now + hour)
    boxes = former["compliance"].get_model("compliance", "Mailbox").objects
    boxes.filter(user__username="ada").update(**held)
    boxes.filter(user__username="ben").update(next_at=now + hour)
    former["compliance"].get_model("compliance", "CanaryTurn").objects.update(**held)
    former["chatbots"].get_model("chatbots", "BucketCheck").objects.update(**held)

    for migration in migrations:
        with connection.schema_editor() as editor:
            loader.graph.nodes[migration].apply(loader.project_state(migration, at_end=False), editor)
    leases.requeue_expired()
    days, boxes = DailyExtract.objects.order_by("day"), Mailbox.objects.order_by("user__username")
    rows: list[Any] = [*days, *boxes, *CanaryTurn.objects.all(), *BucketCheck.objects.all()]
    due = [take(type(row).objects.filter(pk=row.pk)) is not None for row in rows]
    assert due == [True, True, False, True, False, True, True]
    assert [row.attempts for row in rows[:5]] == [2, 2, 2, 3, 3]
    assert [rows[2].next_attempt_at, rows[4].next_attempt_at] == [now + hour] * 2
