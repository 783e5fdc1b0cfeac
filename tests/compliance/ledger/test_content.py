"""An object of the ledger is believed only where it is whole, at its own key, and written with our key."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from compliance.ledger.content import FORMAT, Fault, Header, InvalidLedgerObject, seal, unseal
from tests.patches import before

KEY = "erasure_ledger/service/2026/11/26/120000-one.jsonl"
HEADER = Header(KEY, UUID(int=1), UUID(int=2), datetime(2026, 11, 26, 12, tzinfo=UTC))
LINES = [{"kind": "accepted", "request": "1"}, {"kind": "exact", "request": "2", "conversations": ["ab", "cd"]}]


def fault_of(content: bytes, key: str = KEY) -> Fault:
    with pytest.raises(InvalidLedgerObject) as caught:
        unseal(content, key=key)
    return caught.value.fault


def test_it_says_what_was_written() -> None:
    read = unseal(seal(HEADER, LINES), key=KEY)

    assert (read.header, read.lines) == (HEADER, LINES)


def sealed(format: Any = FORMAT) -> bytes:  # noqa: A002
    return seal(HEADER, LINES).replace(json.dumps(FORMAT).encode(), json.dumps(format).encode())


def test_an_object_at_another_key_or_under_another_digest_key_is_not_believed(settings: Settings) -> None:
    content = sealed()
    assert fault_of(content, KEY.replace("one", "two")) is Fault.MOVED
    settings.DIGEST_KEY = bytes(32)
    assert fault_of(content) is Fault.OTHER_KEY


@pytest.mark.parametrize("length", [-1, -2, -40, -90])
def test_a_truncated_object_is_not_believed(length: int) -> None:
    assert fault_of(sealed()[:length]) is Fault.TRUNCATED


def test_a_code_that_is_no_text_is_not_believed() -> None:
    """A user who can write to the bucket must not be able to stop the readers."""
    content = sealed()
    body, end = content[: content.rindex(b'{"lines"')], b'{"lines":2,"hmac":"\\ud800"}\n'

    assert fault_of(body + end) is Fault.FORGED


def test_nothing_is_parsed_but_two_short_lines_until_the_bytes_are_authentic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader would spend most of its time on objects that any user can put into the bucket."""
    sealed = seal(HEADER, [{"kind": "exact", "conversations": ["ab" * 32] * 1_000}] * 10)
    parsed: list[int] = []
    before(monkeypatch, json, "loads", lambda line: parsed.append(len(line)))
    for changed, fault in [
        (sealed.replace(b"abab", b"cdcd", 1), Fault.FORGED),
        (sealed[:-2], Fault.TRUNCATED),
        (sealed.replace(b'"hmac"', b'"lmac"'), Fault.FORGED),
        (b" " * 1024 + sealed, Fault.UNREADABLE),
        (sealed.replace(b'"lines":10', b'"lines":' + b"1" * 1024), Fault.TRUNCATED),
    ]:
        assert fault_of(changed) is fault

    assert max(parsed) <= 1024


def test_a_line_more_or_less_or_in_another_place_is_not_believed() -> None:
    header, first, second, end = seal(HEADER, LINES).splitlines(keepends=True)
    for lines in ([first], [first, first, second], [second, first]):
        assert fault_of(b"".join([header, *lines, end])) is Fault.FORGED


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"\n",
            b"{}",
            b"[]\n",
            b'{"version":1,"erased":[]}',
            b"\xff\xfe",
            b"[" * 100_000,
            b"[" * 1_000 + b"\n",
        ),
        *(sealed(name) for name in ("x", "erasure-ledger/1", "erasure-ledger/4", ["erasure-ledger/3"], None)),
    ],
)
def test_anything_else_is_unreadable(content: bytes) -> None:
    assert fault_of(content) is Fault.UNREADABLE


@given(st.data())
def test_no_change_of_a_byte_is_believed(data: st.DataObject) -> None:
    content = bytearray(seal(HEADER, LINES))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    assert fault_of(bytes(content))
