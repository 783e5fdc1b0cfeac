"""Signatures: of calls to the service, and of its callbacks."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from data_compliance_client.errors import InvalidCallback


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of `X-Mindsay-Signature`: the lower-case hex HMAC-SHA256 of the timestamp and the body.

    `timestamp` is in Unix seconds, as sent in `X-Mindsay-Timestamp`. `body` is exactly what is sent.
    """
    return hmac.new(secret.encode(), timestamp.encode() + body, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Callback:
    """A callback of the service, after its signature was verified. It contains nothing about the chatter."""

    id: str
    """The same callback can arrive twice: ignore an id that you have seen."""
    event: str
    request_id: str | None
    status: str | None
    reference: str | None
    occurred_at: datetime
    data: Mapping[str, Any] = field(repr=False)
    """The whole body."""


def verify_callback(
    body: bytes, headers: Mapping[str, str], *secrets: str, tolerance: float = 300, now: float | None = None
) -> Callback:
    """Return the callback if one of the secrets has signed it.

    Arguments are those of `verify_signature`. Raises InvalidCallback also for a body that is no callback.
    """
    verify_signature(body, headers, *secrets, tolerance=tolerance, now=now)
    try:
        data = json.loads(body)
        return Callback(
            id=data["callback_id"],
            event=data["event"],
            request_id=data["request_id"],
            status=data["status"],
            reference=data["reference"],
            occurred_at=datetime.fromisoformat(data["occurred_at"]),
            data=data,
        )
    except (ValueError, KeyError, TypeError):
        raise InvalidCallback("The signature is right, but the body is no callback of this service.") from None


def verify_signature(
    body: bytes, headers: Mapping[str, str], *secrets: str, tolerance: float = 300, now: float | None = None
) -> None:
    """Check the signature of anything that the service sends: callbacks, and questions who chatted.

    `body` is what came, before any parsing; names in `headers` may have any case. `secrets` are shown once as
    `whsec_...`: several while one replaces another. `tolerance` is in seconds, `now` in Unix seconds. The rules are
    those of https://www.standardwebhooks.com.

    Raises InvalidCallback for a wrong signature and an old or future timestamp, ValueError for what is no secret.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        identifier, timestamp = given["webhook-id"], given["webhook-timestamp"]
        sent = float(int(timestamp))
        signatures = given["webhook-signature"].split()
    except (KeyError, ValueError, OverflowError):
        raise InvalidCallback("A header is missing: webhook-id, webhook-timestamp or webhook-signature.") from None
    if abs((time.time() if now is None else now) - sent) > tolerance:
        raise InvalidCallback("The callback is too old, or this machine's clock is wrong.")
    signed = f"{identifier}.{timestamp}.".encode() + body
    expected = [b"v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256")) for secret in secrets]
    # All are compared: the time is not to tell which one fits.
    if not sum(hmac.compare_digest(one, each.encode()) for one in expected for each in signatures):
        raise InvalidCallback("None of the secrets has signed the callback.")


def _key(secret: str) -> bytes:
    with suppress(binascii.Error):
        if key := base64.b64decode(secret.removeprefix("whsec_"), validate=True):
            return key
    raise ValueError("A callback secret is whsec_ and Base64, as it was shown.")
