"""An object of the ledger: JSON Lines, a header first, last the HMAC-SHA256 of all lines before it.

    {"format": "erasure-ledger/3", "key": ..., "service": ..., "incarnation": ..., "at": ..., "hmac_key": ...}
    {"kind": "accepted", ...}
    {"lines": 1, "hmac": "9f2c..."}

The HMAC's key is derived from `DIGEST_KEY` (HKDF, RFC 5869), so that only this service can write an authentic object.
The header has the object's own key: an object that was moved or copied is refused too.

A program that can write to the bucket must not be able to keep its readers busy. So nothing is parsed before the HMAC
is verified, except the first and the last line, which are short.
"""

import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

FORMAT = "erasure-ledger/3"

# No header and no last line is longer.
FIRST_BYTES = 1024

Line = dict[str, Any]

_ENCODER = json.JSONEncoder(separators=(",", ":"))

_PURPOSE = b"data-compliance-api erasure ledger"
_KEY_ID_PURPOSE = b"id of the key"


class Fault(StrEnum):
    """Why an object is refused."""

    UNREADABLE = "unreadable"  # no object of the ledger, or of another format
    TRUNCATED = "truncated"
    FORGED = "forged"  # written or changed without the key
    OTHER_KEY = "other_key"  # written under another DIGEST_KEY
    MOVED = "moved"
    FOREIGN = "foreign"  # of another service
    EXPIRED = "expired"  # put back after its days were over


class InvalidLedgerObject(Exception):
    """Not an authentic object of this ledger, so nothing of it is used."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True)
class Header:
    key: str
    service_id: UUID
    incarnation: UUID
    at: datetime


@dataclass(frozen=True)
class LedgerContent:
    """An authentic object."""

    header: Header
    lines: Sequence[Line]
    sha256: bytes


def seal(header: Header, lines: Iterable[Line]) -> bytes:
    """Return the content of an object."""
    written = [
        {
            "format": FORMAT,
            "key": header.key,
            "service": str(header.service_id),
            "incarnation": str(header.incarnation),
            "at": header.at.isoformat(),
            "hmac_key": _key_id(settings.DIGEST_KEY),
        },
        *lines,
    ]
    body = b"".join(_dumped(each) for each in written)
    return body + _dumped({"lines": len(written) - 1, "hmac": _hmac(body)})


def unseal(content: bytes, *, key: str) -> LedgerContent:
    """Return the content of an object at this key. Raises InvalidLedgerObject for any other content.

    The caller compares the service.
    """
    header = begun(content[:FIRST_BYTES])
    # The last line, unless it is longer than any that was written.
    start = content.rfind(b"\n", max(0, len(content) - 1 - FIRST_BYTES), len(content) - 1) + 1
    body, last = content[:start], content[start:]
    if not (body and last.startswith(b'{"lines"') and last.endswith(b"\n")):
        raise InvalidLedgerObject(Fault.TRUNCATED)
    end = _loaded(last)
    if header.get("hmac_key") != _key_id(settings.DIGEST_KEY):
        raise InvalidLedgerObject(Fault.OTHER_KEY)
    if not hmac.compare_digest(str(end.get("hmac")).encode(errors="replace"), _hmac(body).encode()):
        raise InvalidLedgerObject(Fault.FORGED)
    if header["key"] != key:
        raise InvalidLedgerObject(Fault.MOVED)
    # From here on the content is authentic: `seal` has written it.
    lines = [_loaded(each) for each in body.splitlines()[1:]]
    if end.get("lines") != len(lines):  # the HMAC does not cover it
        raise InvalidLedgerObject(Fault.FORGED)
    at = datetime.fromisoformat(header["at"])
    return LedgerContent(
        Header(key, UUID(header["service"]), UUID(header["incarnation"]), at), lines, sha256(content).digest()
    )


def begun(start: bytes) -> Line:
    """Return the header of an object from its first FIRST_BYTES, authentic or not.

    Raises InvalidLedgerObject if this is not the beginning of an object.
    """
    first, newline, _ = start.partition(b"\n")
    if not newline or (header := _loaded(first)).get("format") != FORMAT:
        raise InvalidLedgerObject(Fault.UNREADABLE)
    return header


def _loaded(line: bytes) -> Line:
    """Return the parsed line. Raises InvalidLedgerObject unless it is a JSON object."""
    try:
        loaded = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidLedgerObject(Fault.UNREADABLE) from None
    if not isinstance(loaded, dict):
        raise InvalidLedgerObject(Fault.UNREADABLE)
    return loaded


def _dumped(line: Line) -> bytes:
    return _ENCODER.encode(line).encode() + b"\n"


def _hmac(body: bytes) -> str:
    return hmac.new(_derived(settings.DIGEST_KEY), body, "sha256").hexdigest()


@lru_cache(maxsize=4)
def _derived(digest_key: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=_PURPOSE).derive(digest_key)


@lru_cache(maxsize=4)
def _key_id(digest_key: bytes) -> str:
    return hmac.digest(_derived(digest_key), _KEY_ID_PURPOSE, "sha256").hex()[:16]
