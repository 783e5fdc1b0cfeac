"""The change log over HTTP: pages of JSON Lines, filters, and no entry missed whatever commits late."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from chatbots import changelog
from chatbots.models import ChangeLogEntry, Chatbot
from common.db import execute
from compliance.models import Service
from tests.calls import TokenCaller, pointers
from tests.functional.elsewhere import Elsewhere, Gate, uncommitted

# What an open transaction has logged is not given to readers, not even to itself.
pytestmark = pytest.mark.django_db(transaction=True)

REQUEST = UUID("018f0000-0000-7000-8000-000000000000")


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot, scopes=["changelog:read"])


def note(chatbot: Chatbot, count: int = 1, event: str = "callback.tested", **further: Any) -> None:
    entry = changelog.entry(event, chatbot_id=chatbot.pk, actor="worker", **further)
    changelog.record_all([entry] * count)


def note_at(chatbot: Chatbot, *times: datetime) -> None:
    insert = "INSERT INTO chatbots_changelogentry (chatbot_id, event, actor, at, data) VALUES (%s, %s, %s, %s, '{}')"
    for at in times:
        execute(insert, [chatbot.pk, "callback.tested", "worker", at])


class Reader:
    """Follows the change log from page to page."""

    def __init__(self, caller: TokenCaller, query: str = "") -> None:
        self._caller = caller
        self.next = f"changelog{query}"

    def page(self) -> list[dict[str, Any]]:
        answer = self._caller.get(self.next)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
        [self.next] = re.findall(r'^<http://testserver(/[^>]+)>; rel="next"$', answer.headers["Link"])
        return [json.loads(line) for line in answer.text.splitlines()]

    def ids(self) -> list[int]:
        return [line["id"] for line in self.page()]


def ids_of(chatbot: Chatbot) -> list[int]:
    return list(ChangeLogEntry.objects.filter(chatbot=chatbot).order_by("id").values_list("id", flat=True))


def test_each_entry_is_a_line_on_one_page(caller, chatbot: Chatbot, neighbour: Chatbot) -> None:
    note(chatbot, 3)
    note(neighbour, 5)
    note(chatbot, 3)
    everything = ids_of(chatbot)
    reader = Reader(caller, "?limit=4")

    pages = [reader.ids() for _ in range((len(everything) - 1) // 4 + 1)]

    assert [number for page in pages for number in page] == everything
    # The last page leads to what is logged later, also if it was full or empty.
    assert reader.ids() == reader.ids() == []
    note(neighbour)
    note(chatbot, 4, request_id=REQUEST)
    added = reader.page()
    assert [line["id"] for line in added] == ids_of(chatbot)[-4:]
    assert reader.ids() == []
    entry = ChangeLogEntry.objects.get(pk=added[0].pop("id"))
    assert added[0] == {
        "at": entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "event": "callback.tested",
        "actor": "worker",
        "request_id": str(REQUEST),
        "data": {},
    }


def test_staff_are_numbers_without_names(caller, chatbot: Chatbot, admin_user) -> None:
    data = {"user": admin_user.pk, "role": "officer"}
    changelog.record("membership.set", chatbot_id=chatbot.pk, actor=f"user:{admin_user.pk}", data=data)

    [line] = Reader(caller, "?event=membership.set").page()

    assert (line["actor"], line["data"]) == (f"user:{admin_user.pk}", data)


def test_the_log_is_filtered(caller, chatbot: Chatbot) -> None:
    start = timezone.now() + timedelta(days=1)
    note_at(chatbot, *(start + timedelta(hours=hour) for hour in range(100)))
    note(chatbot, request_id=REQUEST)
    *timed, last = ids_of(chatbot)[-101:]

    def window(since: int, until: int) -> list[int]:
        edges = (f"{start + timedelta(hours=hour):%Y-%m-%dT%H:%M:%S.%fZ}" for hour in (since, until))
        return Reader(caller, "?since={}&until={}".format(*edges)).ids()

    assert window(40, 45) == timed[40:45]
    assert window(0, 1) == timed[:1]
    assert window(99, 200) == timed[99:]
    assert window(7, 7) == window(101, 200) == []
    assert Reader(caller, f"?request_id={REQUEST}").ids() == [last]
    assert Reader(caller, f"?request_id={uuid4()}").ids() == []
    assert Reader(caller, "?event=callback.tested&limit=1000").ids() == [*timed, last]
    for odd, code in (("event=no.such", "unknown_value"), ("since=2026-11-01", "invalid_time"), ("limit=1001", "")):
        assert pointers(caller.get(f"changelog?{odd}")) == {f"/{odd.partition('=')[0]}": code or "out_of_range"}


def test_an_entry_that_is_committed_late_is_not_missed(caller, chatbot: Chatbot, neighbour: Chatbot) -> None:
    gate = Gate()

    def logs_and_waits() -> None:
        with transaction.atomic():
            with transaction.atomic():
                note(chatbot)
            note(neighbour)
            gate.passed()
            note(chatbot)

    reader = Reader(caller)
    seen = reader.ids()
    late = Elsewhere(logs_and_waits)
    gate.wait_for_caller()
    # What was logged since comes after it, also on a page that begins now.
    note(chatbot, 2)
    early = reader.ids()
    assert early == []
    assert Reader(caller).ids() == seen
    gate.open()
    late.end()

    assert seen + reader.ids() == ids_of(chatbot)


def test_a_transaction_that_is_rolled_back_holds_nothing_up(caller, chatbot: Chatbot) -> None:
    reader = Reader(caller)
    before = reader.ids()

    def log_in_vain() -> None:
        for _ in range(2):
            with transaction.atomic():
                note(chatbot)
                transaction.set_rollback(True)

    with uncommitted(log_in_vain):
        note(chatbot)
        assert before + reader.ids() == ids_of(chatbot)


def test_a_cursor_that_is_not_its_own_is_refused(caller, chatbot: Chatbot, neighbour: Chatbot) -> None:
    note(neighbour, 2)
    theirs = Reader(TokenCaller(neighbour), "?limit=1")
    theirs.page()
    _, _, cursor = theirs.next.partition("cursor=")

    for wrong in (cursor.partition("&")[0], cursor.partition("&")[0][:-4], "x"):
        assert pointers(caller.get(f"changelog?cursor={wrong}")) == {"/cursor": "invalid"}


def test_a_cursor_does_not_fit_other_filters(caller, chatbot: Chatbot) -> None:
    """With them it would skip entries."""
    note(chatbot, 2)
    reader = Reader(caller, "?limit=1&event=callback.tested")
    reader.page()
    assert caller.get(reader.next).status_code == 200
    assert pointers(caller.get(reader.next.replace("&event=callback.tested", ""))) == {"/cursor": "invalid"}


def test_a_cursor_ends_with_the_life_of_its_database(caller, chatbot: Chatbot) -> None:
    note(chatbot, 2)
    reader = Reader(caller, "?limit=1")
    reader.page()
    Service.objects.update(incarnation=uuid4())

    assert pointers(caller.get(reader.next)) == {"/cursor": "invalid"}
