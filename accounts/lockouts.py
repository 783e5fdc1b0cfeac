"""How often log-ins may fail: asked before a password is hashed, counted in the database for all processes together.

Failures are counted by name and address together, by address whatever the names, and by name whatever the addresses.
A count begins with a failure and ends LOGIN_COOLOFF later. Once it is full, nothing is looked at for as long. The
third does not bind where a person has logged in from lately, or anybody could lock them out.

An attempt is counted before it is made and given back when it was right, so of many at once no more are made than may
be. A name that nobody has may be a password or a chatter's mail address, typed into the wrong field. It is counted
alike, or the lock-out would tell which names exist. But such names share some thousands of counts, so there are no
more rows than that of them, whatever is sent.
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

# Of an address of version 6 its subscriber's network: one subscriber has more addresses than could be counted.
_SUBSCRIBER_BITS = 64
# How many counts the names share that nobody has.
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


class Why(enum.Enum):
    """What has failed too often."""

    PAIR = "this name from this address"
    ADDRESS = "this address, with whatever names"
    NAME = "this name, from whatever addresses"


class Locked(Exception):
    """Log-ins failed too often: nothing is looked at until `until`. `LockoutMiddleware` answers with the page."""

    def __init__(self, why: Why, until: datetime) -> None:
        super().__init__(f"Log-ins failed too often: {why.value}.")
        self.why = why
        self.until = until


@dataclass(frozen=True)
class _Limit:
    why: Why
    key: bytes
    most: int
    # What superusers are shown of it.
    user: int | None
    address: str | None


@dataclass
class Attempt:
    """One try at a password or a code, counted as a failure until it is told to be none."""

    user: User | None
    limits: list[_Limit]
    full: list[Locked] = field(default_factory=list)

    def count(self) -> None:
        """Count it. Raises Locked where others, at the same moment, have taken the last tries."""
        for limit in self.limits:
            given: dict[str, Any] = {
                "key": limit.key,
                "user": limit.user,
                "address": limit.address,
                "most": limit.most,
            }
            [(failures, ends_at)] = fetch(_COUNT, given | {"cooloff": settings.LOGIN_COOLOFF})
            if failures > limit.most:
                raise Locked(limit.why, ends_at)
            if failures == limit.most:
                self.full.append(Locked(limit.why, ends_at))

    def failed(self) -> None:
        """Leave it counted. Raises Locked if it was the last of too many."""
        event = "login.locked_out" if self.full else "login.failed"
        logger.warning("%s user=%s", event, self.user.pk if self.user else "unknown")
        if self.full:
            raise self.full[0]

    def was_no_failure(self) -> None:
        """Give it back. What failed before stays counted: only a whole log-in clears that."""
        counted = LoginFailures.objects.filter(key__in=[limit.key for limit in self.limits], failures__gt=0)
        counted.update(failures=F("failures") - 1)


@contextmanager
def attempt(request: HttpRequest, username: str) -> Iterator[Attempt]:
    """Let a password or a code be tried, and count it. Raises Locked instead where too many failed.

    Say within it that it `failed` or that it `was_no_failure`. What could not be looked at counts for nothing.
    """
    one = Attempt(*_limits(request, username))
    _require_open(one)
    one.count()
    try:
        yield one
    except TooBusy:
        one.was_no_failure()
        raise


def require_open(request: HttpRequest, user: User) -> None:
    """Raise Locked where nothing may be tried for a user."""
    _require_open(Attempt(*_limits(request, user.get_username())))


def clear(request: HttpRequest, user: User) -> None:
    """Forget what failed of a user from where the call comes: a whole log-in was right."""
    _, limits = _limits(request, user.get_username())
    LoginFailures.objects.filter(key__in=[limit.key for limit in limits if limit.why is Why.PAIR]).delete()


def client_address(request: HttpRequest) -> str | None:
    """Return where a call comes from, as far as that can be believed.

    Each proxy adds the address that called it at the end of X-Forwarded-For, so of ours the outermost has written
    the entry so many places from the end. What stands before it anybody can have sent.
    """
    told = request.META.get("REMOTE_ADDR", "")
    if settings.BEHIND_PROXY:
        chain = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        told = chain[-settings.PROXY_COUNT] if len(chain) >= settings.PROXY_COUNT else ""
    try:
        address = ip_address(told.strip())
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
        if limit.why is Why.NAME and _has_come_from(one):
            one.limits.remove(limit)
        else:
            raise Locked(limit.why, row.ends_at)


def _has_come_from(one: Attempt) -> bool:
    """Say whether the person has logged in from this address, in the time for which that is kept."""
    [address] = [limit.address for limit in one.limits if limit.why is Why.PAIR]
    since = Now() - settings.LOGIN_RECORD_DAYS
    return one.user is not None and (
        StaffLogin.objects.filter(user=one.user, address=address, at__gt=since, address__isnull=False).exists()
    )


def _limits(request: HttpRequest, username: str) -> tuple[User | None, list[_Limit]]:
    typed = unicodedata.normalize("NFKC", username).casefold().replace("\0", "")
    user = User.objects.filter(username__iexact=typed).only("pk").order_by("pk").first()
    name, address = digest("login", 0, typed), client_address(request)
    if user is None:
        name = digest("login", 0, f"unknown {int.from_bytes(name[:8]) % _UNKNOWN_NAMES}")
    pk = user.pk if user else None
    return user, [
        _Limit(Why.PAIR, _key(Why.PAIR, name, address), settings.LOGIN_FAILURES, pk, address),
        _Limit(Why.ADDRESS, _key(Why.ADDRESS, b"", address), settings.LOGIN_FAILURES_PER_ADDRESS, None, address),
        _Limit(Why.NAME, _key(Why.NAME, name, None), settings.LOGIN_FAILURES_PER_NAME, pk, None),
    ]


def _key(why: Why, name: bytes, address: str | None) -> bytes:
    return digest("login", 1, f"{why.name} {name.hex()} {address}")
