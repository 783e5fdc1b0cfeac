"""The rules of EXPIRY: rows whose time is over are found by it, and end unless something keeps them."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Chatbot
from common.db import by_index, execute
from compliance.models import ComplianceRequest, Export, ExportConversation, RequestSubject
from compliance.retention import expiry, objects
from conversations.models import Conversation, IdentityLookup, RefusedIdentity, Tombstone, VariableValue
from tests import factories
from tests.compliance.conftest import Drain
from tests.factories import conversation_of, deletion_of, export_of, of_conversations
from tests.places import asked_about

LATE = timedelta(days=400)


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_ROWS_AT_ONCE", 1)


def erased_long_ago(chatbot: Chatbot, drain: Drain, *values: str) -> list[Conversation]:
    """Conversations of these chatters, which were erased a day apart, the first one first."""
    erased = [conversation_of(chatbot, value) for value in values]
    requests = [deletion_of(chatbot, value) for value in values]
    drain()
    for age, (conversation, request) in enumerate(zip(erased, requests, strict=True)):
        then = timezone.now() - LATE + timedelta(days=age)
        Conversation.objects.filter(pk=conversation.pk).update(deleted_at=then)
        Tombstone.objects.filter(request_id=request.pk).update(expires_at=then)
        ComplianceRequest.objects.filter(pk=request.pk).update(completed_at=then)
    return erased


def held_by_an_export(chatbot: Chatbot, conversation: Conversation) -> Export:
    export = factories.ExportFactory.create(
        request=export_of(chatbot, "somebody"), key="1/held.csv", expires_at=timezone.now() + LATE
    )
    ExportConversation.objects.create(chatbot=chatbot, export=export, conversation_id=conversation.pk)
    return export


def removed() -> dict[str, int]:
    return {store: count for store, count in expiry.remove_expired().removed.items() if count}


def test_each_rule_finds_what_is_due_by_an_index(db: None) -> None:
    execute(by_index())  # as a worker's session
    rules = {name: rule for name, rule in expiry.EXPIRY.items() if isinstance(rule, expiry.Rows)}
    # Else pages that tests before have left empty make one index dearer than another.
    tables = {rule.due().model._meta.db_table for rule in rules.values()}
    execute(f"TRUNCATE compliance_compliancerequest, compliance_export, {', '.join(sorted(tables))} CASCADE")
    for name, rule in rules.items():
        plan = rule.due().explain()
        # What is unfinished is not much, however old it is.
        by = "export_unfinished" if name == "given_up_keys" else "< (statement_timestamp() -"
        assert any(by in line for line in plan.splitlines() if "Index" in line), f"{name}: {plan}"


def test_conversations_in_an_export_keep_their_digests_and_no_others(chatbot: Chatbot, drain: Drain) -> None:
    first, *_ = erased_long_ago(chatbot, drain, "1", "2", "3")
    export = held_by_an_export(chatbot, first)

    assert expiry.count_expired()["conversation_digests"] == 2
    assert removed()["conversation_digests"] == 2
    assert list(Conversation.objects.exclude(external_id_digest=None)) == [first]

    Export.objects.filter(pk=export.pk).update(key=None)
    assert removed() == {"conversation_digests": 1}
    assert not ExportConversation.objects.exists()


def given_up_long_ago(chatbot: Chatbot, value: str, *, by_ids: bool = False, **fields: Any) -> Export:
    """An export that has failed, and of which the client's bucket may have something."""
    ended = {"status": "failed", "failed_at": timezone.now() - LATE, "error_code": "storage_access_denied"}
    if by_ids:
        request = of_conversations(chatbot, f"c-{value}", kind="export", **ended)
    else:
        request = export_of(chatbot, value, **ended)
    place = {"hosting": "client", "bucket": "clients", "endpoint": "https://s3.example.com"} | fields
    return factories.ExportFactory.create(request=request, key=f"exports/{value}/x.csv", **place)


def test_what_a_clients_bucket_refuses_to_have_removed_is_forgotten_in_the_end(
    chatbot: Chatbot, neighbour: Chatbot, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    [erased] = erased_long_ago(chatbot, drain, "1")
    export = given_up_long_ago(chatbot, "42")
    ExportConversation.objects.create(chatbot=chatbot, export=export, conversation_id=erased.pk)
    kept = [
        given_up_long_ago(chatbot, "43", hosting="hosted", bucket="", endpoint=""),
        given_up_long_ago(neighbour, "44"),
    ]
    deletion_of(neighbour, "45", status="failed", failed_at=timezone.now(), error_code="storage_access_denied")
    monkeypatch.setattr(objects, "_remove_exports", lambda *_, **__: ())  # all storages refuse

    counts = expiry.count_expired()
    assert (counts["given_up_keys"], counts["failed_exports"]) == (1, 0)
    removed()

    assert set(Export.objects.filter(key__isnull=False)) == set(kept)
    export.request.refresh_from_db()
    assert (export.request.status, export.request.uci_value) == ("failed", None)
    removed()
    erased.refresh_from_db()
    assert erased.external_id_digest is None


@pytest.mark.parametrize("by_ids", [False, True])
def test_what_a_bucket_refuses_is_not_given_up_while_a_deletion_is_held_for_it(chatbot, drain, monkeypatch, by_ids):
    conversation_of(chatbot, "42", external_id="c-42")
    given_up_long_ago(chatbot, "42", by_ids=by_ids)
    deletion = of_conversations(chatbot, "c-42") if by_ids else deletion_of(chatbot, "42")
    monkeypatch.setattr(objects, "_remove_exports", lambda *_, **__: ())
    drain()
    deletion.refresh_from_db()
    assert deletion.hold_reason == "export_pending"

    assert "given_up_keys" not in removed()


def test_requests_with_a_conversation_left_keep_its_digest_and_no_others_do(chatbot: Chatbot) -> None:
    alive = conversation_of(chatbot, "42", external_id="c-1")
    long_ago = timezone.now() - LATE
    failed = {"kind": "export", "status": "failed", "error_code": "storage_locked"}
    kept = of_conversations(chatbot, "c-0", "c-1", failed_at=long_ago, **failed)
    of_conversations(chatbot, "c-2", failed_at=long_ago + timedelta(days=1), **failed)
    # One that has ended is forgotten whatever is left.
    of_conversations(chatbot, "c-1", status="cancelled", cancelled_at=long_ago + timedelta(days=2))

    assert expiry.count_expired()["named_conversation_digests"] == 2
    assert removed()["named_conversation_digests"] == 2
    assert list(ComplianceRequest.objects.exclude(named_conversations=None)) == [kept]
    assert {one.request_id for one in RequestSubject.objects.all()} == {kept.pk}

    Conversation.objects.filter(pk=alive.pk).update(external_id_digest=b"another")
    assert removed()["named_conversation_digests"] == 1


def test_chatters_of_a_deletion_that_is_not_over_stay_and_no_others_do(chatbot: Chatbot, drain: Drain) -> None:
    erased_long_ago(chatbot, drain, "1", "2")
    first, second = Tombstone.objects.order_by("expires_at")
    ComplianceRequest.objects.filter(pk=first.request_id).update(completed_at=timezone.now())
    for one in (first, second):
        RefusedIdentity.objects.create(
            chatbot=chatbot, conversation=conversation_of(chatbot), request_id=one.request_id, way="asserted",
            expires_at=one.expires_at,
        )  # fmt: skip

    counts = expiry.count_expired()
    assert (counts["tombstones"], counts["refused_identities"]) == (1, 1)
    removed()

    assert Tombstone.objects.get() == first
    assert RefusedIdentity.objects.get().request_id == first.request_id


def test_a_look_up_that_is_queued_anew_meanwhile_stays(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    past = timezone.now() - LATE
    look_up = IdentityLookup.objects.create(
        chatbot=chatbot, conversation=conversation_of(chatbot), state="unknown", finished_at=past, give_up_at=past,
        expires_at=past,
    )  # fmt: skip

    def queue_anew(chatbot_of: dict[int, int]) -> list[list[int]]:
        IdentityLookup.objects.update(expires_at=timezone.now() + LATE)
        return [list(chatbot_of)]

    monkeypatch.setattr("compliance.retention.expiry.by_place", queue_anew)
    assert removed() == {}
    assert IdentityLookup.objects.get() == look_up


def test_what_is_forgotten_is_locked_place_by_place(chatbot, neighbour, drain, shards, monkeypatch) -> None:
    monkeypatch.setattr(expiry, "_ROWS_AT_ONCE", 100)
    shards([chatbot], [neighbour])
    for owner in (chatbot, neighbour):
        erased_long_ago(owner, drain, "42")
        past = timezone.now() - LATE
        live = conversation_of(owner)
        factories.VariableValueFactory.create(conversation=live, expires_at=past)
        IdentityLookup.objects.create(
            chatbot=owner, conversation=live, state="unknown", finished_at=past, give_up_at=past, expires_at=past
        )
        RefusedIdentity.objects.create(
            chatbot=owner, conversation=live, request_id=UUID(int=0), way="asserted",
            expires_at=past,
        )  # fmt: skip

    with CaptureQueriesContext(connection) as captured:
        assert removed().keys() >= {"conversation_digests", "variable_values", "identity_lookups", "tombstones"}

    for model in (Conversation, VariableValue, IdentityLookup, Tombstone, RefusedIdentity):
        assert asked_about(model, captured, if_it_has="FOR UPDATE") == [[chatbot.pk], [neighbour.pk]]
