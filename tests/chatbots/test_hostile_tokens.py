"""Identity tokens that differ from a right one: in what they say, how they are written, and who signed them."""

import base64
import json
import string
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from chatbots.identity_tokens import TokenRefused, parse, verify
from tests.chatbots.test_identity_tokens import (
    ALGORITHMS,
    AUDIENCE,
    DAY,
    NOW,
    SECOND,
    SECRET,
    claims,
    header_of,
    key_of,
    token_of,
)
from tests.fuzzing import examples, texts
from tests.tokens import encoded, signer

pytestmark = pytest.mark.fuzz

PLACEHOLDERS = {"", "null", "undefined", "None", "anonymous"}


def is_right(said: dict[str, Any]) -> bool:
    """The rules of docs/clients/identity-tokens.md, once more: whether signed claims are taken."""

    def number(name: str) -> bool:
        return isinstance(said.get(name), int) and not isinstance(said[name], bool)

    value = said.get("sub")
    return (
        said.get("aud") == str(AUDIENCE)
        and number("iat")
        and number("exp")
        and said["iat"] <= SECOND + 60
        and 0 < said["exp"] - said["iat"] <= DAY
        and ("nbf" not in said or (number("nbf") and said["nbf"] <= SECOND + 60))
        and isinstance(said.get("uci_key"), str)
        and ("conversation_id" not in said or isinstance(said["conversation_id"], str))
        and isinstance(value, str)
        and value not in PLACEHOLDERS
        and len(value) <= 512
        and not any(one == "\0" or "\ud800" <= one <= "\udfff" for one in value)
    )


_EDGES = st.sampled_from([-DAY - 1, -DAY, -DAY + 1, -61, -60, -1, 0, 1, 59, 60, 61, DAY - 1, DAY, DAY + 1, 10**300])
_TIMES = _EDGES.map(lambda offset: SECOND + offset)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts(most=600) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "iat": _TIMES | _ANYTHING,
        "exp": _TIMES | _ANYTHING,
        "nbf": _TIMES | _ANYTHING,
        "sub": texts(most=513) | _ANYTHING,
        "aud": st.sampled_from([str(AUDIENCE).upper(), f"{AUDIENCE} ", [str(AUDIENCE)]]) | _ANYTHING,
        "uci_key": texts(most=200) | _ANYTHING,
        "conversation_id": texts(most=300) | _ANYTHING,
        "iss": _ANYTHING,
    },
)


@examples(60)
@given(changes=CLAIMS, algorithm=st.sampled_from(ALGORITHMS))
@example(changes={"iat": SECOND + 60, "exp": SECOND + 60 + DAY}, algorithm="ES256")
@example(changes={"iat": SECOND + 61, "exp": SECOND + 62}, algorithm="HS256")
def test_signed_claims_are_taken_if_each_of_them_is_right(changes: dict[str, Any], algorithm: str) -> None:
    said = claims(**changes)
    head, payload = encoded(header_of(algorithm)), encoded(said)
    token = f"{head}.{payload}.{encoded(signer(algorithm, SECRET)(f'{head}.{payload}'.encode()))}"
    assume(len(token) <= 8_192)
    if is_right(said):
        found = verify(parse(token), key_of(algorithm), audience=AUDIENCE, at=NOW)
        assert (found.value, found.uci_key) == (said["sub"], said["uci_key"])
        return
    with pytest.raises(TokenRefused) as refused:
        verify(parse(token), key_of(algorithm), audience=AUDIENCE, at=NOW)
    text = said["sub"] if isinstance(said.get("sub"), str) else ""
    assert len(text) < 12 or text not in refused.value.detail


# --- The same content, written or signed in another way ---------------------------------------------------


_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def _part(text: str, place: int, change: str) -> str:
    """Change how one of the three parts is written, and nothing of what it says to a lax reader."""
    parts = text.split(".")
    part = parts[place]
    match change:
        case "padded":
            part += "=" * (-len(part) % 4 or 4)
        case "plain base64":
            part = part.replace("-", "+").replace("_", "/")
        case "line":
            part = f"{part[:5]}\n{part[5:]}"
        case "blank":
            part = f"{part[:5]} {part[5:]}"
        case "spare bits":
            part = part[:-1] + _ALPHABET[_ALPHABET.index(part[-1]) ^ 1]
        case "spaced JSON":
            spaced = json.dumps(json.loads(base64.urlsafe_b64decode(part + "==")), indent=1) if place < 2 else "x"
            part = encoded(spaced.encode())
        case "escaped JSON":
            raw = base64.urlsafe_b64decode(part + "==").decode("latin-1")
            part = encoded(raw.replace("a", "\\u0061").encode("latin-1"))
        case "twice":
            part += part
        case "empty":
            part = ""
        case _:
            part = part.swapcase()
    parts[place] = part
    return ".".join(parts)


_WAYS = (
    *("padded", "plain base64", "line", "blank", "spare bits", "spaced JSON", "escaped JSON", "twice", "empty"),
    "swapped",
)


def test_a_token_that_is_written_otherwise_is_refused() -> None:
    for algorithm in ALGORITHMS:
        token = token_of(algorithm)
        for place, way in product(range(3), _WAYS):
            changed = _part(token, place, way)
            if changed != token:  # a part may have no such letters
                with pytest.raises(TokenRefused):
                    verify(parse(changed), key_of(algorithm), audience=AUDIENCE, at=NOW)
