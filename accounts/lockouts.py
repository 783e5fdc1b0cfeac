"""Limits on failed log-ins, counted in the database for all processes.

Failures are counted per name and address, per address, and per name. A count starts with a failure and ends
LOGIN_COOLOFF later; at its limit, attempts are refused for as long, before a password is hashed. The limit per name
does not apply to addresses from which the user has logged in recently, since anyone could lock them out.

An attempt is counted before it is made, and the count is undone if it succeeds, so parallel attempts cannot exceed a
limit. Unknown names are counted too, or a lockout would reveal which names exist. They share some thousands of
counts, which bounds the rows, and are not stored: a name may be a password typed into the wrong field.
"""

import enum
import logging
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import F
from django.db.models.functions import Now
from django.http import HttpRequest

from accounts.hashing import TooBusy
from accounts.models import LoginFailures, StaffLogin
from common.crypto import digest
from common.db import fetch

logger = logging.getLogger(__name__)

# IPv6 addresses are counted by the network of their subscriber.
_SUBSCRIBER_BITS = 64
# The number of counts for unknown names.
_UNKNOWN_NAMES = 4096

_COUNT = """
INSERT INTO accounts_loginfailures AS kept (key, user_id, address, failures, ends_at)
VALUES (%(key)s, %(user)s, %(address)s, 1, statement_timestamp() + %(cooloff)s)
    ON CONFLICT (key) DO UPDATE
   SET failures = CASE WHEN kept.ends_at <= statement_timestamp() THEN 1
                       ELSE least(kept.failures, %(most)s) + 1 END,
       ends_at = CASE WHEN kept.ends_at <= statement_timestamp() OR kept.failures + 1 = %(most)s
                      THEN excluded.ends_at ELSE kept.ends_at END
RETURNING failures, ends_at
"""


class LimitKind(enum.Enum):
    PAIR = "this name from this address"
    ADDRESS = "this address, with any names"
    NAME = "this name, from any addresses"


class Locked(Exception):
    """Too many failures: attempts are refused until `until`. `LockoutMiddleware` responds with a page."""

    def __init__(self, kind: LimitKind, until: datetime) -> None:
        super().__init__(f"Log-ins failed too often: {kind.value}.")
        self.kind = kind
        self.until = until


@dataclass(frozen=True)
class _Limit:
    kind: LimitKind
    key: bytes
    most: int
    # Shown to superusers.
    user: int | None
    address: str | None


@dataclass
class Attempt:
    """An attempt at a password or a code, which `attempt` counts as a failure unless `is_wrong` is set to False."""

    user: User | None
    limits: list[_Limit]
    full: list[Locked] = field(default_factory=list)
    is_wrong: bool = True

    def count(self) -> None:
        """Count it. Raises Locked if parallel attempts have reached the limit."""
        for limit in self.limits:
            given: dict[str, Any] = {
                "key": limit.key,
                "user": limit.user,
                "address": limit.address,
                "most": limit.most,
            }
            [(failures, ends_at)] = fetch(_COUNT, given | {"cooloff": settings.LOGIN_COOLOFF})
            if failures > limit.most:
                raise Locked(limit.kind, ends_at)
            if failures == limit.most:
                self.full.append(Locked(limit.kind, ends_at))

    def failed(self) -> None:
        """Leave it counted. Raises Locked if it reached the limit."""
        event = "login.locked_out" if self.full else "login.failed"
        logger.warning("%s user=%s", event, self.user.pk if self.user else "unknown")
        if self.full:
            raise self.full[0]

    def undo(self) -> None:
        """Undo the count of this attempt. Earlier failures stay counted until a complete log-in."""
        counted = LoginFailures.objects.filter(key__in=[limit.key for limit in self.limits], failures__gt=0)
        counted.update(failures=F("failures") - 1)


@contextmanager
def attempt(request: HttpRequest, username: str | None) -> Iterator[Attempt]:
    """Count an attempt at a password or a code. Raises Locked after too many failures.

    Without a name it counts for the address alone, so that attempts from other addresses lock no user out. Set
    `is_wrong` within it. An attempt that was TooBusy is not counted.
    """
    one = Attempt(*_limits(request, username))
    _require_open(one)
    one.count()
    try:
        yield one
    except TooBusy:
        one.undo()
        raise
    if one.is_wrong:
        one.failed()
    else:
        one.undo()


def require_open(request: HttpRequest, user: User) -> None:
    """Raise Locked if attempts for a user are refused now."""
    _require_open(Attempt(*_limits(request, user.get_username())))


def clear(request: HttpRequest, user: User) -> None:
    """Clear the failures of a user from the request's address, after a complete log-in."""
    _, limits = _limits(request, user.get_username())
    LoginFailures.objects.filter(key__in=[limit.key for limit in limits if limit.kind is LimitKind.PAIR]).delete()


def client_address(request: HttpRequest) -> str | None:
    """Return the client's address, or None if it cannot be trusted.

    Each proxy appends the address of its caller to X-Forwarded-For, so our outermost proxy wrote the entry
    PROXY_COUNT from the end. Clients can forge the entries before it.
    """
    found = request.META.get("REMOTE_ADDR", "")
    if settings.BEHIND_PROXY:
        chain = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        found = chain[-settings.PROXY_COUNT] if len(chain) >= settings.PROXY_COUNT else ""
    try:
        address = ip_address(found.strip())
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ip_network((address, _SUBSCRIBER_BITS), strict=False).network_address)
    return str(address)


def _require_open(one: Attempt) -> None:
    running = LoginFailures.objects.filter(key__in=[limit.key for limit in one.limits], ends_at__gt=Now())
    found = {bytes(row.key): row for row in running}
    for limit in list(one.limits):
        row = found.get(limit.key)
        if row is None or row.failures < limit.most:
            continue
        if limit.kind is LimitKind.NAME and _is_known_address(one):
            one.limits.remove(limit)
        else:
            raise Locked(limit.kind, row.ends_at)


def _is_known_address(one: Attempt) -> bool:
    [address] = [limit.address for limit in one.limits if limit.kind is LimitKind.PAIR]
    since = Now() - settings.LOGIN_RECORD_DAYS
    return one.user is not None and (
        StaffLogin.objects.filter(user=one.user, address=address, at__gt=since, address__isnull=False).exists()
    )


def _limits(request: HttpRequest, username: str | None) -> tuple[User | None, list[_Limit]]:
    address = client_address(request)
    key = _key(LimitKind.ADDRESS, b"", address)
    by_address = _Limit(LimitKind.ADDRESS, key, settings.LOGIN_FAILURES_PER_ADDRESS, None, address)
    if username is None:
        return None, [by_address]
    typed = unicodedata.normalize("NFKC", username).casefold().replace("\0", "")
    user = User.objects.filter(username__iexact=typed).only("pk").order_by("pk").first()
    name = digest("login", 0, typed)
    if user is None:
        name = digest("login", 0, f"unknown {int.from_bytes(name[:8]) % _UNKNOWN_NAMES}")
    pk = user.pk if user else None
    return user, [
        _Limit(LimitKind.PAIR, _key(LimitKind.PAIR, name, address), settings.LOGIN_FAILURES, pk, address),
        by_address,
        _Limit(LimitKind.NAME, _key(LimitKind.NAME, name, None), settings.LOGIN_FAILURES_PER_NAME, pk, None),
    ]


def _key(kind: LimitKind, name: bytes, address: str | None) -> bytes:
    return digest("login", 1, f"{kind.name} {name.hex()} {address}")
