"""Finding requests over HTTP: lists by filter, page by page, and lookups of one chatter."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.db.models import F
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots.models import Chatbot, Variable
from common.times import rfc3339
from compliance.models import ComplianceRequest
from compliance.requests import queries
from tests.calls import ALICE, TokenCaller, pointers, problem
from tests.compliance.api.test_requests import FIELDS
from tests.factories import ExportFactory, deletion_of, export_of

Status = ComplianceRequest.Status


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot, scopes=["requests:read"])


def ids(response: Any) -> list[str]:
    assert response.status_code == 200
    return [one["request_id"] for one in response.json()["results"]]


def listed(caller: TokenCaller, **filters: str) -> list[str]:
    return ids(caller.get(f"requests?{urlencode(filters)}"))


def of(*requests: ComplianceRequest) -> list[str]:
    return [str(request.pk) for request in requests]


def test_the_newest_come_first_as_request_objects(caller, chatbot, neighbour):
    older, newer = deletion_of(chatbot, "alice-77"), export_of(chatbot, "bob")
    deletion_of(neighbour, "alice-77")
    response = caller.get("requests")
    assert ids(response) == of(newer, older)
    assert response.json()["results"] == [caller.get(f"requests/{one.pk}").json() for one in (newer, older)]
    assert (response.json()["next"], response.json()["previous"]) == (None, None)
    assert response.json()["results"][0].keys() == FIELDS
    assert "alice-77" not in response.content.decode()


def test_filters_narrow_down_and_add_up(caller, chatbot):
    waiting = deletion_of(chatbot, "1", reference="T-1")
    held = deletion_of(chatbot, "2", status=Status.ON_HOLD, hold_reason="export_pending", held_at=Now())
    failed = export_of(chatbot, "3", reference="T-1", status=Status.FAILED, failed_at=Now(), error_code="x")
    made = export_of(chatbot, None, status=Status.COMPLETED, completed_at=Now(), result="done", reference="T-11")
    assert listed(caller, status="accepted") == of(waiting)
    assert listed(caller, status="on_hold") == of(held)
    assert listed(caller, status="completed") == of(made)
    assert listed(caller, status="rejected") == []
    assert listed(caller, kind="export") == of(made, failed)
    assert listed(caller, kind="deletion") == of(held, waiting)
    assert listed(caller, reference="T-1") == of(failed, waiting)
    assert listed(caller, reference="t-1") == []
    assert listed(caller, reference="T-1", kind="export", status="failed") == of(failed)


def test_a_span_of_time_has_its_beginning_and_not_its_end(caller, chatbot):
    first, second, third = (deletion_of(chatbot, str(number)) for number in range(3))
    assert first.received_at < second.received_at < third.received_at
    at = str(rfc3339(second.received_at))
    assert listed(caller, received_after=at) == of(third, second)
    assert listed(caller, received_before=at) == of(first)
    assert listed(caller, received_after=at, received_before=str(rfc3339(third.received_at))) == of(second)
    elsewhere = quote(second.received_at.astimezone().isoformat())
    assert ids(caller.get(f"requests?received_after={elsewhere}")) == of(third, second)
    for far in ("1970-01-01T00:00:00Z", "9998-12-31T23:59:59Z"):
        found = [listed(caller, received_after=far), listed(caller, received_before=far)]
        assert sorted(map(len, found)) == [0, 3]


def test_differing_clocks_lose_no_request(caller, chatbot):
    request = deletion_of(chatbot, "1")
    apart = timedelta(minutes=59)
    for moved in (apart, -2 * apart):
        ComplianceRequest.objects.update(received_at=F("received_at") + moved)
        request.refresh_from_db()
        at = str(rfc3339(request.received_at))
        assert listed(caller, received_after=at) == of(request)
        assert listed(caller, received_before=str(rfc3339(request.received_at + timedelta(seconds=1)))) == of(request)


def test_pages_show_each_request_once_while_others_are_filed(caller, chatbot):
    requests = [deletion_of(chatbot, str(number)) for number in range(5)][::-1]
    first = caller.get("requests?limit=2&kind=deletion")
    deletion_of(chatbot, "new")
    second = caller.get(first.json()["next"].removeprefix("http://testserver"))
    third = caller.get(second.json()["next"].removeprefix("http://testserver"))
    assert [ids(page) for page in (first, second, third)] == [of(*requests[:2]), of(*requests[2:4]), of(requests[4])]
    assert third.json()["next"] is None
    back = caller.get(third.json()["previous"].removeprefix("http://testserver"))
    assert ids(back) == ids(second)


def test_a_mistyped_filter_is_refused(caller):
    for query, at_fault in (
        ("status=done", {"/status": "unknown_value"}),
        ("kind=delete", {"/kind": "unknown_value"}),
        ("reference=a%20b", {"/reference": "wrong_pattern"}),
        ("reference=", {"/reference": "wrong_pattern"}),
        ("received_after=2026-11-24", {"/received_after": "invalid_time"}),
        ("received_before=2026-11-24T09:00:00", {"/received_before": "time_zone_missing"}),
        ("limit=201", {"/limit": "out_of_range"}),
        ("cursor=abc", {"/cursor": "invalid"}),
        ("uci_value=alice-77", {"/uci_value": "unknown_field"}),
    ):
        response = caller.get(f"requests?{query}")
        assert pointers(response) == at_fault
        assert "alice-77" not in response.content.decode()


def test_a_page_of_many_takes_as_many_queries_as_a_page_of_one(caller, chatbot, django_assert_num_queries):
    for number in range(12):
        request = export_of(chatbot, str(number))
        ExportFactory.create(request=request, key=f"k{number}", rows=1, bytes=1, sha256="0" * 64, finished_at=Now())
    caller.get("requests")
    for limit in (1, 12):
        # For the state of the service, the key, the page with its exports, and around that a savepoint with settings.
        with django_assert_num_queries(7):
            assert len(listed(caller, limit=str(limit))) == limit


# --- About one chatter -----------------------------------------------------------------------------------


def test_a_lookup_finds_the_requests_about_one_chatter(caller, chatbot, neighbour):
    older = deletion_of(chatbot, "alice-77")
    ended = {"uci_value": None, "status": Status.COMPLETED, "completed_at": Now(), "result": "done"}
    ComplianceRequest.objects.update(**ended)
    newer = export_of(chatbot, "alice-77")
    deletion_of(chatbot, "bob"), deletion_of(chatbot, "ALICE-77"), deletion_of(neighbour, "alice-77")
    response = caller.post("requests/lookup", ALICE)
    assert ids(response) == of(newer, older)
    assert response.json()["left_out"] == 0
    assert response.json()["results"][0].keys() == FIELDS
    assert "alice-77" not in response.content.decode()
    ComplianceRequest.objects.filter(pk=older.pk).update(uci_digest=None)
    assert ids(caller.post("requests/lookup", ALICE)) == of(newer)
    assert ids(caller.post("requests/lookup", ALICE | {"unique_chatter_identifier_value": "nobody"})) == []


def test_a_lookup_reports_how_many_requests_it_leaves_out(caller, chatbot, monkeypatch):
    monkeypatch.setattr(queries, "MAX_CHATTER_REQUESTS", 2)
    requests = [deletion_of(chatbot, "alice-77") for _ in range(5)]
    response = caller.post("requests/lookup", ALICE)
    assert ids(response) == of(requests[4], requests[3])
    assert response.json()["left_out"] == 3


def test_a_lookup_works_with_compliance_off_and_by_a_former_uci(caller, chatbot):
    request = deletion_of(chatbot, "alice-77")
    Chatbot.objects.update(compliance_enabled=False)
    Variable.objects.filter(name="member_id").update(is_uci=False, was_uci=True)
    assert ids(caller.post("requests/lookup", ALICE)) == of(request)


def test_a_lookup_is_refused_as_a_filing_is(caller, chatbot):
    key = "unique_chatter_identifier_key"
    problem(caller.post("requests/lookup", ALICE | {key: "plan"}), 400, "unknown_uci_key")
    assert pointers(caller.post("requests/lookup", ALICE | {"unique_chatter_identifier_value": "null"}))
    assert pointers(caller.post("requests/lookup", ALICE | {"reference": "T-1"})) == {"/reference": "unknown_field"}
    assert pointers(caller.post("requests/lookup", {})).keys() == {f"/{key}", "/unique_chatter_identifier_value"}
    Variable.objects.update(is_uci=False)
    problem(caller.post("requests/lookup", ALICE), 409, "uci_not_designated")


def test_lookup_is_not_taken_for_a_request_id(caller):
    problem(caller.get("requests/lookup"), 405, "method_not_allowed")
    problem(caller.post(f"requests/{uuid7()}", {}), 405, "method_not_allowed")
