"""Keys that verify identity tokens: created with a secret or a public key, never with a private one."""

import io
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.core.exceptions import ValidationError
from django.core.management import CommandError
from django.db import IntegrityError, transaction

from chatbots.authentication import has_signing_key, newest_signing_keys, secret_binding
from chatbots.models import ApiKey, ChangeLogEntry, Chatbot
from chatbots.operations.identity_keys import create_identity_key
from chatbots.overview import overview_of, with_setup
from common.crypto import decrypt
from tests.calls import ALICE, Caller, SigningCaller, problem
from tests.certificates import make_certificate
from tests.commands import Ran, run
from tests.tokens import Backend, private_key, private_pem, public_pem

pytestmark = pytest.mark.django_db


def created(chatbot: Chatbot, **arguments: Any) -> ApiKey:
    return create_identity_key(chatbot=chatbot, label="shop", actor="command", **arguments).api_key


def refused(chatbot: Chatbot, **arguments: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        created(chatbot, **arguments)
    assert not ApiKey.objects.exists()
    assert not ChangeLogEntry.objects.exists()
    [(field, [message])] = caught.value.message_dict.items()
    assert field in {"public_key", "expires_at", "label"}
    for planted in ("MII", "planted"):
        assert planted not in message
    return str(message)


def pkcs1(key: rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()


def test_the_older_form_of_an_rsa_key_is_taken(chatbot: Chatbot) -> None:
    key = private_key("RS256")
    assert created(chatbot, public_key=pkcs1(key)).public_key == public_pem(key)


PRIVATE_FORMS = [
    (PrivateFormat.PKCS8, NoEncryption()),
    (PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
    (PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    (PrivateFormat.OpenSSH, NoEncryption()),
]


def test_a_private_key_is_refused(chatbot: Chatbot) -> None:
    for algorithm, form in product(["ES256", "RS256"], PRIVATE_FORMS):
        pem = private_key(algorithm).private_bytes(Encoding.PEM, *form).decode()
        for text in (pem, public_pem(private_key(algorithm)) + pem):
            assert "This is a private key" in refused(chatbot, public_key=text)


def _rsa(n: int, e: int) -> str:
    public = rsa.RSAPublicNumbers(e, n).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _modulus() -> int:
    return int(private_key("RS256").public_key().public_numbers().n)


def _good() -> str:
    return public_pem(private_key("ES256"))


def test_other_keys_are_refused_with_advice(chatbot) -> None:
    for make, advice in [
        (lambda: _rsa((1 << 1023) + 0x1234567, 65537), "1024 bits"),
        (lambda: _rsa((1 << 2046) + 0x1234567, 65537), "2047 bits"),
        (lambda: _rsa((1 << 8191) + 0x1234567, 65537), "8192 bits"),
        (lambda: _rsa(_modulus(), 3), "unusual exponent"),
        (lambda: _rsa(_modulus(), (1 << 200) + 1), "unusual exponent"),
        (lambda: public_pem(ec.generate_private_key(ec.SECP384R1())), "another curve"),
        (lambda: public_pem(ec.generate_private_key(ec.SECP256K1())), "another curve"),
        (lambda: public_pem(ed25519.Ed25519PrivateKey.generate()), "Give an RSA key"),
        (lambda: "", "one public key in PEM"),
        (lambda: "planted", "one public key in PEM"),
        (lambda: _good() + _good(), "one public key in PEM"),
        (lambda: "planted\n" + _good(), "one public key in PEM"),
        (lambda: _good() + " " * 10_000, "one public key in PEM"),
        (lambda: _good().replace("MFk", "MFl"), "damaged"),
        (lambda: '{"kty": "EC", "d": "planted"}', "one public key in PEM"),
        (lambda: "ssh-rsa MIIplanted", "one public key in PEM"),
    ]:
        assert advice in refused(chatbot, public_key=make())


def test_a_certificate_is_refused(chatbot: Chatbot, tmp_path: Path) -> None:
    text = make_certificate(tmp_path / "made.pem").read_text()
    certificate = text[text.index("-----BEGIN CERTIFICATE") :]
    assert "This is a certificate" in refused(chatbot, public_key=certificate)


def test_a_key_that_fits_no_algorithm_is_refused(chatbot: Chatbot) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"algorithm": ApiKey.Algorithm.ES256}, "needs your public key"),
        ({"algorithm": ApiKey.Algorithm.HS256, "public_key": "planted"}, "no public key"),
        ({"algorithm": ApiKey.Algorithm.RS256, "public_key": _good()}, "a key for ES256, not for RS256"),
    ]
    for arguments, advice in wrong:
        assert advice in refused(chatbot, **arguments)


def test_the_database_refuses_a_key_that_is_half_of_one_type(chatbot: Chatbot) -> None:
    created(chatbot)
    changes: list[dict[str, Any]] = [
        *({"algorithm": one} for one in ("", "HS512", "ES256")),
        *({"secret_encrypted": ""}, {"secret_sha256": b"\0" * 32}, {"public_key": "x"}),
        *({"scopes": ["requests:read"]}, {"rate_limit": 5}, {"type": "signing"}, {"type": "other"}),
    ]
    for change in changes:
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiKey.objects.update(**change)


def test_an_identity_key_authenticates_no_call(chatbot: Chatbot) -> None:
    new = create_identity_key(chatbot=chatbot, label="shop", actor="command")
    secret = new.secret or ""

    class Signing(SigningCaller):
        def __init__(self) -> None:
            Caller.__init__(self, chatbot)
            self.secret = secret

    problem(Signing().post("data-deletion", ALICE), 401, "invalid_signature")
    for token in (f"dca_{new.api_key.prefix}_{secret}", f"dca_{new.api_key.prefix}_{'0' * 64}", secret):
        answer = Caller(chatbot).get("requests", Authorization=f"Bearer {token}")
        problem(answer, 401, "not_authenticated")
    backend = Backend(chatbot)
    answer = Caller(chatbot).get("requests", Authorization=f"Bearer {backend.token()}")
    problem(answer, 401, "not_authenticated")


def test_an_identity_key_is_no_signing_key(chatbot: Chatbot) -> None:
    created(chatbot)

    assert newest_signing_keys([chatbot.pk]) == {}
    assert not has_signing_key(chatbot)
    gaps = overview_of(with_setup(Chatbot.objects.all()).get(pk=chatbot.pk)).gaps
    assert [gap.section for gap in gaps] == ["keys"]


# --- The command ----------------------------------------------------------------------------------------


def create(*words: str) -> Ran:
    return run("create_api_key", "acme", "--label", "shop", *words)


def test_the_command_prints_what_tokens_have_to_name(chatbot: Chatbot) -> None:
    _, out, err = create("--type", "identity", "--json")

    key = ApiKey.objects.get()
    assert (key.public_key, key.rate_limit, len(json.loads(out)["secret"]) >= 32) == ("", None, True)
    assert ChangeLogEntry.objects.get().data == {"prefix": key.prefix, "type": "identity"}
    assert json.loads(out) == {
        "type": "identity",
        "prefix": key.prefix,
        "secret": decrypt(key.secret_encrypted, bound_to=secret_binding(key.prefix)),
        "chatbot": "acme",
        "label": "shop",
        "scopes": [],
        "rate_limit": None,
        "kid": key.prefix,
        "aud": str(chatbot.public_id),
        "algorithm": "HS256",
    }
    assert err == ""
    _, out, err = create("--type", "identity")
    for name, value in (
        ("kid", ApiKey.objects.latest("pk").prefix),
        ("aud", chatbot.public_id),
        ("algorithm", "HS256"),
    ):
        assert f"{name}: {value}\n" in out
    assert "not shown again" in err


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_the_command_takes_a_public_key_from_a_file(chatbot, algorithm, tmp_path, monkeypatch) -> None:
    pem = public_pem(private_key(algorithm))
    file = tmp_path / "key.pem"
    file.write_bytes(f"\r\n{pem}\r\n".replace("\n", "\r\n").encode())
    _, out, _ = create("--type", "identity", "--public-key", str(file), "--algorithm", algorithm, "--json")
    shown = json.loads(out)
    assert (shown["algorithm"], shown["secret"]) == (algorithm, None)

    monkeypatch.setattr(sys, "stdin", io.StringIO(pem))
    create("--type", "identity", "--public-key", "-")
    assert list(ApiKey.objects.values_list("public_key", flat=True)) == [pem, pem]


def test_the_command_refuses_what_fits_no_key(chatbot) -> None:
    for words, advice in [
        (["--type", "identity", "--algorithm", "none"], "invalid choice"),
        (["--type", "identity", "--algorithm", "RS256"], "needs your public key"),
        (["--type", "identity", "--public-key", "/no/such/file"], "Cannot read the public key"),
        (["--type", "identity", "--scope", "requests:read"], "--scope is not for"),
        (["--type", "identity", "--rate-limit", "5"], "--rate-limit is not for"),
        (["--type", "identity", "--secret-file", "x"], "--secret-file is not for"),
        (["--type", "signing", "--algorithm", "HS256"], "--algorithm is not for"),
        (["--type", "token", "--scope", "requests:read", "--public-key", "x"], "--public-key is not for"),
    ]:
        with pytest.raises(CommandError, match=advice):
            create(*words)
        assert not ApiKey.objects.exists()


def test_the_command_prints_no_private_key_in_a_file_or_in_place_of_one(chatbot: Chatbot, tmp_path: Path) -> None:
    pem = private_pem(private_key("ES256"))
    file = tmp_path / "key.pem"
    file.write_text(pem)
    for given, said in ((str(file), "This is a private key"), (pem, "Cannot read the public key")):
        with pytest.raises(CommandError, match=said) as caught:
            create("--type", "identity", "--public-key", given)
        assert pem.splitlines()[1] not in str(caught.value)
