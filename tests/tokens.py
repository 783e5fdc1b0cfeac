"""Makes identity tokens as a client's backend does, and wrong ones, by hand: no library would make those."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from chatbots.models import Chatbot
from chatbots.operations.identity_keys import create_identity_key

HOUR = 3600
DAY = 24 * HOUR

Signer = Callable[[bytes], bytes]


def encoded(data: bytes | Mapping[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def compact(header: bytes | Mapping[str, Any], claims: bytes | Mapping[str, Any], sign: Signer) -> str:
    signed = f"{encoded(header)}.{encoded(claims)}"
    return f"{signed}.{encoded(sign(signed.encode()))}"


def hmac_signer(secret: bytes) -> Signer:
    return lambda data: hmac.digest(secret, data, hashlib.sha256)


def ec_signer(key: ec.EllipticCurvePrivateKey) -> Signer:
    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def rsa_signer(key: rsa.RSAPrivateKey) -> Signer:
    return lambda data: key.sign(data, padding.PKCS1v15(), SHA256())


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """Return one of our private keys; they are made once, since that takes time."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


def public_pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "ascii")


def private_pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "ascii")


class Backend:
    """A client's backend with an identity key of a chatbot. It signs what it is told to."""

    def __init__(self, chatbot: Chatbot, algorithm: str = "HS256") -> None:
        self.chatbot = chatbot
        pem = None if algorithm == "HS256" else public_pem(private_key(algorithm))
        new = create_identity_key(chatbot=chatbot, label="shop", public_key=pem, actor="command")
        self.key = new.api_key
        self.sign = signer(algorithm, new.secret)

    def header(self, **changes: Any) -> dict[str, Any]:
        return {"alg": self.key.algorithm, "kid": self.key.prefix, "typ": "JWT"} | changes

    def token(self, value: Any = "42", *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Return a token that is right but for the changes; `...` leaves a claim out."""
        said = claims_of(self.chatbot.public_id, sub=value, **claims)
        return compact(self.header(**(header or {})), said, self.sign)


def signer(algorithm: str, secret: str | None = None) -> Signer:
    if algorithm == "HS256":
        return hmac_signer((secret or "").encode())
    key = private_key(algorithm)
    return ec_signer(key) if algorithm == "ES256" else rsa_signer(key)


def claims_of(audience: object, *, age: int = 0, **changes: Any) -> dict[str, Any]:
    """Return claims of an hour that were issued `age` seconds ago; `...` leaves one out."""
    issued_at = int(time.time()) - age
    right = {"sub": "42", "uci_key": "member_id", "aud": str(audience), "iat": issued_at, "exp": issued_at + HOUR}
    return {name: value for name, value in (right | changes).items() if value is not ...}
