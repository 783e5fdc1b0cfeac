"""Leases of daily extracts: take one to build it, and record the result. The extract's row is the queue.

A worker that slept through its lease changes nothing (`common.leases`). An expired lease counts as an attempt.
"""

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import BigIntegerField, Case, CharField, Exists, F, Func, OuterRef, Q, QuerySet, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Now

from chatbots.buckets import StorageLocation
from chatbots.models import Bucket, Chatbot, SilentStorage
from common import leases, proc
from common.db import close_if_unusable, lock_until_commit, retry_while_unavailable
from common.storage import Written, errors
from conversations.models import DailyExtract
from conversations.placement import machines

logger = logging.getLogger(__name__)

State, Hosting = DailyExtract.State, Bucket.Hosting

MAX_ATTEMPTS = 5
# A day that changes is not built for this long while there is other work. Then it is built once for all changes.
SETTLING = timedelta(seconds=30)
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)

_DETAIL_LENGTH = DailyExtract._meta.get_field("error_detail").max_length

_RUNNING_LOCK = 0x6463_6578  # "dcex": one worker at a time checks whether another extract may begin

_TO_BUILD = Q(state__in=[State.PENDING, State.STALE])
_IS_HELD = Q(token__isnull=False, next_attempt_at__gt=Now())
# The file's location: a file in the hosted bucket is replaced there, whatever the settings are now.
_IS_REPLACED = Q(key__isnull=False, hosting=Hosting.HOSTED)
_BUCKET = Bucket.objects.filter(chatbot=OuterRef("chatbot"))
_TO_HOSTED = _IS_REPLACED | Exists(_BUCKET.filter(hosting=Hosting.HOSTED))
_TO_CLIENT = ~_IS_REPLACED & Exists(_BUCKET.filter(hosting=Hosting.CLIENT))
# One extract of a bucket at a time, so that no client occupies all threads.
_IS_CALLED = Exists(DailyExtract.objects.filter(_TO_BUILD & _IS_HELD, chatbot=OuterRef("chatbot")))
_RESTS = Exists(SilentStorage.objects.filter(chatbot=OuterRef("chatbot"), rests_until__gt=Now()))

_FRESH: dict[str, Any] = {"attempts": 0, "error_code": "", "error_detail": ""}


def take_next(*, settled: bool) -> DailyExtract | None:
    """Take the next extract that is due and goes to the hosted bucket, or return None.

    Stale days come before new ones. Then a chatbot is drawn at random, and the day that has been stale longest is
    taken. `settled` skips days that became due just now. All but one of a cluster's workers may build extracts at a
    time, whatever the number of clusters: one is always left for requests.
    """
    with transaction.atomic():
        if not _is_any_waiting():
            return None
        lock_until_commit(_RUNNING_LOCK)
        if DailyExtract.objects.filter(_TO_BUILD & _IS_HELD & _TO_HOSTED).count() >= leases.max_long_workers():
            return None
        due = _served().filter(_TO_HOSTED).alias(changed_at=Coalesce("stale_at", "created_at"))
        return _take(due.filter(changed_at__lte=Now() - (SETTLING if settled else timedelta())))


def take_for_bucket(*, busy: Collection[int] = ()) -> DailyExtract | None:
    """Take the next extract that is due and goes to a client's bucket, except of the chatbots in `busy`."""
    if not _is_any_waiting():
        return None
    return _take(_served().filter(_TO_CLIENT, ~_IS_CALLED, ~_RESTS).exclude(chatbot__in=busy))


def take_one(extract_id: int) -> DailyExtract | None:
    """Take this extract if it is waiting to be built, due or not, and no worker holds it."""
    return _take(_waiting().filter(_TO_HOSTED | _TO_CLIENT, pk=extract_id), at_any_time=True)


def expired() -> QuerySet[DailyExtract]:
    """Return the expired hosted extracts whose file is not removed yet."""
    return DailyExtract.objects.filter(expires_at__lt=Now(), key__isnull=False, hosting=Hosting.HOSTED)


def take_expired() -> DailyExtract | None:
    """Take the next expired hosted extract, to remove its file. It is not built again: its worker began before."""
    return _take(expired().order_by("expires_at"))


def present_version(extract: DailyExtract) -> int:
    """Renew the lease, and return the day's present version. Raises LeaseLost."""
    extract.write()
    return DailyExtract.objects.values_list("version", flat=True).get(pk=extract.pk)


def record(extract: DailyExtract, location: StorageLocation, key: str, upload_id: str | None) -> None:
    """Record the file's location before anything of it exists. Raises LeaseLost."""
    # An expired hosted file is gone, and nothing of this day was delivered to the client.
    is_first = not location.is_hosted and extract.hosting == Hosting.HOSTED
    bucket = "" if location.is_hosted else location.bucket
    is_elsewhere = (extract.hosting, extract.bucket, extract.key) != (location.hosting, bucket, key)
    if extract.hosting == Hosting.CLIENT and extract.made_version and is_elsewhere:
        extract.was_left_in_former_bucket = True
    extract.write(
        was_left_in_former_bucket=extract.was_left_in_former_bucket,
        made_version=None if is_first else extract.made_version,
        hosting=location.hosting,
        bucket=bucket,
        key=key,
        upload_id=upload_id,
        # If building fails later, the incomplete file is removed too.
        expires_at=_expiry(extract, location),
    )


def finish(extract: DailyExtract, location: StorageLocation, written: Written, *, rows: int, version: int) -> bool:
    """Record the published file, as read at `version`; return whether that is still the day's version.

    If not, the day is stale. Raises LeaseLost.
    """
    is_current = Q(version=version)
    if not extract.release(
        state=Case(When(is_current, then=Value(State.DONE)), default=Value(State.STALE), output_field=CharField()),
        stale_at=Case(When(is_current, then=None), default=Coalesce("stale_at", Now())),
        made_version=version,
        rows=rows,
        bytes=written.bytes,
        sha256=written.sha256,
        upload_id=None,
        finished_at=Now(),
        expires_at=_expiry(extract, location),
        **_FRESH,
    ):
        raise leases.LeaseLost
    return DailyExtract.objects.filter(is_current, pk=extract.pk).exists()


def requeue(extract: DailyExtract, *, wait: timedelta = timedelta()) -> None:
    """Release the extract without a lost attempt. It is not taken before `wait` is over."""
    close_if_unusable()  # the connection may be what failed
    extract.release(wait=wait)


def postpone(extract: DailyExtract, code: str, detail: str, *, wait: timedelta) -> None:
    """As `requeue`, once the database answers, and record the reason."""
    retry_while_unavailable(lambda: extract.release(wait=wait, **_error(code, detail)))


def fail(extract: DailyExtract, code: str, detail: str, *, retryable: bool) -> None:
    """Record an error. The extract is retried after a wait, or fails if no attempt is left or a retry cannot help."""
    logger.warning("extract.attempt_failed extract=%s code=%s", extract.pk, code)
    most = errors.max_attempts(code, retryable=retryable, most=MAX_ATTEMPTS)
    wait = leases.back_off(extract.attempts, first=_FIRST_WAIT, longest=_LONGEST_WAIT, factor=4)
    retry_while_unavailable(lambda: extract.release(wait=wait, **_failed(extract, code, detail, most=most)))


def refuse(extract: DailyExtract, code: str, detail: str, *, retryable: bool, wait: timedelta) -> None:
    """Record that storage did not remove the file of an expired day. It is tried again after `wait`.

    An extract that is waiting to be built fails, unless a retry can help: the error explains the delay of a deletion
    that waits for the file's removal. A finished one does not change.
    """
    fields = _error(code, detail)
    if not retryable:
        fields["state"] = Case(When(_TO_BUILD, then=Value(State.FAILED)), default=F("state"))
    extract.release(wait=wait, **fields)


def expire(extract: DailyExtract) -> None:
    extract.release(state=State.EXPIRED, key=None, upload_id=None, stale_at=None, **_FRESH)


def release_all() -> None:
    """Release all days. Workers that build one lose their lease."""
    DailyExtract.objects.exclude(token=None).update(token=None, next_attempt_at=Now())


def requeue_expired() -> None:
    _requeue_lost(Q(next_attempt_at__lt=Now()), blamed=None)


def requeue_from_cluster(cluster: str, *, blamed: str | None) -> None:
    """Release the extracts of a dead cluster. See `compliance.work.claims.requeue_from_cluster`."""
    _requeue_lost(Q(owner__startswith=f"{cluster}:"), blamed=blamed)


@transaction.atomic
def _requeue_lost(which: Q, *, blamed: str | None) -> None:
    lost = DailyExtract.objects.filter(_TO_BUILD & which, token__isnull=False).order_by("pk")
    for extract in lost.select_for_update(skip_locked=True, no_key=True):
        is_to_blame = blamed is None or extract.owner == blamed
        detail = "The worker stopped in the middle of the work. Look at its logs, then order the extract again."
        extract.release(**_failed(extract, "worker_lost", detail, most=MAX_ATTEMPTS) if is_to_blame else {})


def _take(rows: QuerySet[DailyExtract], *, at_any_time: bool = False) -> DailyExtract | None:
    return leases.take(rows, at_any_time=at_any_time, owner=proc.owner())


def _waiting() -> QuerySet[DailyExtract]:
    # A new random order each time, so that a chatbot with many days does not delay others.
    turn = Func(Value(uuid4()), F("chatbot"), function="uuid_hash_extended", output_field=BigIntegerField())
    rows = DailyExtract.objects.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), _TO_BUILD)
    return rows.order_by(F("state").desc(), turn, "stale_at", "pk")  # `stale` before `pending`


def _served() -> QuerySet[DailyExtract]:
    """As `_waiting`, without extracts on a silent machine of Citus, or of a chatbot that a restore has left closed.

    Extracts with an expired lease are left out until `requeue_expired` has counted the attempt.
    """
    closed = list(Chatbot.objects.exclude(closed_at=None).values_list("pk", flat=True))
    return machines.answering(_waiting().filter(token=None).exclude(chatbot__in=closed))


def _is_any_waiting() -> bool:
    return DailyExtract.objects.filter(_TO_BUILD).exists()


def _expiry(extract: DailyExtract, location: StorageLocation) -> datetime | Combinable | None:
    """Return the expiry of the file. A replaced hosted file keeps its expiry."""
    if not location.is_hosted:
        return None
    kept = extract.expires_at if extract.made_version is not None else None
    return kept or Now() + settings.HOSTED_FILE_DAYS


def _failed(extract: DailyExtract, code: str, detail: str, *, most: int) -> dict[str, Any]:
    attempts = extract.attempts + 1
    failed = {"state": State.FAILED} if attempts >= most else {}
    return {"attempts": attempts, **failed, **_error(code, detail)}


def _error(code: str, detail: str) -> dict[str, Any]:
    return {"error_code": code, "error_detail": detail[:_DETAIL_LENGTH]}
