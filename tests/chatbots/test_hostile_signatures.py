"""No header that differs from a right signature by anything is taken for it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from hypothesis import assume, example, given
from hypothesis import strategies as st

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from tests.calls import SigningCaller, TokenCaller
from tests.functional.web import WebServer, web_server
from tests.fuzzing import examples

pytestmark = [pytest.mark.django_db, pytest.mark.fuzz]

BODY = b'{"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "42"}'
PATH = "/api/v1/chatbots/acme/data-deletion"
TIMESTAMP, SIGNATURE = "X-Mindsay-Timestamp", "X-Mindsay-Signature"
REFUSED = {"invalid_signature", "stale_timestamp", "not_authenticated"}

# Digits of other scripts, and what some readers leave out, fold or split at.
_ODD = st.sampled_from(
    [
        *(" ", "\t", "\u00a0", "\x85", "\x0b", "\x1c", "\u2003", "\ufeff", "+", "-", "0", "0x", "_", ".", ".0", "e0"),
        *(",", ", ", ";", "=", '"', "\0", "\r\n", "%20", "٣", "３", "𝟛", "²", "Ａ", "а", "sha256=", "v1="),  # noqa: RUF001
        "9" * 5_000,
    ]
)


# What is done with a value: where, as a share of its length, and with what.
Change = tuple[str, tuple[float, str]]


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Draw what to do with a header's value, and with what."""
    what = draw(st.sampled_from(["insert", "replace", "upper", "title", "twice", "cut", "swap", "wide", "empty"]))
    return what, (draw(st.floats(0, 1)), draw(_ODD))


def changed(value: str, change: Change) -> str:
    what, (share, odd) = change
    place = round(share * (len(value) - 1))
    ways = {
        "insert": value[:place] + odd + value[place:],
        "replace": value[:place] + odd + value[place + 1 :],
        "upper": value.upper(),
        "title": value.title(),
        "twice": f"{value},{value}",
        "cut": value[:place],
        "swap": value[place:] + value[:place],
        "wide": "".join(chr(ord(one) + 0xFEE0) for one in value),
        "empty": "",
    }
    return ways[what]


@examples(30)
@given(of_timestamp=st.none() | changes(), of_signature=st.none() | changes())
@example(of_timestamp=("insert", (0.0, "0")), of_signature=None)
@example(of_timestamp=None, of_signature=("upper", (0.0, "")))
def test_a_changed_header_is_refused(chatbot, of_timestamp, of_signature) -> None:
    right = SigningCaller(chatbot).credentials(BODY)
    sent = {
        TIMESTAMP: changed(right[TIMESTAMP], of_timestamp) if of_timestamp else right[TIMESTAMP],
        SIGNATURE: changed(right[SIGNATURE], of_signature) if of_signature else right[SIGNATURE],
    }
    assume(sent != right)

    answer = Client(raise_request_exception=False).post(PATH, BODY, content_type="application/json", headers=sent)

    assert answer.status_code == 401
    assert answer.json()["code"] in REFUSED
    assert not ComplianceRequest.objects.exists()


@examples(20)
@given(change=changes())
def test_a_changed_token_is_refused(chatbot: Chatbot, change: Change) -> None:
    right = f"Bearer {TokenCaller(chatbot).token}"
    sent = changed(right, change)
    # The scheme's letters may be large or small, and spaces may follow it.
    assume(not sent.endswith(right.removeprefix("Bearer ")))
    assume(sent.strip(" ") != right)

    answer = Client(raise_request_exception=False).post(
        PATH, BODY, content_type="application/json", headers={"Authorization": sent}
    )

    assert answer.status_code == 401
    assert not ComplianceRequest.objects.exists()


@pytest.fixture(scope="module")
def server(django_db_setup: None, django_db_blocker: Any) -> Iterator[WebServer]:
    with django_db_blocker.unblock(), web_server() as server:
        yield server


def sent_over_http(server: WebServer, lines: list[tuple[str, str]]) -> int:
    connection = server.connect()
    connection.putrequest("POST", PATH)
    for name, value in [("Content-Type", "application/json"), ("Content-Length", str(len(BODY))), *lines]:
        connection.putheader(name, value.encode("latin-1"))
    connection.endheaders(BODY)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.django_db(transaction=True)
def test_a_header_that_comes_twice_is_refused_and_no_other_spelling_is_read(server, chatbot) -> None:
    caller = SigningCaller(chatbot)
    right = list(caller.credentials(BODY).items())
    token = ("Authorization", f"Bearer {TokenCaller(chatbot).token}")
    wrong_time, wrong_signature = (TIMESTAMP, str(int(time.time()) - 1)), (SIGNATURE, "0" * 64)
    for lines in (
        [*right, wrong_signature],
        [wrong_signature, *right],
        [*right, wrong_time],
        [wrong_time, *right],
        [*right, right[0]],
        [*right, right[1]],
        [(name.replace("-", "_"), value) for name, value in right],
        [right[0], (SIGNATURE.replace("-", "_"), right[1][1])],
        [token, token],
        [token, ("Authorization", "Bearer x")],
        [("Authorization", "Basic eDp4"), token],
        [token, *right],
    ):
        assert sent_over_http(server, lines) in {400, 401}, lines
        assert not ComplianceRequest.objects.exists()
    # What HTTP itself leaves out around a value is no change.
    assert sent_over_http(server, [(name, f" \t{value} \t") for name, value in right]) == 200
    assert ComplianceRequest.objects.count() == 1
