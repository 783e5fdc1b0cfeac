"""Access to the pages of the console: users without it learn nothing.

Every page of the resolver is opened; the table is in `tests/every_page.py`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, NamedTuple

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from chatbots.models import Chatbot
from compliance.models import ExportFile
from conversations.models import DailyExtract, RefusedIdentity
from tests.every_page import (
    ANYTHING,
    OF_ANYONE,
    OF_ONESELF,
    OF_STAFF,
    RECORDS,
    STAFF,
    TABLE,
    Page,
    admin_page,
    patterns,
)
from tests.factories import (
    ApiKeyFactory,
    BucketCredentialFactory,
    CallbackFactory,
    ExportFactory,
    UploadedFileFactory,
    conversation_of,
    export_of,
)
from tests.holding import place
from tests.people import Role, client_of, member

pytestmark = pytest.mark.django_db


class Seen(NamedTuple):
    """Everything a user can see of a response."""

    status: int
    headers: dict[str, str]
    body: str


@pytest.fixture
def theirs(chatbot: Chatbot) -> dict[str, Any]:
    return something_of(chatbot)


def something_of(chatbot: Chatbot) -> dict[str, Any]:
    """A row of the chatbot for each path parameter."""
    midnight = datetime(1990, 1, 1, tzinfo=UTC)
    extract = DailyExtract.objects.create(
        chatbot=chatbot, day=midnight.date(), starts_at=midnight, ends_at=midnight + timedelta(days=1)
    )
    request, conversation = export_of(chatbot, "42"), conversation_of(chatbot, "42")
    callback = CallbackFactory.create(request=request)
    file = UploadedFileFactory.create(conversation=conversation, state="stored", size=1, sha256="0" * 64)
    made = {"rows": 1, "bytes": 1, "sha256": "0" * 64, "finished_at": midnight}
    expires_at = datetime.now(UTC) + timedelta(days=1)
    export = ExportFactory.create(request=request, key=f"{chatbot.slug}/export.csv", expires_at=expires_at, **made)
    ExportFile.objects.create(
        chatbot=chatbot, export=export, file_id=file.pk, key=f"{chatbot.slug}/export_files/{file.pk}"
    )
    RefusedIdentity.objects.create(
        chatbot=chatbot, conversation=conversation, request_id=request.pk, way="asserted", expires_at=expires_at
    )
    hold, _ = place(chatbot, "a chatter of whom nothing is stored")
    return {
        "slug": chatbot.slug,
        "hold_id": hold.pk,
        "request_id": request.pk,
        "number": conversation.pk,
        "file_id": file.pk,
        "file": file.pk,
        "extract": extract.pk,
        "message": conversation.message_set.earliest("pk").pk,
        "callback": callback.pk,
        "prefix": ApiKeyFactory.create(chatbot=chatbot).prefix,
        "credential": BucketCredentialFactory.create(chatbot=chatbot).pk,
    }


def open_page(page: Page, client: Client, values: Mapping[str, Any]) -> Seen:
    answer = client.generic(
        page.method,
        page.url(values),
        page.sent(values),
        "application/x-www-form-urlencoded",
        headers={"X-Request-ID": "the-same-for-all"},
    )
    headers = {
        name: value for name, value in answer.items() if name not in {"Expires", "Last-Modified", "X-Trace-ID"}
    }
    body = b"" if answer.streaming else answer.content
    return Seen(answer.status_code, headers, re.sub(r'value="[A-Za-z0-9]{64}"', "", body.decode()))


def test_the_table_has_every_page_and_no_other() -> None:
    assert {page.name for page in TABLE} | OF_ONESELF | OF_STAFF | OF_ANYONE == {name for name, _ in patterns()}


def test_djangos_lists_are_for_superusers_alone(theirs, clients) -> None:
    assert {*RECORDS, *STAFF} == set(admin.site._registry)
    for model in (*RECORDS, *STAFF):
        row = model._default_manager.first()
        pages = [admin_page(model)] + ([admin_page(model, "change", row.pk)] if row else [])
        for page in pages:
            statuses = {role: client.get(page).status_code for role, client in clients.items()}
            assert statuses == dict.fromkeys(Role, 403) | {None: 200}, page


def check_roles(page: Page, clients: Mapping[Role | None, Client], values: Mapping[str, Any]) -> None:
    statuses = {role: open_page(page, client, values).status for role, client in clients.items()}
    refused = {role for role, status in statuses.items() if status == 403}
    assert refused == {role for role in Role if role not in page.roles}, page
    assert not any(status in {404, 405} or status >= 500 for status in statuses.values()), (page, statuses)


@pytest.fixture
def clients(chatbot: Chatbot, admin_user: User) -> dict[Role | None, Client]:
    """A client of each role in the chatbot; of a superuser under None."""
    return {role: member(chatbot, role) for role in Role} | {None: client_of(admin_user)}


@pytest.mark.long(reason="every page by each role; a third of them is opened always", beyond=1)
@pytest.mark.parametrize("first", range(3))
def test_each_role_sees_what_the_table_says(theirs, clients, first: int) -> None:
    for page in [page for page in TABLE if page.method == "GET"][first::3]:
        check_roles(page, clients, theirs)


@pytest.mark.long(reason="each row of the table by each role", beyond=5)
@pytest.mark.parametrize("page", [page for page in TABLE if page.method == "POST"], ids=str)
def test_each_role_does_what_the_table_says(page, theirs, clients) -> None:
    check_roles(page, clients, theirs)
    assert not LogEntry.objects.exists()


# Refused calls change nothing, so one set of rows serves all pages of a test.


@pytest.mark.long(reason="every page twice by each role; a quarter of them always by one", beyond=1)
@pytest.mark.parametrize(("role", "first"), list(product([Role.OFFICER, Role.VIEWER], range(4))))
def test_rows_of_others_look_nonexistent(theirs, neighbour, role: Role, first: int) -> None:
    pages = [page for page in TABLE if page.rows][first::4]
    client = member(neighbour, role)
    open_page(pages[0], client, {})
    for page in pages:
        there, nowhere = open_page(page, client, theirs), open_page(page, client, {})

        assert there == nowhere, page
        # A user without the role in any chatbot is refused before the lookup.
        assert there.status == 404 or (there.status == 403 and role not in page.roles), page
        assert str(theirs["request_id"]) not in there.body, page


@pytest.mark.long(reason="every page of two rows, each three times; a quarter of them always", beyond=1)
@pytest.mark.parametrize("first", range(4))
def test_a_row_of_another_parent_in_the_path_is_not_found(theirs, neighbour, admin_user: User, first: int) -> None:
    client, ours = client_of(admin_user), something_of(neighbour)

    def seen(page: Page, name: str, value: Any) -> Seen:
        answer = open_page(page, client, ours | {name: value})
        # A form shown again contains the key's prefix in its ids.
        return answer._replace(body=answer.body.replace(value, "?")) if name == "prefix" else answer

    for page in [page for page in TABLE if len(page.rows) > 1][first::4]:
        for name in page.rows:
            if name != "slug":
                seen(page, name, ANYTHING[name])
                there = seen(page, name, theirs[name])
                assert there == seen(page, name, ANYTHING[name]), page
                assert there.status in {200, 404}, f"{page}: it was done, or nothing was looked for."


@pytest.mark.long(reason="every page three times; a quarter of them always", beyond=1)
@pytest.mark.parametrize("first", range(4))
def test_users_without_a_chatbot_or_the_flags_are_refused(theirs, chatbot, first: int) -> None:
    without_role = client_of(User.objects.create_user("nobody", is_staff=True))
    for page in TABLE[first::4]:
        assert open_page(page, without_role, theirs).status == 403, page
    former = User.objects.create_superuser("former")
    for page in TABLE[first::4]:
        User.objects.update(is_staff=True)
        clients = (Client(), client_of(former))
        User.objects.filter(pk=former.pk).update(is_staff=False)
        for client in clients:
            answer = open_page(page, client, theirs)
            leads_out = answer.headers.get("Location", "").startswith("/admin/login/")
            # A polling script gets no redirect to a page.
            assert (answer.status, leads_out) in {(302, True), (401, False)}, page


def test_pages_for_anyone_show_everybody_the_same(admin_user: User) -> None:
    for name in OF_ANYONE:
        seen = [open_page(Page(name, ()), client, {}) for client in (Client(), client_of(admin_user))]
        assert seen[0].status == 200
        assert seen[0].body == seen[1].body


@pytest.mark.parametrize("name", sorted(OF_ONESELF))
def test_pages_about_the_own_account_are_for_staff_only(name, admin_user: User) -> None:
    page = Page(name, ())
    assert open_page(page, Client(), {}).headers["Location"].startswith("/admin/login/")
    assert open_page(page, client_of(admin_user), {}).status in {200, 302}
    assert open_page(page, client_of(User.objects.create_user("nobody")), {}).status == 302
