"""Every text that anyone can set is shown as text, wherever a page shows it; and so is what was just sent.

The markup is looked at here; `test_hostile_texts_in_the_browser.py` opens the pages.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from chatbots.models import Chatbot, Variable
from compliance.models import ComplianceRequest
from tests.document import dereferenced, operations
from tests.every_page import RECORDS, STAFF, TABLE, admin_page
from tests.functional.test_console_fuzz import names_of_parameters
from tests.functional.test_every_page_in_the_browser import busy, of_djangos, of_the_console
from tests.functional.test_who_may import something_of
from tests.payloads import PIECES, SCRIPT_ADDRESS, hits, payload, text_of
from tests.people import Role, client_of, staff
from tests.planted import COLUMNS, OF_THE_API, OURS, columns_of_text, make_rows, plant

pytestmark = pytest.mark.django_db


class World:
    """Rows of each kind in two chatbots, and the addresses of all pages that show some of them."""

    def __init__(self, chatbot: Chatbot, neighbour: Chatbot) -> None:
        busy(chatbot)
        self.values = something_of(chatbot)
        self.person = staff(chatbot, Role.OFFICER)
        self.chatbot, self.neighbour = chatbot, neighbour
        make_rows(chatbot, neighbour, request=ComplianceRequest.objects.get(pk=self.values["request_id"]))

    def addresses(self) -> Iterator[str]:
        values = {**self.values, "person": self.person.pk}
        yield from of_the_console(values)
        yield from of_djangos(values)
        yield from (page.url(values) for page in TABLE if page.method == "GET" and page.named)
        yield reverse("console:settings", args=[self.neighbour.slug])
        # Of each state one: what a page shows depends on it.
        for status in ComplianceRequest.Status.values:
            found = ComplianceRequest.objects.filter(chatbot=self.chatbot, status=status).order_by("-pk").first()
            if found is not None:
                yield reverse("console:request", args=[found.pk])
        for model in (*RECORDS, *STAFF):
            row = model._default_manager.order_by("pk").first()
            if row is not None:
                yield from (admin_page(model, name, row.pk) for name in ("change", "history"))


@pytest.fixture
def world(chatbot: Chatbot, neighbour: Chatbot) -> World:
    return World(chatbot, neighbour)


def test_a_text_that_is_not_escaped_and_an_address_that_runs_would_be_found() -> None:
    for template in ("<p>{}</p>", '<p title="{}">', "<p title={}>", "<script>{}</script>", "<!-- {} -->"):
        assert all(hits(template.format(payload(most=600, turn=turn))) for turn in range(len(PIECES))), template
    assert hits(f'<a href="{SCRIPT_ADDRESS}">x</a>')
    assert not hits('<a href="/admin/" class="x">&lt;hit-me&gt; hit=1</a>')


def test_each_column_of_text_is_filled_or_nobody_elses() -> None:
    filled = {str(column) for column in COLUMNS}
    assert filled | OURS.keys() == set(columns_of_text())
    assert not filled & OURS.keys()


def texts_of_bodies() -> set[str]:
    """Return each text in a body of the API that is not of a closed list, as schema and field."""
    found: set[str] = set()
    for operation in operations():
        content = operation.document.get("requestBody", {}).get("content", {})
        for media_type in content.keys() - {"application/x-ndjson"}:
            _collect(content[media_type]["schema"], operation.document["operationId"], found, set())
    return found


def _collect(schema: dict[str, Any], name: str, found: set[str], seen: set[str]) -> None:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = {} if name in seen else dereferenced(schema)
        seen.add(name)
    is_closed = {"enum", "const"} & schema.keys() or schema.get("format") in {"date-time", "uuid", "binary"}
    if "string" in str(schema.get("type")) and not is_closed:
        found.add(name)
    for key in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(key, ()):
            _collect(each, name, found, seen)
    for field, each in schema.get("properties", {}).items():
        _collect(each, f"{name}.{field}", found, seen)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            _collect(schema[key], f"{name}[]", found, seen)


def test_each_text_of_the_api_ends_in_a_column_that_is_known() -> None:
    found = {text if text in OF_THE_API else text.partition(".")[2] for text in texts_of_bodies()}
    assert found == OF_THE_API.keys()
    assert set(OF_THE_API.values()) <= {str(column) for column in COLUMNS} | OURS.keys() | {""}


@pytest.mark.long(reason="every page, with each kind of text")
@pytest.mark.parametrize("turn", [0, -1])
def test_no_text_is_markup(world: World, admin_user: User, turn: int) -> None:
    plant(world.chatbot, turn=turn, person=world.person)
    client, seen = client_of(admin_user), set[str]()
    for address in set(world.addresses()):
        page = client.get(address, follow=True)
        assert page.status_code == 200, address
        assert hits(page.text) == [], address
        seen |= set(re.findall(r"q\d\dz", text_of(page.text)))
    # Nothing of this would be worth much if the pages had shown none of it.
    assert {str(column) for column in COLUMNS if column.code in seen} == {
        str(column) for column in COLUMNS if column.shown
    }


@pytest.mark.long(reason="every page and form is opened with each text")
@pytest.mark.parametrize(
    "text",
    [payload(most=400, turn=0), f"{SCRIPT_ADDRESS}x"],
    ids=["pieces", "address"],
)
def test_what_was_sent_is_shown_as_text(world: World, admin_user: User, text: str) -> None:
    """Each field of each form, and each parameter of an address, comes back escaped."""
    client, (names, _) = client_of(admin_user), names_of_parameters()
    sent, chosen = dict.fromkeys(names, text), {"chatbot": world.chatbot.slug}
    for page in TABLE:
        url = page.url(world.values)
        if page.method == "POST":
            answers = [client.post(url, {**sent, **chosen, **given}) for given in _steps(world, page.name)]
        else:
            answers = [client.get(url, {**sent, **chosen})]
        for answer in answers:
            assert answer.status_code < 500, url
            if not answer.streaming and answer.headers.get("Content-Type", "").startswith("text/html"):
                assert hits(answer.text) == [], url


def _steps(world: World, name: str) -> Iterator[Mapping[str, str]]:
    """Yield what leads a form past its first check."""
    yield {}
    if name in {"file_request", "file_many", "lookup"}:
        key = Variable.objects.get(chatbot=world.chatbot, is_uci=True).name
        right = {"key": key, "action": "delete", "reference": "", "what": "value", "subject": "", "file": ""}
        yield {**right, "step": "preview", "whom": "chatter"}
        yield {**right, "step": "preview", "whom": "ids"}
        yield {**right, "step": "edit"}


def test_no_text_of_some_pages_is_markup(world: World, admin_user: User) -> None:
    plant(world.chatbot, turn=0, person=world.person)
    client, pages = client_of(admin_user), sorted(set(world.addresses()))[::16]
    shown = "".join(client.get(address, follow=True).text for address in pages)
    assert re.search(r"q\d\dz", text_of(shown))
    assert hits(shown) == []


def test_an_address_that_leads_nowhere_is_shown_as_text(admin_user: User) -> None:
    client = client_of(admin_user)
    for one in (client, Client()):
        for address in (
            "/admin/%3Chit-me%3E/",
            "/admin/login/?next=%22%3E%3Chit-me%3E",
            "/%3Chit-me%3E",
            "/api/docs/%3Chit-me%3E",
        ):
            answer = one.get(address)
            assert answer.status_code < 500
            assert hits(answer.text) == [], address
