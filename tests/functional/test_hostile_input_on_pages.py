"""The console answers any input, never with a server error, and shows every text as text."""

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import get_resolver, reverse

from chatbots.models import Chatbot, Variable
from compliance.models import ComplianceRequest
from config.env import BASE_DIR
from tests.document import dereferenced, operations
from tests.every_call import leaves
from tests.every_page import RECORDS, STAFF, TABLE, admin_page
from tests.functional.test_every_page_in_the_browser import busy, of_djangos, of_the_console
from tests.functional.test_who_may import something_of
from tests.payloads import PIECES, SCRIPT_ADDRESS, hits, payload, text_of
from tests.people import Role, client_of, member, staff
from tests.planted import COLUMNS, OF_THE_API, OURS, columns_of_text, make_rows, plant

pytestmark = pytest.mark.django_db

# Values that a page may misinterpret.
VALUES = (
    *("", " ", "0", "-1", "1", "²", "9" * 30, "9" * 5_000, "NaN", "1e400", "2026-02-30", "9999-12-31", "0001-01-01"),
    *("\0", "a\0b", "\ufffd\u202egnp", "%00", "a" * 100_000, "[]", "v1:k1:AAAA", "../..", "{}", "'\";--", "%(a)s"),
    "<script>alert(1)</script>",
    "00000000-0000-0000-0000-000000000000",
)
# Values with which a call passes the first check.
FITTING = (
    *("acme", "neighbour", "on", "delete", "export", "chatter", "ids", "numbers", "preview", "file", "edit"),
    *("outcomes", "member_id", "value", "name", "request", "conversation", "yes", "user", "client", "signing"),
    *("token", "custom", "officer", "failed", "on_hold", "overdue", "needs-you", "approve:other", "other", "end"),
    *("deletion", "days", "7"),
)
METHODS = ("GET", "POST", "POST", "POST", "HEAD", "PUT", "OPTIONS")
FILES = (b"", b"\xff", b"\0", b'"', b"member_id\n42\n", b"a,b\n1,2\n", b"\xef\xbb\xbf1\n2")

_PARAMETER = re.compile(r"<(?:(\w+):)?(\w+)>")


def names_of_parameters() -> tuple[list[str], list[str]]:
    """The parameter names that our views, forms and templates read."""
    sources = [
        path.read_text()
        for app in ("accounts", "console", "templates/accounts", "templates/console")
        for path in sorted((BASE_DIR / app).rglob("*.[ph][yt]*"))
        if path.suffix in {".py", ".html"}
    ]

    def found(pattern: str) -> set[str]:
        return {name for text in sources for name in re.findall(pattern, text, re.MULTILINE)}

    read, fields = (
        found(r'(?:GET|POST)\)?\.get(?:list)?\("(\w+)"'),
        found(r"^    (\w+)(?:: \w+)? = (?:forms\.|_\w+\()"),
    )
    assert {"chatbot", "cursor", "token", "selected", "event", "wanted"} <= read | fields
    everything = read | fields | found(r'\bname="(\w+)"') | {"_popup", "_to_field", "o", "p", "e", "q"}
    return sorted(everything), sorted(found(r'GET\)?\.get\("(\w+)"') | {"next"})


def address(path: str, random_: random.Random, known: Mapping[str, Any]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[2] in known and random_.random() < 0.8:
            return str(known[found[2]])
        anything = {"int": ["0", "9" * 30], "uuid": [VALUES[-1]], "slug": ["x", "-", "a" * 300]}
        return random_.choice(anything.get(found[1], ["1", "_00", "%00", "9" * 30, "add", "a/b"]))

    path = re.sub(r"\^?\(\?P<\w+>[^)]*\)/?\$", "auth/", path)
    return _PARAMETER.sub(value, path)


def given(random_: random.Random, names: list[str]) -> dict[str, Any]:
    chosen = random_.sample(names, random_.choice([0, 1, 2, 4, len(names) // 3, len(names)]))
    return {
        name: random_.choice([random_.choice(VALUES), random_.choice(FITTING), random_.sample(FITTING, 2)])
        for name in chosen
    }


def ask(client: Client, method: str, url: str, data: dict[str, Any], random_: random.Random) -> Any:
    if method == "POST":
        if random_.random() < 0.3:
            data = {**data, "file": SimpleUploadedFile("a.csv", random_.choice(FILES))}
        return client.post(url, data)
    if method in {"GET", "HEAD"}:
        return getattr(client, method.lower())(url, data)
    return client.generic(method, url, b"a=b", "application/x-www-form-urlencoded")


@pytest.mark.long(reason="thousands of calls of all pages")
def test_whatever_is_sent_to_the_console_is_answered(chatbot, neighbour, admin_user: User) -> None:
    random_, (names, singly) = random.Random(5813), names_of_parameters()
    known = something_of(chatbot)
    clients = [Client(), *(member(chatbot, role) for role in Role), member(neighbour), client_of(admin_user)]
    for path, _ in leaves(get_resolver(), "/"):
        is_ours = re.search(r"/auth/", path) is None
        if not path.startswith("/admin/") or "logout" in path:
            continue
        for client in clients if is_ours else clients[-1:]:
            method, url = random_.choice(METHODS), address(path, random_, known)
            data = given(random_, names)
            answer = ask(client, method, url, data, random_)
            assert answer.status_code < 500, (method, url, data)
        # Each name by itself, so that none of the others answers first.
        for name in singly if is_ours else ():
            url, value = address(path, random_, known), random_.choice(VALUES)
            assert clients[-1].get(url, {name: value}).status_code < 500, (url, name, value[:99])


@pytest.mark.long(reason="each page with each slug", beyond=2)
@pytest.mark.parametrize(
    "page", ["conversations", "lookup", "requests", "callbacks", "extracts", "exports", "changelog", ""]
)
def test_a_chatbot_with_an_impossible_slug_is_not_found(page, chatbot, admin_user: User) -> None:
    for client in (client_of(admin_user), member(chatbot, Role.OFFICER)):
        for slug in ("\0", "acme\0", "a" * 5_000, "Acme"):
            assert client.get(f"/admin/{page}/".replace("//", "/"), {"chatbot": slug}).status_code == 404


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
        yield reverse("console:settings_page", args=[self.neighbour.slug, "bucket"])
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
    assert filled | OURS == set(columns_of_text())
    assert not filled & OURS


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
    assert set(OF_THE_API.values()) <= {str(column) for column in COLUMNS} | OURS | {""}


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
@pytest.mark.parametrize("text", [payload(most=400, turn=0), f"{SCRIPT_ADDRESS}x"], ids=["pieces", "address"])
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
