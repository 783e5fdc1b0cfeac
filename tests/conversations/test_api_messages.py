"""The transcript and the files of a conversation over HTTP: closed after the mark, also by a concurrent one."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.request import urlopen

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import ChangeLogEntry, Chatbot
from conversations import messages, uploads
from conversations.models import Conversation, Message
from tests.calls import TokenCaller, pointers, problem, results_of
from tests.conversations.closing import PLANTED, erase, mark, planted, stored_file
from tests.factories import NOON, MessageFactory, conversation_of


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot, scopes=["conversations:read"])


def said(caller: TokenCaller, conversation: Conversation, query: str = "") -> list[str]:
    path = f"conversations/{conversation.pk}/messages{query}"
    return [one["id"] for results in results_of(caller, path) for one in results]


def test_messages_are_shown_in_order_with_their_files(chatbot: Chatbot, caller: TokenCaller) -> None:
    conversation = conversation_of(chatbot, "42", messages=0)
    late = MessageFactory.create(conversation=conversation, external_id="late", sent_at=NOON, text="\U0001f600")
    MessageFactory.create(
        conversation=conversation,
        external_id="early",
        sender="bot",
        kind="event",
        sent_at=NOON - timedelta(1),
        text="",
    )
    file = stored_file(conversation, message_id=late.pk)
    stored_file(conversation, message_id=late.pk, state="uploading", size=None, sha256=None)
    response = caller.get(f"conversations/{conversation.pk}/messages")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json() == {
        "results": [
            {
                "id": "early",
                "sender": "bot",
                "kind": "event",
                "text": "",
                "sent_at": "2026-10-31T12:00:00.000000Z",
                "files": [],
            },
            {
                "id": "late",
                "sender": "user",
                "kind": "text",
                "text": "\U0001f600",
                "sent_at": "2026-11-01T12:00:00.000000Z",
                "files": [
                    {
                        "file_id": file.pk,
                        "name": file.name,
                        "content_type": "image/jpeg",
                        "bytes": 7,
                        "sha256": "0" * 64,
                    }
                ],
            },
        ],
        "next": None,
        "previous": None,
    }


def test_pages_hold_each_message_once_also_of_one_instant(chatbot: Chatbot, caller: TokenCaller) -> None:
    conversation, other = (conversation_of(chatbot, "42", messages=0) for _ in range(2))
    MessageFactory.create_batch(3, conversation=other, sent_at=NOON)
    for n in range(9):
        MessageFactory.create(conversation=conversation, external_id=str(n), sent_at=NOON + timedelta(n // 6))
    for limit in (1, 4, 9, 1_000):
        assert said(caller, conversation, f"?limit={limit}") == [str(n) for n in range(9)]
    *_, last = results_of(caller, f"conversations/{conversation.pk}/messages?limit=4")
    assert [one["id"] for one in last] == ["8"]


def test_a_page_ends_early_where_messages_are_long(chatbot, caller, monkeypatch) -> None:
    conversation = conversation_of(chatbot, "42", messages=0)
    for n, size in enumerate((40, 40, 40, 900, 1, 1)):
        # Two bytes a character.
        MessageFactory.create(
            conversation=conversation, external_id=str(n), text="é" * size, sent_at=NOON + timedelta(seconds=n)
        )
    monkeypatch.setattr(messages.MessagePages, "most_bytes", 200)
    path = f"conversations/{conversation.pk}/messages"
    pages = [[one["id"] for one in page] for page in results_of(caller, path)]
    assert pages == [["0", "1"], ["2"], ["3"], ["4", "5"]]


def test_a_page_takes_as_many_queries_for_one_as_for_many(chatbot: Chatbot, caller: TokenCaller) -> None:
    conversation = planted(chatbot, messages=1)
    path = f"conversations/{conversation.pk}"
    calls = [f"{path}/messages", f"{path}/files"]

    def queries() -> list[int]:
        counts = []
        for call in calls:
            with CaptureQueriesContext(connection) as captured:
                assert caller.get(call).status_code == 200
            counts.append(len(captured))
        return counts

    caller.get(path)  # the first call of a minute records the key's use
    few = queries()
    for message in MessageFactory.create_batch(30, conversation=conversation):
        stored_file(conversation, message_id=message.pk)
    assert queries() == few
    assert max(few) <= 8


def test_files_are_listed_also_without_a_message(chatbot: Chatbot, caller: TokenCaller) -> None:
    conversation = planted(chatbot)
    alone = stored_file(conversation, name="alone.pdf", content_type="application/pdf")
    stored_file(conversation, state="uploading", size=None, sha256=None)
    path = f"conversations/{conversation.pk}/files"
    [[first, second]] = list(results_of(caller, path))
    assert first["message_id"] == Message.objects.filter(conversation=conversation).earliest("id").external_id
    assert second == {
        "file_id": alone.pk,
        "message_id": None,
        "name": "alone.pdf",
        "content_type": "application/pdf",
        "bytes": 7,
        "sha256": "0" * 64,
    }
    assert list(results_of(caller, f"{path}?limit=1")) == [[first], [second]]


def test_a_file_is_fetched_through_a_link_and_the_change_log_records_it(chatbot, caller, storage) -> None:
    conversation = conversation_of(chatbot, "42")
    file = uploads.receive(
        conversation=conversation, name=f"{PLANTED}.txt", content_type="text/plain", chunks=[b"content"]
    )
    response = caller.get(f"conversations/{conversation.pk}/files/{file.pk}/download")
    assert (response.status_code, response.headers["Cache-Control"]) == (302, "no-store")
    assert PLANTED not in response.headers["Location"]
    with urlopen(response.headers["Location"]) as answer:  # noqa: S310  of our own storage
        assert answer.read() == b"content"
    entry = ChangeLogEntry.objects.get(event="file.downloaded")
    assert entry.actor == f"api:{caller.api_key.prefix}"
    assert entry.data == {"file": file.pk, "conversation": conversation.pk}


def calls_of(conversation: Conversation) -> list[str]:
    path = f"conversations/{conversation.pk}"
    return [f"{path}/messages", f"{path}/files", f"{path}/files/{_file_of(conversation)}/download"]


def _file_of(conversation: Conversation) -> int:
    file = messages.stored_files(conversation).first()
    return file.pk if file else 1


@pytest.mark.parametrize("close", [mark, erase])
def test_no_call_returns_a_closed_conversation(chatbot, caller, close) -> None:
    conversation = planted(chatbot)
    calls = calls_of(conversation)
    close(conversation)
    for path in calls:
        response = caller.get(path)
        problem(response, 410, "conversation_deleted")
        assert PLANTED not in response.content.decode()
    assert not ChangeLogEntry.objects.filter(event="file.downloaded").exists()


@contextmanager
def marked_once_read(conversation: Conversation, table: str) -> Iterator[list[str]]:
    """Let a deletion mark the conversation right after the first statement that reads from the table."""
    done: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if f'FROM "{table}"' in sql and not done:
            done.append(sql)
            mark(conversation)
        return result

    with connection.execute_wrapper(watch):
        yield done


def test_a_mark_that_comes_while_it_is_read_closes_it(chatbot: Chatbot, caller: TokenCaller) -> None:
    tables = ("conversations_message", "conversations_uploadedfile", "conversations_uploadedfile")
    for number, table in enumerate(tables):
        conversation = planted(chatbot, number)
        path = calls_of(conversation)[number]
        with marked_once_read(conversation, table) as done:
            response = caller.get(path)
        assert done
        problem(response, 410, "conversation_deleted")
        assert PLANTED not in response.content.decode()


def test_a_mark_between_finding_and_reading_an_entry_of_the_log_hides_it(chatbot, caller) -> None:
    conversation = planted(chatbot)
    with marked_once_read(conversation, "conversations_conversation") as done:
        response = caller.get("conversations")
    assert done
    assert response.json()["results"][0]["deleted"]
    assert PLANTED not in response.content.decode()


def test_unknown_and_malformed_numbers_are_not_found(chatbot, neighbour, caller) -> None:
    theirs, ours, other = planted(neighbour), planted(chatbot, 1), planted(chatbot, 2)
    for path in calls_of(theirs):
        problem(caller.get(path), 404, "not_found")
        problem(caller.get(f"/api/v1/chatbots/{neighbour.slug}/{path}"), 404, "not_found")
    stranger = _file_of(other)
    for file in (stranger, 0, 10**19):
        problem(caller.get(f"conversations/{ours.pk}/files/{file}/download"), 404, "not_found")
    for path in ("messages", "files", "files/1/download"):
        problem(caller.get(f"conversations/{10**30}/{path}"), 404, "not_found")


def test_parameters_that_do_not_fit_are_refused(chatbot: Chatbot, caller: TokenCaller) -> None:
    first, second = (conversation_of(chatbot, "42") for _ in range(2))
    path = f"conversations/{first.pk}"
    assert pointers(caller.get(f"{path}/messages?limit=1001")) == {"/limit": "out_of_range"}
    assert pointers(caller.get(f"{path}/messages?sender=user")) == {"/sender": "unknown_field"}
    assert pointers(caller.get(f"{path}/files/1/download?a=b")) == {"/a": "unknown_field"}
    # A cursor of one conversation opens no other.
    link = caller.get(f"conversations/{first.pk}/messages?limit=1").json()["next"]
    other = link.removeprefix("http://testserver").replace(f"/{first.pk}/", f"/{second.pk}/")
    assert pointers(caller.get(other)) == {"/cursor": "invalid"}
