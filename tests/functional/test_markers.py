"""Marker words in all free columns that the inventory declares, before each kind of erasure.

The columns come from the models: a new one is planted by itself. What a constraint refuses is limited to a closed
list.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db import DatabaseError, models, transaction
from django.utils import timezone

from common.crypto import digest
from common.storage import ObjectStorage
from compliance import worker
from compliance.inventory import STORES, Disposition, is_free
from compliance.models import ComplianceRequest, ExportFile, RequestNote
from compliance.retention import policy
from conversations.models import Conversation, IdentityLookup, RefusedIdentity, UploadedFile
from tests import factories
from tests.compliance.retention.runs import keep_for
from tests.functional.company import Company, document, let_time_pass, settle, travel, work
from tests.functional.redacting import redact, said
from tests.functional.support import dump, everything_in

ALICE, BOB = "MARK-alice-5813", "MARK-bob-5813"

# By which an object, a person or another row is found.
_FINDING = {"key", "object_key", "upload_id", "external_id", "line", "word"}
_FORMS = "{}", "https://hooks.example.com/{}"

Planted = dict[tuple[str, str], set[Any]]
_TABLES = {store.table: store for store in STORES}


def conversation(person: str) -> str:
    return f"c-{person}"


def build(company: Company, person: str) -> None:
    """Store and file something of a person in each store."""
    chatbot, ours = company.chatbot, conversation(person)
    sent = document(
        ours, person, user_name=f"name {person}", user_channel_variables={"plan": person},
        csat={"score": 4, "comment": f"said {person}"},
        messages=[said("m1", f"secret {person}"), said("m2", f"words {person}")],
    )  # fmt: skip
    [result] = company.send(sent)
    number = int(result["number"])
    assert company.upload(number, f"picture {person}").status_code == 201
    UploadedFile.objects.filter(conversation=number).update(name=person)
    now = timezone.now()
    IdentityLookup.objects.create(
        chatbot=chatbot, conversation_id=number, state="unknown", finished_at=now, give_up_at=now,
        expires_at=now + timedelta(days=7),
    )  # fmt: skip
    RefusedIdentity.objects.create(
        chatbot=chatbot,
        conversation_id=number,
        request_id=uuid4(),
        way="asserted",
        expires_at=now + timedelta(days=90),
    )
    company.exported(person, include_files=True)
    redact(company, number)
    company.export([ours, "c-never"])
    settle()
    factories.ExportFactory.create(
        request=factories.export_of(chatbot, None, status="completed", result="done", completed_at=now,
                                    uci_digest=digest("chatter", factories.uci_of(chatbot).public_id, person)),
        hosting="client", bucket="clients", endpoint="https://s3.example.com", key=f"exports/{person}/x.csv",
        finished_at=now, rows=1, bytes=1, sha256="0" * 64,
    )  # fmt: skip
    of_person = ComplianceRequest.objects.filter(chatbot=chatbot).exclude(callbacks__isnull=False)
    for place, request in enumerate(of_person):
        factories.CallbackFactory.create(request=request, delivered=True)
        RequestNote.objects.create(chatbot=chatbot, request=request, entry_id=place, text=f"note {person}")


def rows() -> dict[str, set[Any]]:
    return {table: set(store.model._default_manager.values_list("pk", flat=True)) for table, store in _TABLES.items()}


def plant(person: str, of: dict[str, set[Any]]) -> Planted:
    """Plant the value of a person in each free column of these rows; return the rows by table and column."""
    planted: Planted = {}
    for table, numbers in of.items():
        store = _TABLES[table]
        for field in store.model._meta.concrete_fields:
            is_kept = store.fields[field.name][0] is Disposition.KEPT
            if is_kept or not is_free(field) or isinstance(field, models.BinaryField) or field.name in _FINDING:
                continue
            for number in numbers:
                if _write(store.model, number, field.name, person):
                    planted.setdefault((table, field.name), set()).add(number)
    return planted


def _write(model: type[models.Model], number: Any, column: str, person: str) -> bool:
    for form in _FORMS:
        try:
            with transaction.atomic():
                return bool(model._default_manager.filter(pk=number).update(**{column: form.format(person)}))
        except DatabaseError:
            pass
    return False


def by_ids(company: Company) -> None:
    company.delete([conversation(ALICE)])
    settle()


def by_age(company: Company) -> None:
    keep_for(company.chatbot, 1095)
    Conversation.objects.filter(external_id=conversation(ALICE)).update(
        started_at="2000-01-01T00:00Z", last_message_at="2000-01-01T00:00Z"
    )
    policy.file_run(company.chatbot, actor="command")
    settle()


def late(company: Company) -> None:
    """Of a deletion that had completed before the conversation was named to be its chatter's."""
    deletion = company.delete("somebody")
    settle()
    Conversation.objects.filter(external_id=conversation(ALICE)).update(deletion_request_id=UUID(deletion))


@pytest.fixture
def people(company: Company, storage: ObjectStorage) -> tuple[Planted, Planted]:
    planted, before = [], rows()
    for person in (ALICE, BOB):
        build(company, person)
        after = rows()
        planted.append(plant(person, {table: after[table] - before[table] for table in after}))
        before = after
    assert planted[0].keys() == planted[1].keys()
    # Among them, what hangs on requests.
    assert {
        ("compliance_compliancerequest", "reference"), ("compliance_compliancerequest", "callback_url"),
        ("compliance_requestnote", "text"), ("conversations_message", "text"),
    } <= planted[0].keys()  # fmt: skip
    return planted[0], planted[1]


def left(planted: Planted, person: str) -> Planted:
    """Return the rows that still have the word."""
    found: Planted = {}
    for (table, column), numbers in planted.items():
        held = _TABLES[table].model._default_manager.filter(pk__in=numbers, **{f"{column}__contains": person})
        if rows := set(held.values_list("pk", flat=True)):
            found[table, column] = rows
    return found


@pytest.mark.long(reason="each kind of erasure", beyond=1)
@pytest.mark.parametrize("erase", [by_ids, by_age, late])
def test_no_marker_of_an_erased_person_is_left_and_none_of_a_neighbour_is_gone(company, storage, people, erase):
    alice, bob = people
    of_bob = left(bob, BOB)
    # What is about the conversation alone leaves these.
    of_chatter = ComplianceRequest.objects.filter(variable__isnull=False)
    notes = RequestNote.objects.filter(request__in=of_chatter)
    stays = {
        "compliance_compliancerequest": {one.pk for one in of_chatter},
        "compliance_requestnote": set(notes.values_list("pk", flat=True)),
        # Of the export that keeps its grace.
        "compliance_exportfile": set(ExportFile.objects.values_list("pk", flat=True)),
    }
    erase(company)
    worker.sweep()
    assert Conversation.objects.filter(deleted_at__isnull=False).count() == 1

    assert left(bob, BOB) == of_bob
    of_alice = left(alice, ALICE)
    for (table, column), numbers in of_alice.items():
        assert numbers <= stays.get(table, set()), (table, column)

    # A deletion by value is about all of a person's.
    company.delete(BOB, erase_exports=True)
    settle()
    assert Conversation.objects.filter(deleted_at__isnull=False).count() == 2
    assert left(alice, ALICE) == of_alice
    assert BOB not in dump() + everything_in(storage)

    # Whatever erased the conversation: requests and copies have their own days.
    travel(settings.ERASURE_LEDGER_DAYS + timedelta(days=1))
    for _ in range(3):
        let_time_pass()
        worker.sweep()
        work()
    assert ALICE not in dump() + everything_in(storage)
