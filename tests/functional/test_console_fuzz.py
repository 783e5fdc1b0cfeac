"""The console answers any input, and never with a server error.

Every page of the resolver is called, Django's own too, with the parameter names that the code reads.
"""

import random
import re
from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import get_resolver

from config.env import BASE_DIR
from tests.every_call import leaves
from tests.functional.test_who_may import something_of
from tests.people import Role, client_of, member

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
    *(
        "acme",
        "neighbour",
        "on",
        "delete",
        "export",
        "chatter",
        "ids",
        "numbers",
        "preview",
        "file",
        "edit",
        "outcomes",
    ),
    *("member_id", "value", "name", "request", "conversation", "yes", "user", "client", "signing", "token", "custom"),
    *(
        "officer",
        "failed",
        "on_hold",
        "overdue",
        "needs-you",
        "approve:other",
        "other",
        "end",
        "deletion",
        "days",
        "7",
    ),
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
    assert {"chatbot", "cursor", "token", "selected", "event", "wanted"} <= read
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
