"""Bodies are read once, bounded, and byte for byte; JSON that could be read in two ways is refused."""

import io
import json

import pytest
from django.test import RequestFactory

from chatbots.models import ChangeLogEntry
from common.bodies import parse_json, raw_body
from common.problems import Problem
from compliance.models import ComplianceRequest, Replay
from conversations.api.conversations import parse_documents
from conversations.models import Conversation
from tests.calls import ALICE, SigningCaller, TokenCaller, problem
from tests.every_call import every_call

DELETION = "data-deletion"


class Chunked(io.BytesIO):
    """A body without Content-Length, as a server gives it; records how much was read."""

    asked = 0

    def read(self, size: int | None = -1) -> bytes:
        self.asked += size or 0
        return super().read(size)


def chunked_request(stream: object):
    request = RequestFactory().post("/api/", content_type="application/json")
    request.META.update({"CONTENT_LENGTH": "", "wsgi.input": stream, "wsgi.input_terminated": True})
    del request.META["CONTENT_LENGTH"]
    return request


def code_of(call) -> str:
    with pytest.raises(Problem) as caught:
        call()
    return caught.value.code


def test_a_body_is_read_byte_for_byte_and_again():
    request = RequestFactory().post("/api/", b'{"a":\t1}\n', content_type="application/json")
    assert raw_body(request, most=100) == raw_body(request, most=100) == b'{"a":\t1}\n'


def test_a_body_in_chunks_is_read_like_any_other():
    request = chunked_request(Chunked(b'{"a": 1}'))
    assert raw_body(request, most=100) == raw_body(request, most=100) == request.body == b'{"a": 1}'


def test_a_body_in_chunks_may_have_the_limit_and_is_read_no_further():
    assert len(raw_body(chunked_request(Chunked(b"x" * 100)), most=100)) == 100
    stream = Chunked(b"x" * 10_000)
    assert code_of(lambda: raw_body(chunked_request(stream), most=100)) == "too_large"
    assert stream.tell() == stream.asked == 101


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_broken_chunks_are_a_client_error(error):
    class Broken:
        def read(self, _size: int) -> bytes:
            raise error

    assert code_of(lambda: raw_body(chunked_request(Broken()), most=100)) == "invalid"


def test_a_closed_connection_is_a_client_error():
    class HungUp(io.BytesIO):
        def read(self, *_size: int | None) -> bytes:
            raise OSError

    request = RequestFactory().post("/api/", b"{}", content_type="application/json", **{"wsgi.input": HungUp()})
    assert code_of(lambda: raw_body(request, most=100)) == "invalid"


@pytest.mark.parametrize(
    ("length", "code"),
    [
        *((beyond_measure, "too_large") for beyond_measure in ("9" * 5_000, str(10**12))),
        *((malformed, "invalid") for malformed in ("abc", "-1", "1e3", "²")),
    ],
)
def test_an_odd_length_is_a_client_error(length, code):
    request = RequestFactory().post("/api/", b"{}", content_type="application/json")
    request.META["CONTENT_LENGTH"] = length
    assert code_of(lambda: raw_body(request, most=100)) == code


@pytest.mark.parametrize("caller_type", [TokenCaller, SigningCaller])
def test_a_call_in_chunks_is_accepted(chatbot, caller_type):
    caller, raw = caller_type(chatbot), json.dumps(ALICE).encode()
    server = {"wsgi.input": Chunked(raw), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    response = caller.client.generic(
        "POST", caller.url(DELETION), raw, "application/json", headers=caller.credentials(raw), **server
    )
    assert response.status_code == 200


@pytest.mark.parametrize("caller_type", [TokenCaller, SigningCaller])
def test_a_body_over_the_limit_is_too_large(chatbot, settings, caller_type):
    caller, limit = caller_type(chatbot), 1_000
    settings.MAX_BODY_BYTES = limit
    problem(caller.post(DELETION, b" " * (limit + 1)), 413, "too_large")
    problem(caller.post(DELETION, b" " * limit), 400, "invalid")
    assert not ComplianceRequest.objects.exists()


def test_json_is_recognised_however_it_is_spelt_and_no_other_body_taken(chatbot):
    caller, signer = TokenCaller(chatbot), SigningCaller(chatbot)
    for content_type in (
        *("", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
        *("application/problem+json", "application/json; charset=utf-16", "application/json, text/plain"),
    ):
        for one in (caller, signer):
            problem(one.post(DELETION, ALICE, Content_Type=content_type), 415, "unsupported_media_type")
    problem(caller.post(DELETION, ALICE, Content_Encoding="gzip"), 415, "unsupported_media_type")
    assert not ComplianceRequest.objects.exists()
    for content_type in ("APPLICATION/JSON", 'application/json; charset="UTF-8"', "application/json;"):
        assert caller.post(DELETION, ALICE, Content_Type=content_type).status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"a": 1,}',
        b'{"a": 1} {"a": 1}',
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"b": {"a": 1, "\\u0061": 2}}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\x00"}',
        b'{"a": ' + b"1" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 5_000 + b"]" * 5_000,
        b"[" * 33 + b"]" * 33,
        b'{"a": 1e999999}',
        b'{"a": -1e999999}',
        b'{"a": ' + b"1" * 10**6 + b"}",
    ],
    ids=range(23),
)
def test_json_that_is_broken_or_could_be_read_in_two_ways_is_refused(raw):
    assert code_of(lambda: parse_json(raw)) == "invalid"


@pytest.mark.parametrize("raw", [b"[" * 32 + b"]" * 32, b'{"a": 1e308, "b": "' + b"[" * 100 + b'"}'])
def test_json_up_to_the_limits_is_read(raw):
    assert parse_json(raw) == json.loads(raw)


def test_deeply_nested_json_never_reaches_a_parser(monkeypatch):
    parsed: list[object] = []
    monkeypatch.setattr("common.bodies.json.loads", lambda *args, **kwargs: parsed.append(args))
    monkeypatch.setattr("conversations.api.conversations._SCANNER.raw_decode", lambda *args: parsed.append(args))
    deep = b'[{"a":' * 17
    assert code_of(lambda: parse_json(deep)) == code_of(lambda: parse_documents(deep)) == "invalid"
    assert not parsed


HOSTILE = [
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000,
    b'[{"id": "x", "messages": ' + b"[" * 33 + b"]" * 33 + b"}]",
    b"[" * 10 * 1024 * 1024,
    b'"' + b'\\"' * (5 * 1024 * 1024 - 2),
    b'["[",' * 2_000_000,
    b'{"id": 1e999999, "unique_chatter_identifier_value": 1e999999}',
    b'{"id": ' + b"9" * 10**6 + b"}",
    b'{"id": "a\\u0000b", "a\\u0000": 1}',
    b'{"id": "\\ud800", "\\udfff": "\\ud800"}',
    b'{"id": "x", "id": "y"}',
    b"\x00",
    b'{"id": "\xed\xa0\x80"}',
]


@pytest.mark.long(reason="every call of the API with each body", beyond=1)
@pytest.mark.parametrize("call", [call for call in every_call() if call.method == "POST"], ids=str)
def test_no_hostile_body_breaks_a_call_or_stores_anything(chatbot, call):
    caller = TokenCaller(chatbot)
    before = stored()
    for raw in HOSTILE:
        response = caller.post(call.below_slug(), raw)
        refused = response.status_code == 200 and all(one["error"] for one in response.json()["results"])
        assert refused or 400 <= response.status_code < 500
    assert stored() == before


def stored() -> list[int]:
    return [model.objects.count() for model in (ComplianceRequest, Replay, ChangeLogEntry, Conversation)]
