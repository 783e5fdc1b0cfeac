"""A call whose statement takes too long is ended, and its thread is free for others."""

import pytest
from django.db import connection, transaction

from tests import factories
from tests.calls import TokenCaller
from tests.functional.web import web_server
from tests.people import member


@pytest.mark.django_db(transaction=True)
def test_a_call_that_waits_too_long_for_the_database_returns_retry_after():
    caller = TokenCaller(factories.ready_chatbot(slug="acme"))
    with web_server(WEB_STATEMENT_SECONDS="1") as server:
        client = server.connect()
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE compliance_compliancerequest IN ACCESS EXCLUSIVE MODE")
            client.request("GET", caller.url("requests"), headers=caller.credentials(b""))
            response = client.getresponse()
            body = response.read()
        assert (response.status, response.headers["Retry-After"]) == (503, "5"), body
        assert b'"code":"unavailable"' in body
        # The database connection works for the next call.
        client.request("GET", caller.url("requests"), headers=caller.credentials(b""))
        again = client.getresponse()
        again.read()
        client.close()
    assert again.status == 200


@pytest.mark.django_db(transaction=True)
def test_a_page_that_waits_too_long_for_the_database_explains_it():
    [cookie] = member(factories.ready_chatbot(slug="acme")).cookies.values()
    headers = {"Cookie": f"__Host-sessionid={cookie.value}"}
    with web_server(WEB_STATEMENT_SECONDS="1") as server:
        client = server.connect()
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE compliance_compliancerequest IN ACCESS EXCLUSIVE MODE")
            client.request("GET", "/admin/requests/", headers=headers)
            response = client.getresponse()
            body = response.read().decode()
        assert (response.status, response.headers["Retry-After"]) == (503, "5"), body
        assert "The database did not respond in time" in body
        assert "no-store" in response.headers["Cache-Control"]
        client.request("GET", "/admin/requests/", headers=headers)
        again = client.getresponse()
        again.read()
        client.close()
    assert again.status == 200
