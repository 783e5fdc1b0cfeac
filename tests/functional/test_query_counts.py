"""Each page of the console makes as many queries with 10,000 rows of everything as with 10; in small, with 60."""

from collections.abc import Mapping
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import sessions
from chatbots.models import Membership
from tests.every_page import RECORDS, TABLE, Page, admin_page
from tests.functional.big_tables import Sizes, fill
from tests.functional.test_who_may import open_page, something_of
from tests.people import Role, client_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.one_postgresql(reason="one place for all chatbots")]

FEW, MORE, MANY = (Sizes(live=number, erased=number, requests=number, days=number) for number in (10, 60, 10_000))
# State of the service, session, user, memberships, chatbots, then what the page is about.
MOST = 17

PAGES = [page for page in TABLE if page.method == "GET"]


def queries_of(page: Page, client: Client, values: Mapping[str, Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        seen = open_page(page, client, values)
    assert seen.status in {200, 302}, page
    return len(captured)


def queries_of_admin(model: type[Model], client: Client) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(admin_page(model)).status_code == 200
    assert not any("COUNT(" in query["sql"].upper() for query in captured), model
    return len(captured)


@pytest.mark.long(reason="20,000 rows of everything are stored, and every page is opened", beyond=1)
@pytest.mark.parametrize("many", [MORE, MANY], ids=["60", "10000"])
def test_the_number_of_queries_does_not_grow_with_the_rows(
    chatbot, neighbour, storage, admin_user, monkeypatch, *, many
) -> None:
    # Else a page that is opened a minute later writes the time once more.
    monkeypatch.setattr(sessions, "_NOTED_EVERY", 86_400)
    officer = staff(chatbot, Role.OFFICER)
    Membership.objects.create(chatbot=neighbour, user=officer, role=Role.OFFICER)
    client = client_of(officer)
    pages = [page for page in PAGES if Role.OFFICER in page.roles]
    superuser = client_of(admin_user)
    for one in (client, superuser):
        one.get("/admin/")  # notes the time in the session

    counts = {}
    for sizes in (FEW, many):
        with transaction.atomic():
            fill([chatbot, neighbour], sizes)
            values = something_of(chatbot)
            counts[sizes] = {str(page): queries_of(page, client, values) for page in pages}
            counts[sizes] |= {str(model): queries_of_admin(model, superuser) for model in RECORDS}
            transaction.set_rollback(True)

    grown = {name: (few, counts[many][name]) for name, few in counts[FEW].items() if counts[many][name] > few}
    assert grown == {}
    assert max(counts[many].values()) <= MOST, counts[many]
