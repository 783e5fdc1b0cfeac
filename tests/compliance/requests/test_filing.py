"""The statement that files a request: what it checks again, what it stores, and its number of queries."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import Bucket, Variable
from common.crypto import digest
from compliance.errors import Refused
from compliance.models import ComplianceRequest, Export
from compliance.requests.selectors import ByUci
from compliance.requests.submit import submit as submit_request
from tests import factories
from tests.calls import ALICE, SigningCaller

Kind = ComplianceRequest.Kind


def submit(chatbot, kind=Kind.DELETION, uci_key="member_id") -> ComplianceRequest:
    origin = ComplianceRequest.Origin.COMMAND
    return submit_request(chatbot=chatbot, kind=kind, about=ByUci(uci_key, "42"), origin=origin, actor="command")


def refused(chatbot, **changes) -> str:
    with pytest.raises(Refused) as caught:
        submit(chatbot, **changes)
    assert ComplianceRequest.objects.count() == 1  # what was filed before
    return caught.value.code


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [Kind.DELETION, Kind.EXPORT])
def test_what_it_returns_is_what_is_stored(chatbot, kind) -> None:
    filed = submit(chatbot, kind)
    stored = ComplianceRequest.objects.get()

    assert filed == stored
    for field in ComplianceRequest._meta.concrete_fields:
        assert getattr(filed, field.attname) == getattr(stored, field.attname), field.name


@pytest.mark.django_db
def test_a_cached_uci_is_checked_again(chatbot) -> None:
    submit(chatbot)
    factories.VariableFactory.create(chatbot=chatbot, name="account", was_uci=True, is_uci=False)

    Variable.objects.filter(name="member_id").update(name="member")
    assert refused(chatbot) == "unknown_uci_key"
    assert submit(chatbot, uci_key="member").variable.name == "member"


@pytest.mark.django_db
def test_another_variable_with_the_id_of_a_cached_one_is_not_confused_with_it(chatbot) -> None:
    known = submit(chatbot).variable
    ComplianceRequest.objects.all().delete()
    Variable.objects.filter(pk=known.pk).update(is_uci=False)
    Variable.objects.filter(pk=known.pk).delete()
    another = factories.VariableFactory.create(pk=known.pk, chatbot=chatbot)

    filed = submit(chatbot)

    assert factories.as_bytes(filed.uci_digest) == digest("chatter", another.public_id, "42")


@pytest.mark.django_db
def test_a_bucket_is_looked_for_each_time(chatbot) -> None:
    submit(chatbot, Kind.EXPORT)
    Bucket.objects.all().delete()
    assert refused(chatbot, kind=Kind.EXPORT) == "export_destination_missing"


@pytest.mark.django_db
def test_a_variable_of_another_chatbot_is_not_found(chatbot, neighbour) -> None:
    submit(neighbour)
    Variable.objects.filter(chatbot=chatbot).update(is_uci=False)
    assert refused(chatbot) == "uci_not_designated"


@pytest.mark.django_db
def test_no_query_is_needed_when_no_export_is_waiting(chatbot, django_assert_num_queries) -> None:
    filed = submit(chatbot, Kind.EXPORT)
    with django_assert_num_queries(0), pytest.raises(Export.DoesNotExist):
        _ = filed.export


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["data-deletion", "data-export"])
def test_a_call_takes_four_statements(path) -> None:
    """Whether the database was restored, the key, the request, and the check for a waiting task."""
    caller = SigningCaller(factories.ready_chatbot(slug="acme"))
    caller.post(path, ALICE)  # records the use of the key, caches the variable, enqueues a task
    with CaptureQueriesContext(connection) as queries:
        assert caller.post(path, ALICE | {"unique_chatter_identifier_value": "bob-12"}).status_code == 200
    assert [query["sql"].split()[0] for query in queries] == ["SELECT", "SELECT", "WITH", "SELECT"]
