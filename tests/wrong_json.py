"""JSON with one thing wrong somewhere, and bytes for what no encoder would write."""

import json
import re
from collections.abc import Iterator
from typing import Any

# In what is refused, so that a test can see that it is not quoted. As a name it looks like nobody's field.
SECRET = "Xq7 secret Lovelace"

Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of each value in a document."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield from places(each, (*path, name))


def changed(value: Any, path: Path, new: Any) -> Any:
    """Return a copy with another value at a path."""
    if not path:
        return new
    if isinstance(value, dict):
        return {**value, path[0]: changed(value.get(path[0]), path[1:], new)}
    return [changed(each, path[1:], new) if place == path[0] else each for place, each in enumerate(value)]


def nested(depth: int) -> str:
    """Return what `written` makes lists within lists of."""
    return f"nested {depth} deep"


# None of these is right anywhere in a document: what is text there is neither so short nor so long.
WRONG: tuple[Any, ...] = (
    *(0.125, -1, 10**30, 10**400, float("nan"), float("inf"), float("-inf"), 1e308, 2**63, -0.0),
    *(SECRET + "\0", SECRET + "\ud800", "\udfff" + SECRET, "\ud83d", SECRET * 6_000),
    *([[]], [SECRET], {SECRET: 1}, {"": {}}, {"\0": "x"}, {"\ud800": "x"}, {"x" * 10_000: 1}),
    *(nested(30), nested(40), nested(250), nested(5_000)),
)


def written(value: Any) -> bytes:
    """Return the JSON of a value, with lists as deep as `nested` says."""
    return re.sub(rb'"nested (\d+) deep"', _lists, json.dumps(value).encode())


def _lists(found: re.Match[bytes]) -> bytes:
    return b"[" * int(found[1]) + b"1" + b"]" * int(found[1])


def value_at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value
