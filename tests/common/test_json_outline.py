"""The nesting depth and the number of values of a JSON text, found without a parser."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import bodies
from common.bodies import count_values, is_deeper, outline_of_body
from common.problems import Problem
from tests.fuzzing import examples

texts = st.text(st.sampled_from('[]{}"\\/a\u00e9,: \n')) | st.text(max_size=5)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


def values_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(values_of, inner))


@pytest.fixture(autouse=True, params=[3, bodies._PIECE_BYTES], scope="module")
def _piece_bytes(request: pytest.FixtureRequest) -> Any:
    """Also with tiny pieces, so that every token crosses a border."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bodies, "_PIECE_BYTES", request.param)
        yield


@examples(25)
@given(value=values, indent=st.none() | st.integers(0, 2), ascii_only=st.booleans())
def test_it_is_exact_for_any_json(value: Any, indent: int | None, ascii_only: bool) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    depth = depth_of(value)
    outline = outline_of_body(raw, most=len(raw))
    assert not is_deeper(outline, depth)
    assert depth == 0 or is_deeper(outline, depth - 1)
    assert values_of(value) - 1 <= count_values(outline) <= 2 * values_of(value)
    if outline:
        with pytest.raises(Problem):
            outline_of_body(raw, most=len(outline) - 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 33,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 33,
        b'[{"a":' * 17,
        b'["\\"","\\\\",' * 33,
        b"[]" * 50 + b"[" * 33,
        b'"[" ' * 50 + b"[" * 33,
        b"\xff" * 50 + b"[" * 33,
    ],
    ids=range(8),
)
def test_json_nested_too_deeply_for_a_parser_is_found(raw: bytes) -> None:
    assert is_deeper(outline_of_body(raw, most=len(raw)), 32)


@pytest.mark.parametrize(
    "raw", [b"", b"]" * 100, b"[" * 32, b"[],{}" * 1000, b'"' + b"[" * 100 + b'"', b'["\\"' + b"[" * 99], ids=range(6)
)
def test_odd_json_that_is_not_deep_passes(raw: bytes) -> None:
    assert not is_deeper(outline_of_body(raw, most=len(raw)), 32)
