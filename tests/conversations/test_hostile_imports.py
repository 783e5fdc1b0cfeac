"""Files to import that are damaged, packed oddly or made to fill the memory: what is whole is stored."""

import gzip
import io
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from hypothesis import example, given
from hypothesis import strategies as st

from conversations.documents import DocumentInvalid, document_or_errors
from conversations.importer import ImportLine, SourceUnreadable, open_source, read_lines
from conversations.models import Conversation
from tests.conversations.documents import document
from tests.fuzzing import examples, texts

pytestmark = pytest.mark.fuzz

LIMIT = 4_000
MIB = 1024 * 1024
_numbers = count(1)


def line(number: int, name: str = "Ada") -> bytes:
    return json.dumps(document(f"c-{number}", user_name=name), ensure_ascii=False).encode()


DAMAGE = st.sampled_from(["", "", "", "cut", "nul", "high", "quote", "long", "space", "bom", "return", "twice"])
ENDS = st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n", b"\n \t\r\n", b"\n\x0b\n"])


def damaged(raw: bytes, damage: str, place: float) -> bytes:
    at = round(place * (len(raw) - 1))
    before, after = raw[:at], raw[at:]
    ways = {
        "cut": before,
        "nul": before + b"\0" + after,
        "high": before + b"\xff" + after,
        "quote": before + b'"' + after,
        "long": raw[:-1] + b" " * LIMIT + raw[-1:],
        "space": b"  \t" + raw + b" ",
        "bom": b"\xef\xbb\xbf" + raw,
        "return": before + b"\r" + after,
        "twice": raw + raw,
    }
    return ways.get(damage, raw)


FILES = st.lists(
    st.tuples(texts(most=200).filter(lambda name: name != ""), DAMAGE, st.floats(0, 1), ENDS), min_size=1, max_size=8
)


def content(parts: list[tuple[str, str, float, bytes]]) -> bytes:
    return b"".join(
        damaged(line(number, name), damage, place) + end for number, (name, damage, place, end) in enumerate(parts)
    )


def read(path: Path) -> list[ImportLine]:
    with open_source(str(path)) as source:
        return list(read_lines(source, limit=LIMIT))


def expected(raw: bytes) -> list[tuple[int, bytes | None]]:
    """Each line that is not empty, by its number; None if it is too long."""
    whole = raw.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [
        (number, None if len(each) > LIMIT else each.strip()) for number, each in enumerate(whole, 1) if each.strip()
    ]


@examples(60)
@given(parts=FILES, packing=st.sampled_from(["plain", "gzip", "members", "stored"]), cut=st.floats(0, 1))
@example(parts=[("x", "bom", 0.0, b"\n")], packing="plain", cut=0.0)
def test_each_line_is_read_as_it_is(tmp_path_factory, parts, packing, cut) -> None:
    raw = content(parts)
    at = round(cut * len(raw))
    packed = {
        "plain": lambda: raw,
        "gzip": lambda: gzip.compress(raw),
        "members": lambda: gzip.compress(raw[:at]) + gzip.compress(b"") + gzip.compress(raw[at:]),
        "stored": lambda: gzip.compress(raw, compresslevel=0),
    }[packing]()
    path = tmp_path_factory.mktemp("import") / "file"
    path.write_bytes(packed)

    found = [(each.number, each.raw and each.raw.strip()) for each in read(path)]

    assert found == expected(raw)


def test_a_first_line_may_have_as_many_bytes_as_any_other(tmp_path) -> None:
    for end in [b"", b"\n", b"\n" + line(2) + b"\n"]:
        for more in [-1, 0, 1, 2, 3, 4, 5]:
            for mark in [b"", b"\xef\xbb\xbf"]:
                first = line(1)
                first = first[:-1] + b" " * (LIMIT + more - len(first)) + first[-1:]
                path = tmp_path / "file"
                path.write_bytes(mark + first + end)

                found = [(each.number, each.raw and each.raw.strip()) for each in read(path)]

                assert found == [(1, first if more <= 0 else None), (2, line(2))][: 2 if len(end) > 1 else 1]


@examples(40)
@given(names=st.lists(texts(least=1, most=200), min_size=1, max_size=20), cut=st.floats(0, 1), flip=st.booleans())
def test_a_damaged_file_gives_whole_lines_up_to_where_it_breaks_off(tmp_path_factory, names, cut, flip) -> None:
    raws = [line(number, name) for number, name in enumerate(names)]
    packed = gzip.compress(b"\n".join(raws) + b"\n")
    at = 2 + round(cut * (len(packed) - 3))
    path = tmp_path_factory.mktemp("import") / "file"
    path.write_bytes(packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :] if flip else packed[:at])
    got: list[ImportLine] = []

    try:
        with open_source(str(path)) as source:
            for each in read_lines(source, limit=10 * MIB):
                got.append(each)  # noqa: PERF402  (what came before the error counts)
    except SourceUnreadable:
        pass
    else:
        assert flip, "A file that was cut is not read to an end."
        assert [each.raw for each in got] == [raw + b"\n" for raw in raws]
    # What was read before a checksum could be compared may be wrong, but is never taken for another's document.
    for each, raw in zip(got, raws, strict=False):
        assert flip or each.raw == raw + b"\n"


def bomb(mib: int) -> Iterator[bytes]:
    """Yield a file of gzip that unpacks to one line of so many MiB."""
    yield gzip.compress(b"[")
    member = gzip.compress(b"[" * MIB, compresslevel=1)
    for _ in range(mib):
        yield member
    yield gzip.compress(b"\n" + line(1) + b"\n")


def test_a_line_that_unpacks_to_much_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(b"".join(bomb(48)))
    assert path.stat().st_size < MIB
    tracemalloc.start()
    try:
        with open_source(str(path)) as source:
            found = list(read_lines(source, limit=MIB))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [(each.number, each.raw is None) for each in found] == [(1, True), (2, False)]
    assert peak < 8 * MIB


def test_a_bomb_within_a_bomb_is_no_document(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(gzip.compress(bytes(MIB))))
    for each in read(path):
        assert isinstance(document_or_errors(each.raw or b""), DocumentInvalid)


class _Slow(io.RawIOBase):
    """A pipe that brings one byte at a time."""

    def __init__(self, raw: bytes) -> None:
        self._raw = io.BytesIO(raw)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._raw.read(1)
        buffer[: len(piece)] = piece
        return len(piece)


def test_gzip_is_known_however_slowly_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pipe has brought by then can be a single byte."""
    raw = gzip.compress(line(1))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(_Slow(raw))))
    with open_source("-") as source:
        assert [each.raw for each in read_lines(source, limit=LIMIT)] == [line(1)]


@examples(8)
@given(parts=FILES)
def test_what_is_right_is_stored_and_each_other_line_refused(chatbot, settings, tmp_path_factory, parts) -> None:
    settings.MAX_BODY_BYTES = LIMIT
    ours = f"run {next(_numbers)}-"
    raw = content(parts).replace(b'"c-', f'"{ours}'.encode())
    path = tmp_path_factory.mktemp("import") / "file"
    path.write_bytes(zlib.compress(raw, wbits=31))
    right = [
        one for _, each in expected(raw) if not isinstance(one := document_or_errors(each or b""), DocumentInvalid)
    ]

    has_refused = len(right) < len(expected(raw))
    with pytest.raises(SystemExit) if has_refused else nullcontext():
        call_command("import_conversations", chatbot.slug, str(path), "--json")

    stored = Conversation.objects.filter(chatbot=chatbot, external_id__startswith=ours)
    assert set(stored.values_list("external_id", "user_name")) == {(one["id"], one["user_name"]) for one in right}
