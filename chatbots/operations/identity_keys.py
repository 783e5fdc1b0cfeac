"""Creates the keys that verify identity tokens (`chatbots.identity_tokens`)."""

import re
import secrets
from contextlib import suppress
from datetime import datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from django.core.exceptions import ValidationError

from chatbots.authentication import secret_binding
from chatbots.models import ApiKey, Chatbot
from chatbots.operations.keys import NewApiKey, check_key, new_prefix, store_key
from common.crypto import encrypt

Algorithm = ApiKey.Algorithm

# Bits of an RSA key: fewer are weak, and more make each token costly to verify.
RSA_BITS = (2048, 4096)
# Bits of its exponent. A small exponent is weak, and a long one is as costly as signing.
_RSA_EXPONENTS = (65_537, 2**32)

_MAX_PEM_CHARACTERS = 10_000
_ONE_PUBLIC_KEY = re.compile(r"-----BEGIN ((?:RSA )?PUBLIC KEY)-----[A-Za-z0-9+/=\s]+-----END \1-----", re.ASCII)


def create_identity_key(
    *,
    chatbot: Chatbot,
    label: str,
    actor: str,
    algorithm: Algorithm | None = None,
    public_key: str | None = None,
    expires_at: datetime | None = None,
) -> NewApiKey:
    """Create an identity key: with HS256 and a secret of ours, or with a public key of the client, in PEM.

    Without `algorithm`, it is that of the public key, or HS256 without one. The secret is returned once, and is used
    unchanged, in UTF-8. Raises ValidationError, which never quotes the key.
    """
    if public_key is None:
        algorithm = algorithm or Algorithm.HS256
        if algorithm != Algorithm.HS256:
            raise _refused(f"{algorithm} needs your public key, in PEM.")
    elif algorithm == Algorithm.HS256:
        raise _refused("HS256 has a secret of ours, and no public key. Leave it out.")
    api_key = ApiKey(
        chatbot=chatbot,
        type=ApiKey.Type.IDENTITY,
        label=label,
        prefix=new_prefix(),
        expires_at=expires_at,
    )
    secret = None
    if public_key is None:
        # 256 random bits, in 43 characters.
        secret = secrets.token_urlsafe(32)
        api_key.secret_encrypted = encrypt(secret, bound_to=secret_binding(api_key.prefix))
        api_key.algorithm = Algorithm.HS256
    else:
        api_key.algorithm, api_key.public_key = _checked_public_key(public_key)
        if algorithm not in {None, api_key.algorithm}:
            raise _refused(f"This is a key for {api_key.algorithm}, not for {algorithm}.")
    check_key(api_key)
    store_key(api_key, actor=actor)
    return NewApiKey(api_key, secret)


def _checked_public_key(text: str) -> tuple[Algorithm, str]:
    """Return the algorithm of a public key, and the key alone, in PEM. Raises ValidationError."""
    if "PRIVATE KEY" in text:
        raise _refused(
            "This is a private key: it must stay with you alone. Nothing of it was stored. Give its public key: "
            "openssl pkey -in private.pem -pubout"
        )
    if "BEGIN CERTIFICATE" in text:
        raise _refused(
            "This is a certificate. Give its public key alone: openssl x509 -in certificate.pem -pubkey -noout"
        )
    block = _ONE_PUBLIC_KEY.fullmatch(text.strip()) if len(text) <= _MAX_PEM_CHARACTERS else None
    if block is None:
        raise _refused(
            "Give one public key in PEM and nothing else: it begins with -----BEGIN PUBLIC KEY----- and ends with "
            "-----END PUBLIC KEY-----."
        )
    key: PublicKeyTypes | None = None
    with suppress(ValueError, UnsupportedAlgorithm):  # refused below, since a context could contain the input
        key = load_pem_public_key(block[0].encode())
    if key is None:
        raise _refused("This is no public key, or it is damaged.")
    if isinstance(key, EllipticCurvePublicKey):
        if not isinstance(key.curve, SECP256R1):
            raise _refused("The key is on another curve than P-256, which is that of ES256.")
        algorithm = Algorithm.ES256
    elif isinstance(key, RSAPublicKey):
        _check_rsa(key)
        algorithm = Algorithm.RS256
    else:
        raise _refused("Give an RSA key, or a key on the curve P-256.")
    return algorithm, key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _refused(reason: str) -> ValidationError:
    return ValidationError({"public_key": reason})


def _check_rsa(key: RSAPublicKey) -> None:
    least, most = RSA_BITS
    if not least <= key.key_size <= most:
        raise _refused(f"The RSA key has {key.key_size} bits. Use one of {least:,} to {most:,}.")
    least, most = _RSA_EXPONENTS
    if not least <= key.public_numbers().e <= most:
        raise _refused("The RSA key has an unusual exponent. Use one with 65537, which is what programs make.")
