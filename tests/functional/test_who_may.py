"""Who may open which page of the console, and what others learn of it: nothing.

Every page is opened, as the resolver has them; the table is in `tests/every_page.py`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.test import Client

from chatbots.models import Chatbot
from conversations.models import DailyExtract
from tests.every_page import ANYTHING, OF_ONESELF, TABLE, Page, patterns
from tests.factories import ApiKeyFactory, CallbackFactory, UploadedFileFactory, conversation_of, export_of
from tests.people import Role, client_of, member

pytestmark = pytest.mark.django_db

PAGES = pytest.mark.parametrize("page", TABLE, ids=str)
PAGES_OF_A_ROW = pytest.mark.parametrize("page", [one for one in TABLE if one.named or one.parameters], ids=str)


class Seen(NamedTuple):
    """All that somebody can see of an answer."""

    status: int
    headers: dict[str, str]
    body: str


@pytest.fixture
def theirs(chatbot: Chatbot) -> dict[str, Any]:
    return something_of(chatbot)


def something_of(chatbot: Chatbot) -> dict[str, Any]:
    """Something of the chatbot for each parameter that a path can have."""
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    DailyExtract.objects.create(
        chatbot=chatbot, day=midnight.date(), starts_at=midnight, ends_at=midnight + timedelta(days=1)
    )
    request, conversation = export_of(chatbot, "42"), conversation_of(chatbot, "42")
    CallbackFactory.create(request=request)
    file = UploadedFileFactory.create(conversation=conversation, state="stored", size=1, sha256="0" * 64)
    return {
        "slug": chatbot.slug,
        "request_id": request.pk,
        "number": conversation.pk,
        "file_id": file.pk,
        "prefix": ApiKeyFactory.create(chatbot=chatbot).prefix,
    }


def open_page(page: Page, client: Client, values: Mapping[str, Any]) -> Seen:
    answer = client.generic(
        page.method,
        page.url(values),
        "&".join(f"{name}={value}" for name, value in page.body.items()),
        "application/x-www-form-urlencoded",
        headers={"X-Request-ID": "the-same-for-all"},
    )
    headers = {name: value for name, value in answer.items() if name not in {"Expires", "Last-Modified"}}
    body = b"" if answer.streaming else answer.content
    return Seen(answer.status_code, headers, re.sub(r'value="[A-Za-z0-9]{64}"', "", body.decode()))


def test_the_table_has_every_page_and_no_other() -> None:
    assert {page.name for page in TABLE} | OF_ONESELF == {name for name, _ in patterns()}


@PAGES
def test_each_role_may_what_the_table_says(page, theirs, chatbot, admin_user: User) -> None:
    clients = {role: member(chatbot, role) for role in Role} | {None: client_of(admin_user)}
    statuses = {role: open_page(page, client, theirs).status for role, client in clients.items()}

    refused = {role for role, status in statuses.items() if status == 403}
    assert refused == {role for role in Role if role not in page.roles}
    assert not any(status in {404, 405} or status >= 500 for status in statuses.values()), statuses


@PAGES_OF_A_ROW
def test_what_is_somebody_else_s_is_as_what_never_was(page, theirs, neighbour) -> None:
    for role in Role:
        client = member(neighbour, role)
        open_page(page, client, {})

        there, nowhere = open_page(page, client, theirs), open_page(page, client, {})

        assert there == nowhere
        # Whoever has the role nowhere is refused before anything is looked for.
        assert there.status == 404 or (there.status == 403 and role not in page.roles)
        assert str(theirs["request_id"]) not in there.body


@pytest.mark.parametrize("page", [one for one in TABLE if len(one.parameters) > 1], ids=str)
def test_what_belongs_to_another_row_of_the_address_is_not_there(page, theirs, neighbour, admin_user: User) -> None:
    client, ours = client_of(admin_user), something_of(neighbour)

    def seen(name: str, value: Any) -> Seen:
        answer = open_page(page, client, ours | {name: value})
        return answer._replace(body=answer.body.replace(str(value), "?"))

    for name in page.parameters:
        if name != "slug":
            seen(name, ANYTHING[name])
            there = seen(name, theirs[name])
            assert there == seen(name, ANYTHING[name])
            assert there.status in {200, 404}, "It was done, or nothing was looked for."


@PAGES
def test_without_a_chatbot_or_the_flags_nobody_is_let_in(page, theirs, chatbot) -> None:
    nobody = client_of(User.objects.create_user("nobody", is_staff=True))
    assert open_page(page, nobody, theirs).status == 403
    former = {flag: User.objects.create_superuser(flag) for flag in ("is_active", "is_staff")}
    clients = [Client(), *(client_of(user) for user in former.values())]
    for flag, user in former.items():
        User.objects.filter(pk=user.pk).update(**{flag: False})
    for client in clients:
        answer = open_page(page, client, theirs)
        assert (answer.status, answer.headers["Location"].startswith("/admin/login/")) == (302, True)


@pytest.mark.parametrize("name", sorted(OF_ONESELF))
def test_a_page_about_oneself_is_there_for_staff_alone(name, admin_user: User) -> None:
    page = Page(name, ())
    assert open_page(page, Client(), {}).headers["Location"].startswith("/admin/login/")
    assert open_page(page, client_of(admin_user), {}).status in {200, 302}
    assert open_page(page, client_of(User.objects.create_user("nobody")), {}).status == 302
