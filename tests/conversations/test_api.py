"""Storing conversations over HTTP: a document, a list, or one a line; each is checked separately."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbots.models import Chatbot
from common.problems import Problem
from conversations.api.conversations import parse_documents, parse_lines
from conversations.documents import DocumentInvalid
from conversations.intake import MAX_DOCUMENTS, IntakeFailed
from conversations.models import Conversation, Identity, Message
from tests.calls import PROBLEM_MEMBERS, TokenCaller, pointers, problem
from tests.conversations import closing, documents
from tests.conversations.documents import message
from tests.conversations.intakes import STARTED, erase
from tests.patches import failing

CONVERSATIONS = "conversations"


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot, scopes=["conversations:write"])


def document(number: int = 1, **changes: Any) -> dict[str, Any]:
    said = {"custom_variables": {"member_id": "alice-77"}, "messages": [message("m1", text="hello")]}
    return documents.document(f"c-{number}", **said | changes)


def results(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    answer = response.json()
    assert answer.keys() == {"results"}
    for result in answer["results"]:
        assert result.keys() == {"id", "number", "outcome", "error"}
        assert result["error"] is None or result["error"].keys() == PROBLEM_MEMBERS
    return list(answer["results"])


def test_one_document_is_stored_and_changes_nothing_when_it_is_sent_again(caller):
    [result] = results(caller.post(CONVERSATIONS, document()))
    conversation = Conversation.objects.get()
    assert result == {"id": "c-1", "number": conversation.pk, "outcome": "created", "error": None}
    assert Identity.objects.get().value == "alice-77"
    assert Message.objects.get().text == "hello"
    assert results(caller.post(CONVERSATIONS, document())) == [result | {"outcome": "unchanged"}]


def test_a_list_is_answered_in_order_and_a_bad_document_affects_no_other(caller):
    bad = document(2, channel="carrier pigeon")
    answered = results(caller.post(CONVERSATIONS, [document(1), bad, document(3), 5]))
    assert [(result["id"], result["outcome"]) for result in answered] == [
        ("c-1", "created"),
        ("c-2", "refused"),
        ("c-3", "created"),
        (None, "refused"),
    ]
    error = answered[1]["error"]
    assert (error["status"], error["code"]) == (400, "invalid")
    assert [(one["pointer"], one["code"]) for one in error["errors"]] == [("/channel", "unknown_value")]
    assert answered[1]["number"] is None
    assert Conversation.objects.count() == 2


def test_200_also_when_all_are_refused_or_there_are_none(caller):
    answered = results(caller.post(CONVERSATIONS, [{}, {"id": "c-1"}]))
    assert [result["outcome"] for result in answered] == ["refused", "refused"]
    assert results(caller.post(CONVERSATIONS, [])) == []
    assert results_of(send(caller, b"")) == results_of(send(caller, b"\n\n")) == []
    assert not Conversation.objects.exists()


@pytest.mark.parametrize("close", [closing.mark, closing.erase])
def test_a_document_for_a_closed_conversation_is_refused_as_deleted(caller, close):
    [first] = results(caller.post(CONVERSATIONS, document()))
    close(Conversation.objects.get())
    before = Message.objects.count()
    for sent in (document(), {"id": "c-1", "language": "en"}):
        [result] = results(caller.post(CONVERSATIONS, sent))
        assert (result["number"], result["outcome"]) == (first["number"], "refused")
        assert (result["error"]["status"], result["error"]["code"]) == (410, "conversation_deleted")
    assert Message.objects.count() == before


def test_a_document_of_an_erased_chatter_is_refused_as_erased(caller, chatbot):
    erase(chatbot, "alice-77", cutoff_at=STARTED + timedelta(days=1))
    [result] = results(caller.post(CONVERSATIONS, document()))
    assert (result["error"]["status"], result["error"]["code"]) == (410, "chatter_erased")
    assert not Conversation.objects.exists()


def test_more_than_a_thousand_documents_are_too_many(caller):
    body = b"[" + b",".join([b"{}"] * (MAX_DOCUMENTS + 1)) + b"]"
    assert pointers(caller.post(CONVERSATIONS, body)) == {"": "too_long"}
    assert len(results(caller.post(CONVERSATIONS, [{}] * MAX_DOCUMENTS))) == MAX_DOCUMENTS


def test_a_body_that_is_no_json_object_or_list_is_refused(caller):
    for raw in (
        *(b"", b" ", b"{", b"[", b"[{}", b"[{},]", b"[,{}]", b"[{} {}]", b"[{}]]", b"{}{}", b"{},", b"5", b'"x"'),
        *(b"null", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a":' * 100_000, b"[" + b"9" * 5_000 + b"]"),
        b'{"id": "c-1"}\n{"id": "c-2"}',
    ):
        assert pointers(caller.post(CONVERSATIONS, raw)) == {}
    assert not Conversation.objects.exists()


def test_a_body_over_the_limit_is_too_large(caller, settings):
    settings.MAX_BODY_BYTES = 1_000
    problem(caller.post(CONVERSATIONS, document(user_name="x" * 1_000)), 413, "too_large")
    assert not Conversation.objects.exists()


def test_a_database_that_refuses_is_unavailable_for_now(caller, monkeypatch, caplog):
    monkeypatch.setattr("conversations.intake.store", failing(IntakeFailed("SQLSTATE 40P01")))
    response = caller.post(CONVERSATIONS, document())
    problem(response, 503, "unavailable")
    assert "Retry-After" in response.headers
    assert "SQLSTATE 40P01" in caplog.text


def test_nothing_of_a_document_is_logged(caller, caplog):
    caplog.set_level("DEBUG")
    caller.post(CONVERSATIONS, [document(), document(2, language="alice-77" * 10), document(1, channel="x")])
    assert "alice-77" not in caplog.text
    assert "hello" not in caplog.text


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(items=st.lists(values, max_size=6), indent=st.sampled_from([None, 0, 1]))
def test_a_list_is_cut_at_its_commas_whatever_it_holds(items, indent):
    parsed = parse_documents(json.dumps(items, indent=indent).encode())
    assert len(parsed) == len(items)
    assert all(isinstance(one, DocumentInvalid) for one in parsed)


@given(raw=st.binary(max_size=60) | st.text('[]{},: "a1\\\n', max_size=30).map(str.encode))
def test_a_body_is_cut_exactly_where_it_is_json(raw):
    try:
        data = json.loads(raw.decode("utf-8"))
        expected = len(data) if isinstance(data, list) else 1 if isinstance(data, dict) else None
    except ValueError:
        expected = None
    try:
        found = len(parse_documents(raw))
    except Problem:
        found = None
    assert found == expected


SECRET = "Lovelace"


def send(caller: TokenCaller, raw: bytes, content_type: str = "application/x-ndjson") -> Any:
    return caller.post("conversations", raw, Content_Type=content_type)


def results_of(response: Any) -> list[tuple[str | None, str, list[str]]]:
    assert response.status_code == 200
    assert SECRET not in response.content.decode()
    return [
        (one["id"], one["outcome"], [error["code"] for error in (one["error"] or {"errors": []})["errors"]])
        for one in response.json()["results"]
    ]


def line(number: int, **fields: Any) -> bytes:
    return json.dumps(documents.document(f"c-{number}", **fields)).encode()


def test_each_line_is_a_document_and_bad_ones_are_refused_by_themselves(caller):
    lines = [line(1), b'{"id": "Lovelace"', b"[]", line(2), b"\xff", line(3, channel="pigeon"), b"[" * 9_999, line(1)]
    assert results_of(send(caller, b"\n".join(lines))) == [
        ("c-1", "created", []),
        (None, "refused", ["not_json"]),
        (None, "refused", ["wrong_type"]),
        ("c-2", "created", []),
        (None, "refused", ["not_json"]),
        ("c-3", "refused", ["unknown_value"]),
        (None, "refused", ["not_json"]),
        ("c-1", "unchanged", []),
    ]
    assert Conversation.objects.count() == 2


@pytest.mark.parametrize(
    "raw",
    [
        line(1) + b"\n" + line(2),
        line(1) + b"\n" + line(2) + b"\n",
        line(1) + b"\r\n" + line(2) + b"\r\n",
        b"\n\r\n \t\n" + line(1) + b"\n\n" + line(2) + b"\n\n",
        b"\xef\xbb\xbf" + line(1) + b"\n  " + line(2) + b"  ",
    ],
    ids=["plain", "newline at the end", "CRLF", "empty lines", "BOM and spaces"],
)
def test_lines_may_end_as_files_have_them(caller, raw):
    assert results_of(send(caller, raw)) == [("c-1", "created", []), ("c-2", "created", [])]


def test_the_media_type_decides_how_a_body_is_read(caller):
    assert results_of(send(caller, line(1), "application/x-ndjson; charset=utf-8")) == [("c-1", "created", [])]
    assert pointers(send(caller, line(1) + b"\n" + line(2), "application/json")) == {}
    for content_type in ("application/x-ndjson; charset=latin-1", "application/jsonl", "text/plain", ""):
        problem(send(caller, line(1), content_type), 415, "unsupported_media_type")
    problem(
        caller.post("conversations", line(1), Content_Type="application/x-ndjson", Content_Encoding="gzip"),
        415,
        "unsupported_media_type",
    )


@pytest.mark.long(reason="more than a thousand lines")
def test_more_than_a_thousand_lines_or_too_many_bytes_are_refused_whole(caller, settings):
    assert pointers(send(caller, b"{}\n" * (MAX_DOCUMENTS + 1))) == {"": "too_long"}
    assert len(results_of(send(caller, b"\n{}\n" * MAX_DOCUMENTS))) == MAX_DOCUMENTS
    settings.MAX_BODY_BYTES = 100
    problem(send(caller, line(1)), 413, "too_large")
    assert not Conversation.objects.exists()


@given(st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=8))
def test_any_bytes_are_cut_at_newlines_alone(lines):
    try:
        documents = parse_lines(b"\n".join(lines))
    except Problem:
        pytest.fail("Only their number can be wrong of all lines together.")
    whole = [one for one in (lines[:1] and [lines[0].removeprefix(b"\xef\xbb\xbf")]) + lines[1:] if one.strip()]
    assert len(documents) == len(whole)
    assert all(isinstance(one, DocumentInvalid) for one in documents)


def test_empty_lines_by_the_million_cost_little() -> None:
    began = time.process_time()
    documents = parse_lines(b"{}" + b"\n" * 9_000_000 + b"{}")
    assert len(documents) == 2
    assert time.process_time() - began < 0.5
