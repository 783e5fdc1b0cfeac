"""The statement that files a request: what it checks again, what it stores, and its number of queries."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import Bucket, Variable
from common.crypto import digest
from compliance.errors import Refused
from compliance.models import ComplianceRequest, Export
from compliance.requests.selectors import ByUci
from compliance.requests.submit import submit as submit_request
from compliance.work import claims
from tests import factories
from tests.calls import ALICE, SigningCaller

Kind = ComplianceRequest.Kind
Origin = ComplianceRequest.Origin


def submit(
    chatbot, kind=Kind.DELETION, uci_key="member_id", origin=Origin.COMMAND, **options: bool
) -> ComplianceRequest:
    about = ByUci(uci_key, "42")
    return submit_request(chatbot=chatbot, kind=kind, selector=about, origin=origin, actor="command", **options)


def refused(chatbot, **changes) -> str:
    with pytest.raises(Refused) as caught:
        submit(chatbot, **changes)
    assert ComplianceRequest.objects.count() == 1  # what was filed before
    return caught.value.code


@pytest.mark.parametrize("kind", [Kind.DELETION, Kind.EXPORT])
def test_what_it_returns_is_what_is_stored(chatbot, kind) -> None:
    filed = submit(chatbot, kind)
    stored = ComplianceRequest.objects.get()

    assert filed == stored
    for field in ComplianceRequest._meta.concrete_fields:
        assert getattr(filed, field.attname) == getattr(stored, field.attname), field.name


def test_a_cached_uci_is_checked_again(chatbot) -> None:
    submit(chatbot)
    factories.VariableFactory.create(chatbot=chatbot, name="account", was_uci=True, is_uci=False)

    Variable.objects.filter(name="member_id").update(name="member")
    assert refused(chatbot) == "unknown_uci_key"
    assert submit(chatbot, uci_key="member").variable.name == "member"


def test_another_variable_with_the_id_of_a_cached_one_is_not_confused_with_it(chatbot) -> None:
    known = submit(chatbot).variable
    ComplianceRequest.objects.all().delete()
    Variable.objects.filter(pk=known.pk).update(is_uci=False)
    Variable.objects.filter(pk=known.pk).delete()
    another = factories.VariableFactory.create(pk=known.pk, chatbot=chatbot)

    filed = submit(chatbot)

    assert factories.as_bytes(filed.uci_digest) == digest("chatter", another.public_id, "42")


def test_a_bucket_is_looked_for_each_time_and_no_variable_of_another_chatbot(chatbot, neighbour) -> None:
    submit(neighbour, Kind.EXPORT)
    Bucket.objects.filter(chatbot=chatbot).delete()
    assert refused(chatbot, kind=Kind.EXPORT) == "export_destination_missing"
    Variable.objects.filter(chatbot=chatbot).update(is_uci=False)
    assert refused(chatbot) == "uci_not_designated"


def test_no_query_is_needed_when_no_export_is_waiting(chatbot, django_assert_num_queries) -> None:
    filed = submit(chatbot, Kind.EXPORT)
    with django_assert_num_queries(0), pytest.raises(Export.DoesNotExist):
        _ = filed.export


def test_grace_puts_a_request_off_and_the_console_always_gives_deletions_some(chatbot) -> None:
    chatbot.grace_minutes = 5
    filings = [(origin, kind) for origin in (Origin.API, Origin.CONSOLE) for kind in (Kind.DELETION, Kind.EXPORT)]
    for (origin, kind), minutes in zip(filings, (5, 5, 15, 5), strict=True):
        filed = submit(chatbot, kind, origin=origin, again=True)
        assert filed.not_before - filed.received_at == timedelta(minutes=minutes), (origin, kind)
    assert claims.take(Kind.DELETION) is None


def test_an_export_from_the_console_starts_at_once(chatbot) -> None:
    assert submit(chatbot, Kind.EXPORT, origin=Origin.CONSOLE).not_before is None
    assert claims.take(Kind.EXPORT)


BOB = ALICE | {"unique_chatter_identifier_value": "bob-12"}
IDS = {"conversation_ids": ["c-1", "c-2"]}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("path", "body"), [("data-deletion", BOB), ("data-export", BOB), ("data-deletion", IDS)])
def test_a_call_takes_four_statements(path, body) -> None:
    """Whether the database was restored, the key, the request, and the check for a waiting task."""
    caller = SigningCaller(factories.ready_chatbot(slug="acme"))
    caller.post(path, ALICE)  # records the use of the key, caches the variable, enqueues a task
    with CaptureQueriesContext(connection) as queries:
        assert caller.post(path, body).status_code == 200
    assert [query["sql"].split()[0] for query in queries] == ["SELECT", "SELECT", "WITH", "SELECT"]
