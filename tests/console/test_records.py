"""Django's own lists for superusers: without personal fields, and bounded for tables of any size."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.utils import flatten
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.inventory import STORES, Disposition
from compliance.models import Claim, ComplianceRequest
from console.admin.base import ShortPaginator
from console.admin.records import RecordAdmin
from tests.every_page import RECORDS
from tests.factories import CallbackFactory, ClaimFactory, ExportFactory, deletion_of, export_of
from tests.functional.support import ROOT

VALUE = "jane.doe@example.org"
ADMINS = [one for one in admin.site._registry.values() if isinstance(one, RecordAdmin)]


@pytest.mark.parametrize(("module", "printed"), [("config.urls", "True True"), ("compliance.tasks", "False False")])
def test_they_are_loaded_with_the_pages_and_not_without(module: str, printed: str) -> None:
    """A test's own process has loaded them already, for the system checks."""
    code = (
        f"import sys, django; django.setup(); import {module}; from django.contrib import admin; "
        "from compliance.models import Claim; "
        "print(admin.site.is_registered(Claim), 'console.admin.staff' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == printed


def fields_of(records: RecordAdmin) -> Iterator[str]:
    request = RequestFactory().get("/")
    yield from map(str, records.list_display)
    yield from flatten(records.get_fields(request))
    yield from records.search_fields
    yield from (name for name, _ in records.get_list_filter(request))
    yield from (name.removeprefix("-") for name in records.ordering)


def test_each_recorded_model_has_a_page() -> None:
    assert {one.model for one in ADMINS} == set(RECORDS)


def test_no_field_of_them_is_personal() -> None:
    for records in ADMINS:
        personal = {
            name
            for store in STORES
            if store.model is records.model
            for name, (disposition, _) in store.fields.items()
            if disposition not in {Disposition.KEPT, Disposition.EXPIRES}
        }
        forbidden = personal | {"reference", "key", "upload_id", "token", "url", "uci_value", "uci_digest"}
        assert forbidden.isdisjoint(fields_of(records))
        loaded = records.get_queryset(RequestFactory().get("/")).query.deferred_loading
        assert loaded[1] is True, "deferred, not only these"
        assert personal <= set(loaded[0])


@pytest.fixture
def rows(chatbot: Chatbot) -> dict[type, object]:
    request = export_of(chatbot, VALUE, reference="TICKET-7", callback_url="https://example.org/secret-path")
    deletion_of(chatbot, VALUE, claim=ClaimFactory.create())
    ExportFactory.create(request=request, key=f"{chatbot.slug}/{VALUE}.csv")
    CallbackFactory.create(request=request)
    return {ComplianceRequest: request, Claim: Claim.objects.get()}


def test_records_show_rows_without_personal_data(rows: object, admin_client: Client) -> None:
    for records in ADMINS:
        name = f"admin:{records.opts.app_label}_{records.opts.model_name}"
        pages = [reverse(f"{name}_changelist")]
        pages += [reverse(f"{name}_change", args=[one.pk]) for one in records.model._default_manager.all()]
        for page in pages:
            answer = admin_client.get(page)
            assert answer.status_code == 200, page
            for secret in (VALUE, "TICKET-7", "secret-path"):
                assert secret not in answer.text, page
        assert admin_client.get(reverse(f"{name}_changelist"), {"q": "nonsense"}).status_code == 200


def test_nothing_is_added_changed_or_deleted(rows: dict[type, ComplianceRequest], admin_client: Client) -> None:
    name, request = "admin:compliance_compliancerequest", rows[ComplianceRequest]
    change = reverse(f"{name}_change", args=[request.pk])
    refused = admin_client.get(reverse(f"{name}_add"))
    assert (refused.status_code, "Your role does not allow this page." in refused.text) == (403, True)
    assert admin_client.post(change, {"status": "completed"}).status_code == 403
    assert admin_client.post(reverse(f"{name}_delete", args=[request.pk]), {"post": "yes"}).status_code == 403
    assert 'type="submit" value="Save' not in admin_client.get(change).text
    request.refresh_from_db()
    assert request.status == "accepted"


def test_the_address_filters_and_sorts_by_nothing_else(chatbot: Chatbot, admin_client: Client) -> None:
    first, second = (
        deletion_of(chatbot, "1"),
        export_of(chatbot, "2", status="on_hold", hold_reason="awaiting_approval", held_at=timezone.now()),
    )
    page = reverse("admin:compliance_compliancerequest_changelist")

    def listed(**given: str) -> list[ComplianceRequest]:
        return list(admin_client.get(page, given).context["cl"].result_list)

    assert listed() == listed(o="1") == listed(_facets="1") == [second, first]
    assert listed(status__exact="on_hold") == [second]
    assert listed(kind__exact="deletion", lane__exact="normal") == [first]
    assert listed(q=str(first.pk)) == [first]
    assert listed(q="0") == []
    for personal in ("uci_value", "uci_value__startswith", "reference__exact", "chatbot__name__contains"):
        assert admin_client.get(page, {personal: "1"}).status_code == 400


def test_a_filter_looks_at_the_newest_rows(chatbot, admin_client, monkeypatch) -> None:
    monkeypatch.setattr(ShortPaginator, "most", 2)
    old = deletion_of(chatbot, "1", status="failed", failed_at=timezone.now(), error_code="x")
    new = [deletion_of(chatbot, "2") for _ in range(2)]
    page = reverse("admin:compliance_compliancerequest_changelist")
    with CaptureQueriesContext(connection) as queries:
        assert list(admin_client.get(page, {"status__exact": "failed"}).context["cl"].result_list) == []
    assert list(admin_client.get(page).context["cl"].result_list)[:2] == new[::-1]
    assert list(admin_client.get(page, {"q": str(old.pk)}).context["cl"].result_list) == [old]
    assert not any("COUNT(" in query["sql"].upper() for query in queries)
    assert timezone.now() - old.received_at < timedelta(minutes=5)
