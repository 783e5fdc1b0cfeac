"""Storing conversations as JSON Lines: one document a line, each checked separately."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.problems import Problem
from conversations.api.conversations import parse_lines
from conversations.documents import DocumentInvalid
from conversations.intake import MAX_DOCUMENTS
from conversations.models import Conversation
from tests.calls import TokenCaller, pointers, problem
from tests.conversations.documents import document

SECRET = "Lovelace"


@pytest.fixture
def caller(chatbot):
    return TokenCaller(chatbot, scopes=["conversations:write"])


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
    return json.dumps(document(f"c-{number}", **fields)).encode()


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


def test_no_lines_have_no_results(caller):
    assert results_of(send(caller, b"")) == results_of(send(caller, b"\n\n")) == []


def test_the_media_type_decides_how_a_body_is_read(caller):
    assert results_of(send(caller, line(1), "application/x-ndjson; charset=utf-8")) == [("c-1", "created", [])]
    assert pointers(send(caller, line(1) + b"\n" + line(2), "application/json")) == {}
    problem(send(caller, line(1), "application/x-ndjson; charset=latin-1"), 415, "unsupported_media_type")
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
