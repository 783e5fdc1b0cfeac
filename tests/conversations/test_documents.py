"""The conversation document: accepted and refused values, and errors that quote nothing."""

import json
from decimal import Decimal
from typing import Any

import pytest

from common.problems import MOST_ERRORS, FieldError
from conversations.documents import Document, DocumentInvalid, parse_document
from tests.conversations.documents import document, message

SECRET = "Xq7-secret-Lovelace"


def errors_of(sent: Any) -> list[tuple[str, str]]:
    return [(error.pointer, error.code) for error in refused(sent)]


def refused(sent: Any) -> tuple[FieldError, ...]:
    raw = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    with pytest.raises(DocumentInvalid) as caught:
        parse_document(raw)
    return caught.value.errors


def taken(**fields: Any) -> Document:
    return parse_document(json.dumps(document(**fields)).encode())


def test_it_takes_null_as_absent_and_asks_for_a_required_field_that_is_null() -> None:
    optional = ("channel", "language", "user_name", "started_at", "score", "csat", "messages", "push")
    assert parse_document(json.dumps({"id": "c-1"} | dict.fromkeys(optional)).encode())["id"] == "c-1"
    assert taken(custom_variables={"member_id": None}, csat={"score": None, "vote": None})
    assert errors_of({"id": None}) == [("/id", "missing")]
    assert errors_of({"id": "c-1", "messages": [message(text=None)]}) == [("/messages/0/text", "missing")]


def test_it_refuses() -> None:
    for fields, pointer, code in [
        ({"id": 7}, "/id", "wrong_type"),
        ({"id": ""}, "/id", "too_short"),
        ({"id": "x" * 201}, "/id", "too_long"),
        ({"channel": "fax"}, "/channel", "unknown_value"),
        ({"language": "x" * 36}, "/language", "too_long"),
        ({"user_name": "x" * 201}, "/user_name", "too_long"),
        ({"started_at": "2026-11-23T09:00:00"}, "/started_at", "time_zone_missing"),
        ({"started_at": "2026-11-23"}, "/started_at", "invalid_time"),
        ({"started_at": "1575215418"}, "/started_at", "invalid_time"),
        ({"started_at": 1575215418}, "/started_at", "wrong_type"),
        ({"started_at": "2026-02-30T09:00:00Z"}, "/started_at", "invalid_time"),
        ({"started_at": "2026-11-23T09:00:00+16:00"}, "/started_at", "invalid_time"),
        ({"started_at": "2026-11-23T09:00:00-23:59"}, "/started_at", "invalid_time"),
        ({"started_at": "0001-01-01T00:00:00+14:00"}, "/started_at", "out_of_range"),
        ({"started_at": "9999-12-31T23:59:59-14:00"}, "/started_at", "out_of_range"),
        ({"agent_handover": 1}, "/agent_handover", "wrong_type"),
        ({"push": "true"}, "/push", "wrong_type"),
        ({"score": "7.5"}, "/score", "wrong_type"),
        ({"score": True}, "/score", "wrong_type"),
        ({"score": 0.9}, "/score", "out_of_range"),
        ({"score": 10.1}, "/score", "out_of_range"),
        ({"score": float("nan")}, "/score", "out_of_range"),
        ({"score": 10**400}, "/score", "out_of_range"),
        ({"score": 7.55}, "/score", "too_precise"),
        ({"csat": {"score": 4.0}}, "/csat/score", "wrong_type"),
        ({"csat": {"score": 11}}, "/csat/score", "out_of_range"),
        ({"csat": {"score": -1}}, "/csat/score", "out_of_range"),
        ({"csat": {"vote": "fine"}}, "/csat/vote", "unknown_value"),
        ({"csat": {"comment": "x" * 100_001}}, "/csat/comment", "too_long"),
        ({"csat": {"stars": 5}}, "/csat/stars", "unknown_field"),
        ({"csat": []}, "/csat", "wrong_type"),
        ({"custom_variables": {"member_id": 42}}, "/custom_variables/member_id", "wrong_type"),
        ({"custom_variables": {"member_id": "x" * 10_001}}, "/custom_variables/member_id", "too_long"),
        ({"custom_variables": {f"v{n}": "" for n in range(1001)}}, "/custom_variables", "too_long"),
        ({"user_channel_variables": "gold"}, "/user_channel_variables", "wrong_type"),
        ({"colour": "red"}, "/colour", "unknown_field"),
        ({"messages": {}}, "/messages", "wrong_type"),
        ({"messages": [None]}, "/messages/0", "wrong_type"),
        ({"messages": [message(id="x" * 201)]}, "/messages/0/id", "too_long"),
        ({"messages": [message(sender="system")]}, "/messages/0/sender", "unknown_value"),
        ({"messages": [message(kind="image")]}, "/messages/0/kind", "unknown_value"),
        ({"messages": [message(text="x" * 100_001)]}, "/messages/0/text", "too_long"),
        ({"messages": [message(text="a\0b")]}, "/messages/0/text", "nul_character"),
        ({"messages": [message(colour="red")]}, "/messages/0/colour", "unknown_field"),
        ({"messages": [message("m1"), message("m1")]}, "/messages/1/id", "repeated_id"),
        ({"user_name": "a\0b"}, "/user_name", "nul_character"),
        ({"custom_variables": {"plan": "\0"}}, "/custom_variables/plan", "nul_character"),
    ]:
        assert (pointer, code) in errors_of(document(**fields))


def test_it_refuses_what_is_no_json() -> None:
    for raw in [
        b"",
        b"{",
        b"nonsense",
        b'{"id": "a"} {"id": "b"}',
        b'\xef\xbb\xbf{"id": "a"}',
        b'{"id": "\xff"}',
        rb'{"id": "\ud800"}',
        b'{"id": "\xed\xa0\x80"}',
        b'{"id": "\x00"}',
        b'{"id": ' + b"1" * 5000 + b"}",
        b'{"a":' * 100_000,
        b"[" * 100_000,
    ]:
        assert errors_of(raw) == [("", "not_json")]


def test_it_refuses_json_that_is_no_object() -> None:
    for raw in [b"null", b"[]", b"1", b'"text"']:
        assert errors_of(raw) == [("", "wrong_type")]


def test_it_takes_a_text_that_only_looks_like_an_escaped_nul() -> None:
    assert taken(user_name=r"C:\u0000")["user_name"] == r"C:\u0000"


def test_it_takes_scores_of_one_decimal() -> None:
    for score in [1, 1.0, 7.1, 9.9, 10]:
        assert taken(score=score)["score"] == Decimal(str(score))


def test_it_returns_all_errors_at_once_with_the_id_if_it_can_be_read() -> None:
    sent = document(channel="fax", score=11, colour=1)
    sent["messages"] = [message("m1", text="\0"), message("m1", kind="image")]

    with pytest.raises(DocumentInvalid) as caught:
        parse_document(json.dumps(sent).encode())

    assert caught.value.document_id == "c-1"
    assert {(error.pointer, error.code) for error in caught.value.errors} == {
        ("/channel", "unknown_value"),
        ("/score", "out_of_range"),
        ("/colour", "unknown_field"),
        ("/messages/0/text", "nul_character"),
        ("/messages/1/kind", "unknown_value"),
        ("/messages/1/id", "repeated_id"),
    }


@pytest.mark.parametrize("count", [MOST_ERRORS + 1, 50_000])
def test_it_lists_a_bounded_number_of_errors(count: int) -> None:
    errors = errors_of({"id": "c-1"} | {f"f{number}": 1 for number in range(count)})

    assert len(errors) <= MOST_ERRORS
    assert errors[-1] == ("", "too_many_errors")


def test_it_shows_no_name_of_a_field_that_looks_like_a_person() -> None:
    sent = {"id": "c-1", "custom_variables": {"ada@example.com": 1, "0612345678": 1, "Ada Lovelace": 1}}

    assert errors_of(sent) == [("/custom_variables", "wrong_type")] * 3


def test_it_leaves_no_trace_of_the_document_in_the_exception() -> None:
    with pytest.raises(DocumentInvalid) as caught:
        parse_document(json.dumps({"id": "c-1", "score": SECRET}).encode())

    assert caught.value.__context__ is None
    assert SECRET not in str(caught.value)
