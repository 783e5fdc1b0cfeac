"""A waiting export is reused for an equal call."""

from copy import copy
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from chatbots.models import ChangeLogEntry, Chatbot
from chatbots.operations.keys import create_callback_secret
from compliance.models import ComplianceRequest as Request
from compliance.models import Export
from compliance.requests import decisions, equal_exports
from compliance.requests.selectors import ByConversations, ByUci
from compliance.requests.submit import submit as submit_request
from compliance.work import claims
from tests.calls import ALICE, TokenCaller, problem
from tests.compliance.conftest import Drain
from tests.factories import conversation_of
from tests.functional.elsewhere import Elsewhere

Kind = Request.Kind
Origin = Request.Origin


BATCH = "requests/batch"


def export(caller: Any, fields: dict[str, Any] | None = None, **headers: Any) -> dict[str, Any]:
    answer = caller.post("data-export", ALICE | (fields or {}), **headers)
    assert answer.status_code == 200, answer.content
    shown: dict[str, Any] = answer.json()
    return shown


def submit(chatbot: Chatbot, about: Any = None, kind: Kind = Kind.EXPORT, **fields: Any) -> Request:
    given = {"origin": Origin.API, "actor": "api:1", **fields}
    return submit_request(chatbot=chatbot, kind=kind, selector=about or ByUci("member_id", "alice-77"), **given)


def exports() -> int:
    return Request.objects.filter(kind=Kind.EXPORT).count()


def test_a_second_equal_call_files_nothing(caller: TokenCaller) -> None:
    first = export(caller)
    second = export(caller)

    assert first["existing"] is False
    assert second == first | {"existing": True}
    assert exports() == 1
    entry = ChangeLogEntry.objects.get(event="request.reused")
    assert str(entry.request_id) == first["request_id"]
    assert (entry.actor, entry.data) == (f"api:{caller.api_key.prefix}", {"origin": "api", "times": 1})


def test_different_options_file_another_export(caller: TokenCaller) -> None:
    first, second = export(caller), export(caller, {"again": True})
    assert first["request_id"] != second["request_id"]
    assert second["existing"] is False
    assert export(caller)["request_id"] == second["request_id"]


def test_differing_calls_file_separate_exports(caller: TokenCaller) -> None:
    export(caller, {"reference": "T-1"})
    fields = {"include_shared": True, "include_files": True, "reference": "T-2"}
    fields["unique_chatter_identifier_value"] = "alice-78"
    for name, value in fields.items():
        assert export(caller, {"reference": "T-1", name: value})["existing"] is False


def test_a_different_callback_address_files_a_separate_export(chatbot: Chatbot, caller: TokenCaller) -> None:
    create_callback_secret(chatbot=chatbot, actor="command")
    found = {"callback_url": "https://hooks.example.com/x"}
    assert export(caller, found)["existing"] is False
    assert export(caller)["existing"] is False
    assert export(caller, found)["existing"] is True


def test_a_different_origin_files_a_separate_export(chatbot: Chatbot) -> None:
    # Exports filed in the console wait longer, and staff may cancel them.
    filed = [submit(chatbot, origin=origin) for origin in (Origin.CONSOLE, Origin.API, Origin.COMMAND, Origin.API)]
    assert [one.existing for one in filed] == [False, False, False, True]


def test_another_chatbots_export_is_not_reused(chatbot: Chatbot, neighbour: Chatbot) -> None:
    submit(neighbour)
    assert not submit(chatbot).existing


def test_a_started_export_is_not_reused(chatbot: Chatbot) -> None:
    first = submit(chatbot)
    held = claims.take(Kind.EXPORT)
    assert held
    assert not submit(chatbot).existing

    held.release()
    Request.objects.exclude(pk=first.pk).delete()
    Request.objects.filter(pk=first.pk).update(cutoff_at=first.received_at)
    assert not submit(chatbot).existing


@pytest.mark.django_db(transaction=True)
def test_a_locked_export_is_not_waited_for(chatbot: Chatbot) -> None:
    first = submit(chatbot)
    with transaction.atomic():
        Request.objects.select_for_update().get(pk=first.pk)
        assert not Elsewhere(lambda: submit(chatbot)).end().existing


@pytest.mark.django_db(transaction=True)
def test_a_reused_export_does_not_start_before_the_response(chatbot: Chatbot) -> None:
    first = submit(chatbot)
    with transaction.atomic():
        asked = copy(first)
        asked.pk = uuid4()
        assert equal_exports.find([asked])[asked.pk].pk == first.pk
        assert Elsewhere(lambda: claims.take(Kind.EXPORT)).end() is None
    assert claims.take(Kind.EXPORT)


@pytest.mark.parametrize("status", ["cancelled", "rejected", "failed"])
def test_an_ended_export_is_not_reused(chatbot: Chatbot, status: str) -> None:
    first = submit(chatbot)
    if status == "cancelled":
        decisions.cancel(request_id=first.pk, actor="api:1")
    else:
        over = {"failed_at": first.received_at, "error_code": "x"} if status == "failed" else {"uci_value": None}
        Request.objects.filter(pk=first.pk).update(status=status, **over)
    assert not submit(chatbot).existing


@pytest.mark.django_db(transaction=True)  # the file is written on its own connection
def test_a_delivered_export_is_not_reused(chatbot: Chatbot, drain: Drain, caller: TokenCaller) -> None:
    conversation_of(chatbot, "alice-77", messages=1)
    export(caller)
    drain()
    conversation_of(chatbot, "alice-77", messages=1)
    assert export(caller)["existing"] is False
    drain()
    assert list(Export.objects.order_by("pk").values_list("rows", flat=True)) == [1, 2]


def test_a_deletion_in_between_separates_two_exports(chatbot: Chatbot) -> None:
    first = submit(chatbot)
    deletion = submit(chatbot, kind=Kind.DELETION)
    second = submit(chatbot)
    assert not second.existing
    assert submit(chatbot).pk == second.pk

    decisions.cancel(request_id=second.pk, actor="api:1")
    decisions.cancel(request_id=deletion.pk, actor="api:1")
    assert submit(chatbot).pk == first.pk

    rejected = submit(chatbot, kind=Kind.DELETION)
    Request.objects.filter(pk=rejected.pk).update(
        status="on_hold", hold_reason="awaiting_approval", held_at=rejected.received_at
    )
    assert not submit(chatbot, reference="T-1").existing
    decisions.reject(request_id=rejected.pk, actor="user:1", reason="other")
    assert submit(chatbot).pk == first.pk


def test_the_same_conversations_in_whatever_order_are_the_same(chatbot: Chatbot) -> None:
    first = submit(chatbot, ByConversations(("c-1", "c-2")))
    assert submit(chatbot, ByConversations(("c-2", "c-1"))).pk == first.pk
    assert not submit(chatbot, ByConversations(("c-1",))).existing

    submit(chatbot, ByConversations(("c-2", "c-3")), kind=Kind.DELETION)
    assert not submit(chatbot, ByConversations(("c-1", "c-2"))).existing


def test_a_call_sent_again_has_the_same_answer(caller: TokenCaller) -> None:
    first = export(caller, **{"Idempotency-Key": "one"})
    second = export(caller, **{"Idempotency-Key": "two"})
    assert [first["existing"], second["existing"]] == [False, True]

    assert export(caller, **{"Idempotency-Key": "one"}) == first
    assert export(caller, **{"Idempotency-Key": "two"}) == second
    other = caller.post("data-export", ALICE | {"reference": "T-1"}, **{"Idempotency-Key": "two"})
    problem(other, 409, "idempotency_conflict")
    assert ChangeLogEntry.objects.filter(event="request.reused").count() == 1


def item(action: str = "export", value: str = "alice-77", **fields: Any) -> dict[str, Any]:
    return {"action": action, **ALICE, "unique_chatter_identifier_value": value, **fields}


def test_of_many_equal_exports_in_a_batch_one_is_filed(caller: TokenCaller) -> None:
    waiting = export(caller, {"unique_chatter_identifier_value": "bob"})
    items = [*[item()] * 300, item(value="bob"), item(again=True), item()]

    results = caller.post(BATCH, {"requests": items}).json()["results"]

    ids = [one["request_id"] for one in results]
    assert [one["existing"] for one in results] == [False, *[True] * 299, True, False, True]
    assert len(set(ids[:300])) == 1
    assert ids[300] == waiting["request_id"]
    assert ids[301] == ids[302] != ids[0]
    assert {one["received_at"] for one in results[:300]} == {results[0]["received_at"]}
    assert exports() == 3
    entries = ChangeLogEntry.objects.filter(event="request.reused").order_by("data__times")
    assert [entry.data["times"] for entry in entries] == [1, 1, 299]


def test_the_order_of_a_batch_counts(caller: TokenCaller, chatbot: Chatbot) -> None:
    export(caller, {"unique_chatter_identifier_value": "bob"})
    items = [item(), item("delete"), item(), item(), item("delete", "bob"), item(value="bob")]
    results = caller.post(BATCH, {"requests": items}).json()["results"]
    assert [one["existing"] for one in results] == [False, False, False, True, False, False]


def test_a_batch_sent_again_has_the_same_answer(caller: TokenCaller) -> None:
    key = {"Idempotency-Key": "batch"}
    body = {"requests": [item(), item(), item("delete"), item()]}
    first = caller.post(BATCH, body, **key).json()
    assert caller.post(BATCH, body, **key).json() == first
    assert [one["existing"] for one in first["results"]] == [False, True, False, False]
    assert Request.objects.count() == 3
