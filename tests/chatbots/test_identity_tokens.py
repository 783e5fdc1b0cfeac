"""Which identity tokens are taken. Keys and tokens alone, without a database."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from chatbots.identity_tokens import IdentityClaims, IdentityKey, TokenRefused, parse, verify
from chatbots.models import ApiKey
from tests.fuzzing import examples
from tests.tokens import (
    Signer,
    claims_of,
    compact,
    ec_signer,
    encoded,
    hmac_signer,
    private_key,
    public_pem,
    rsa_signer,
    signer,
)

AUDIENCE = UUID("01a20e4f-2ccd-727b-ad28-e544e31ea60e")
KID = "0123456789ab"
SECRET = "x" * 43
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SECOND = int(NOW.timestamp())
DAY, HOUR = 86_400, 3_600

ALGORITHMS = ("HS256", "ES256", "RS256")


@cache
def key_of(algorithm: str) -> IdentityKey:
    material = SECRET if algorithm == "HS256" else public_pem(private_key(algorithm))
    return IdentityKey.build(ApiKey.Algorithm(algorithm), material)


def header_of(algorithm: str = "HS256", **changes: Any) -> dict[str, Any]:
    return {name: one for name, one in ({"alg": algorithm, "kid": KID} | changes).items() if one is not ...}


def claims(**changes: Any) -> dict[str, Any]:
    return claims_of(AUDIENCE, **({"iat": SECOND, "exp": SECOND + HOUR} | changes))


def made(*, algorithm: str = "HS256", header: Any = None, sign: Signer | None = None, body: Any = None) -> str:
    return compact(
        header_of(algorithm) if header is None else header,
        claims() if body is None else body,
        sign or signer(algorithm, SECRET),
    )


def verified(token: str, algorithm: str = "HS256", *, at: datetime = NOW) -> IdentityClaims:
    return verify(parse(token), key_of(algorithm), audience=AUDIENCE, at=at)


def refusal(token: str, algorithm: str = "HS256", *, key: IdentityKey | str | None = "") -> str:
    with pytest.raises(TokenRefused) as caught:
        verify(parse(token), key_of(algorithm) if key == "" else key, audience=AUDIENCE, at=NOW)
    assert str(caught.value) == caught.value.detail
    return caught.value.detail


def test_a_token_of_the_key_says_who_the_chatter_is() -> None:
    for algorithm in ALGORITHMS:
        token = made(algorithm=algorithm, body=claims(sub="4 2", conversation_id="c-1", iss="shop", jti="1"))

        found = verified(token, algorithm)

        assert found == IdentityClaims(uci_key="member_id", value="4 2", conversation_id="c-1", has_expired=False)
        assert "4 2" not in repr(found)
        assert token not in repr(parse(token))


def test_a_type_is_optional() -> None:
    for header in [{"typ": "JWT"}, {"typ": "jwt"}, {}]:
        assert verified(made(header=header_of(**header))).value == "42"


# --- The signature, and what the header may say ---------------------------------------------------------


def test_a_signature_of_another_key_is_refused() -> None:
    for algorithm in ALGORITHMS:
        others: dict[str, Callable[[], Signer]] = {
            "HS256": lambda: hmac_signer(b"y" * 43),
            "ES256": lambda: ec_signer(private_key("ES256", 1)),
            "RS256": lambda: rsa_signer(private_key("RS256", 1)),
        }
        assert "signature" in refusal(made(algorithm=algorithm, sign=others[algorithm]()), algorithm)


def test_the_public_key_is_no_secret() -> None:
    """The classic confusion: HS256 with the bytes of the public RSA key."""
    pem = public_pem(private_key("RS256")).encode()
    for secret in (pem, pem.strip(), b"".join(pem.splitlines()[1:-1])):
        assert "alg is not" in refusal(made(algorithm="HS256", sign=hmac_signer(secret)), "RS256")
        assert "signature" in refusal(made(header=header_of("RS256"), sign=hmac_signer(secret)), "RS256")


def test_only_the_algorithm_of_the_key_is_taken() -> None:
    for algorithm in [*ALGORITHMS, "none", "None", "HS512", "ES384", "RS512", "PS256", "EdDSA", ""]:
        for of_the_key in ALGORITHMS:
            sign = signer(algorithm, SECRET) if algorithm in ALGORITHMS else (lambda _: b"x")
            token = made(header=header_of(algorithm), sign=sign)
            if algorithm == of_the_key:
                assert verified(token, of_the_key).value == "42"
            else:
                assert "alg is not" in refusal(token, of_the_key)


def test_an_unsigned_token_is_refused() -> None:
    unsigned = f"{encoded(header_of('none'))}.{encoded(claims())}."
    assert "compact" in refusal(unsigned)
    assert "compact" in refusal(unsigned.removesuffix("."))


def test_no_key_comes_with_a_token() -> None:
    for more in [
        {"jwk": {"kty": "oct", "k": encoded(SECRET.encode())}},
        {"jku": "https://example.com/keys"},
        {"x5c": ["MIIB"]},
        {"crit": ["b64"], "b64": False},
        {"zip": "DEF"},
    ]:
        assert "alg, kid and typ alone" in refusal(made(header=header_of(**more)))


def test_a_header_of_another_form_is_refused() -> None:
    for header, detail in [
        (header_of(kid=...), "both strings"),
        (header_of(kid=1), "both strings"),
        (header_of(alg=...), "both strings"),
        (header_of(alg=["HS256"]), "both strings"),
        (header_of(typ="at+jwt"), "typ must be JWT"),
        (header_of(typ={}), "typ must be JWT"),
        (b'{"alg": "HS256", "kid": "0123456789ab", "kid": "0123456789ab"}', "name twice"),
        (b'{"alg": "none", "kid": "0123456789ab", "alg": "HS256"}', "name twice"),
        (b'["alg", "kid"]', "JSON object"),
        (b"\xff", "JSON object"),
        (b"[" * 5000, "JSON object"),
        (json.dumps(header_of()).encode("utf-16"), "JSON object"),
    ]:
        assert detail in refusal(made(header=header))


def test_a_key_that_there_is_not_verifies_nothing() -> None:
    assert "no active identity key" in refusal(made(), key=None)


def test_only_three_parts_are_taken() -> None:
    for change in [
        lambda token: f"{token}.{encoded(b'x')}",
        lambda token: token.rpartition(".")[0],
        lambda token: "..",
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: "Bearer " + token,
        lambda token: token.replace(".", "。"),
        lambda token: json.dumps(dict(zip(("protected", "payload", "signature"), token.split("."), strict=True))),
    ]:
        assert "compact" in refusal(change(made()))


def test_a_token_of_8_kib_is_taken_and_a_longer_one_is_not() -> None:
    filler = "x" * 5_900
    token = made(body=claims(more=filler))
    while len(token) < 8_192:
        filler += "x"
        token = made(body=claims(more=filler))
    assert len(token) <= 8_193
    if len(token) == 8_192:
        assert verified(token).value == "42"
    assert "8,192" in refusal(made(body=claims(more=filler + "xxx")))


# --- The claims -----------------------------------------------------------------------------------------


def test_the_audience_is_the_chatbot_s_public_id_as_a_string() -> None:
    texts = ("", "acme", str(UUID(int=1)), str(AUDIENCE).upper(), AUDIENCE.hex)
    for audience in (..., None, *texts, [str(AUDIENCE)], 1, True):
        assert "aud" in refusal(made(body=claims(aud=audience)))


def test_times_are_whole_numbers() -> None:
    wrong: list[Any] = [..., None, "1764158400", 1764158400.0, 1764158400.5, True, [], {}, float("nan"), float("inf")]
    for value in wrong:
        for name in ["iat", "exp"]:
            assert f"{name} must be a whole number" in refusal(made(body=claims(**{name: value})))


def test_a_time_not_before_is_one_too() -> None:
    for value in [None, "1", 1.5, False]:
        assert "nbf must be" in refusal(made(body=claims(nbf=value)))


def test_times_that_do_not_fit_are_refused() -> None:
    for changes, detail in [
        ({"iat": SECOND + 61}, "iat is in the future"),
        ({"iat": SECOND + 10**300, "exp": SECOND + 10**300 + 1}, "iat is in the future"),
        ({"exp": SECOND + DAY + 1}, "24 hours at most"),
        ({"exp": SECOND + 10**300}, "24 hours at most"),
        ({"exp": SECOND}, "after its iat"),
        ({"iat": SECOND - 100, "exp": SECOND - 200}, "after its iat"),
        ({"exp": -(10**300)}, "after its iat"),
        ({"nbf": SECOND + 61}, "nbf is in the future"),
        ({"nbf": 10**300}, "nbf is in the future"),
    ]:
        assert detail in refusal(made(body=claims(**changes)))


def test_times_that_fit_are_taken_with_a_minute_s_leeway() -> None:
    for changes in [
        {"iat": SECOND + 60},
        {"exp": SECOND + DAY},
        {"nbf": SECOND + 60},
        {"nbf": 0},
        {"iat": -(10**300), "exp": -(10**300) + 5},
    ]:
        assert verified(made(body=claims(**changes))).value == "42"


def test_it_says_whether_a_token_has_expired() -> None:
    for ago, has_expired in [(0, False), (59, False), (60, True), (3 * DAY, True)]:
        token = made(body=claims(iat=SECOND - ago - HOUR, exp=SECOND - ago))
        assert verified(token).has_expired is has_expired


def test_a_subject_that_could_be_nobody_s_value_is_refused() -> None:
    for subject, detail in [
        (..., "sub must be a string"),
        (None, "sub must be a string"),
        (42, "sub must be a string"),
        (["42"], "sub must be a string"),
        ("", "identifies no one"),
        ("null", "identifies no one"),
        ("anonymous", "identifies no one"),
        ("x" * 513, "1 to 512 characters"),
        ("4\x002", "without NUL or unpaired surrogates"),
        ("4\ud8002", "without NUL or unpaired surrogates"),
    ]:
        assert detail in refusal(made(body=claims(sub=subject)))


def test_a_subject_is_taken_as_it_is() -> None:
    for subject in ["x" * 512, " ", "😀", "null ", "../42"]:
        assert verified(made(body=claims(sub=subject))).value == subject


def test_names_are_strings() -> None:
    for value in [None, 1, ["member_id"]]:
        for name in ["uci_key", "conversation_id"]:
            assert f"{name} must be a string" in refusal(made(body=claims(**{name: value})))
            assert "uci_key must be a string" in refusal(made(body=claims(uci_key=...)))


def test_claims_of_another_form_are_refused() -> None:
    for body in [
        json.dumps(claims()).encode()[:-1] + b', "sub": "43"}',
        json.dumps(claims(more={})).encode().replace(b"{}", b'{"a": 1, "a": 2}'),
        b"[]",
        b"{",
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"iat": ' + b"9" * 5000 + b"}",
        json.dumps(claims()).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps(claims()).encode(),
    ]:
        detail = refusal(made(body=body))
        assert "JSON object" in detail or "compact" in detail


def test_a_signature_in_der_is_refused() -> None:
    """ES256 has the two numbers side by side; what OpenSSL makes is something else."""
    key: ec.EllipticCurvePrivateKey = private_key("ES256")
    assert "signature" in refusal(
        made(algorithm="ES256", sign=lambda data: key.sign(data, ec.ECDSA(SHA256()))), "ES256"
    )


# --- Whatever is changed --------------------------------------------------------------------------------


@cache
def token_of(algorithm: str) -> str:
    return made(algorithm=algorithm)


@given(data=st.data())
@examples(150)
def test_a_token_with_any_change_is_refused(data: st.DataObject) -> None:
    algorithm = data.draw(st.sampled_from(ALGORITHMS))
    token = token_of(algorithm)
    place = data.draw(st.integers(0, len(token)))
    cut = data.draw(st.integers(0, 3))
    put = data.draw(st.text(st.sampled_from("ABab01-_.=+/ \n\0é"), max_size=3))
    changed = token[:place] + put + token[place + cut :]
    if changed == token:
        return
    refusal(changed, algorithm)
