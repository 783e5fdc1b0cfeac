"""Leases of daily extracts: take one to build it, renew it, and record the result. The extract's row is the queue.

A worker holds the row by a token and an expiry, by the database's clock. Each statement names the token, so a worker
that slept through its lease changes nothing. An expired lease counts as an attempt.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction

from chatbots.buckets import StorageLocation
from chatbots.models import Chatbot
from common import proc
from common.db import array, close_if_unusable, execute, fetch, fetch_one, lock_until_commit, retry_while_unavailable
from common.leases import LEASE_END, most_workers, take_first
from common.storage import Written, errors
from conversations import machines
from conversations.models import DailyExtract

logger = logging.getLogger(__name__)

# As for a claim of requests: the slowest storage call, with its retries, fits in.
LEASE_SECONDS = 90
MAX_ATTEMPTS = 5
# A day that is being changed is not built for this long while there is other work: then once for all changes.
SETTLING = timedelta(seconds=30)
_BACK_OFF = timedelta(seconds=30)

_DETAIL_LENGTH = DailyExtract._meta.get_field("error_detail").max_length

_RUNNING_LOCK = 0x6463_6578  # "dcex": one worker at a time checks whether another extract may begin
# Where the file of a day `d` goes: a file in the hosted bucket is replaced there, whatever the settings are now.
_TO_HOSTED = """
((d.key IS NOT NULL AND d.hosting = 'hosted')
 OR EXISTS (SELECT FROM chatbots_bucket b WHERE b.chatbot_id = d.chatbot_id AND b.hosting = 'hosted'))
"""
_TO_CLIENT = """
(NOT (d.key IS NOT NULL AND d.hosting = 'hosted')
 AND EXISTS (SELECT FROM chatbots_bucket b WHERE b.chatbot_id = d.chatbot_id AND b.hosting = 'client'))
"""
_COUNT_RUNNING = f"""
SELECT count(*) FROM conversations_dailyextract d
 WHERE d.state IN ('pending', 'stale') AND d.claimed_until > clock_timestamp() AND {_TO_HOSTED}
"""  # noqa: S608  (a text of ours)

_DUE = """
(d.not_before IS NULL OR d.not_before <= clock_timestamp())
AND coalesce(d.stale_at, d.created_at) <= clock_timestamp() - make_interval(secs => %(settling)s)
"""
# One of a bucket at a time, so that no client has all the threads.
_IS_FREE = """
d.chatbot_id <> ALL(%(busy)s::bigint[])
AND NOT EXISTS (
    SELECT FROM conversations_dailyextract other
     WHERE other.state IN ('pending', 'stale') AND other.chatbot_id = d.chatbot_id
       AND other.claimed_until > clock_timestamp())
AND NOT EXISTS (
    SELECT FROM chatbots_silentstorage s
     WHERE s.chatbot_id = d.chatbot_id AND s.rests_until > clock_timestamp())
"""


def _take_statement(condition: str, *, order: str) -> str:
    return take_first(
        "conversations_dailyextract",
        "id",
        condition,
        order=order,
        returning="id, chatbot_id, day, starts_at, ends_at, state, hosting, bucket, key, upload_id, made_version,"
        " created_at, error_code",
    )


def _take_to_build(condition: str) -> str:
    is_waiting = "d.state IN ('pending', 'stale') AND (d.expires_at IS NULL OR d.expires_at > statement_timestamp())"
    # Drawn anew for each, so that no chatbot's many days delay another's.
    turn = "uuid_hash_extended(%(token)s, d.chatbot_id)"
    return _take_statement(f"{is_waiting} AND {condition}", order=f"d.state = 'pending', {turn}, d.stale_at, d.id")


# Those of a silent machine of Citus stay queued, and those of a chatbot that a restore has left closed.
_IS_SERVED = "d.{answering} AND d.chatbot_id <> ALL(%(closed)s::bigint[])"
_TAKE_NEXT = _take_to_build(f"{_DUE} AND {_TO_HOSTED} AND {_IS_SERVED}")
_TAKE_FOR_BUCKET = _take_to_build(f"{_DUE} AND {_TO_CLIENT} AND {_IS_FREE} AND {_IS_SERVED}")
_TAKE_ONE = _take_to_build(f"d.id = %(id)s AND ({_TO_HOSTED} OR {_TO_CLIENT})")

# An expired extract is not built again, so a worker that holds one began before.
_TAKE_EXPIRED = _take_statement(
    """
d.expires_at < statement_timestamp() AND d.key IS NOT NULL AND d.hosting = 'hosted'
AND (d.not_before IS NULL OR d.not_before <= clock_timestamp())
""",
    order="d.expires_at",
)

# What the holder of a lease can set on its row.
_RENEWED = f"claimed_until = {LEASE_END}"
_RELEASED = "token = NULL, claimed_until = NULL"
_FRESH = "attempts = 0, not_before = NULL, error_code = '', error_detail = ''"
# A hosted file that is replaced keeps its expiry.
_EXPIRY = """
CASE WHEN made_version IS NOT NULL AND expires_at IS NOT NULL THEN expires_at
     ELSE clock_timestamp() + make_interval(secs => %(life)s) END
"""
_RECORD = f"""
hosting = %(hosting)s, bucket = %(bucket)s, key = %(key)s, upload_id = %(upload)s,
expires_at = CASE %(hosting)s WHEN 'hosted' THEN {_EXPIRY} END, {_RENEWED}
"""
_FINISH = f"""
state = CASE WHEN version = %(version)s THEN 'done' ELSE 'stale' END, made_version = %(version)s,
rows = %(rows)s, bytes = %(bytes)s, sha256 = %(sha256)s, upload_id = NULL, finished_at = clock_timestamp(),
expires_at = CASE hosting WHEN 'hosted' THEN {_EXPIRY} END,
stale_at = CASE WHEN version = %(version)s THEN NULL ELSE coalesce(stale_at, clock_timestamp()) END,
{_RELEASED}, {_FRESH}
"""
_REQUEUE = f"{_RELEASED}, not_before = clock_timestamp() + make_interval(secs => %(wait)s)"
_PUT_OFF = f"error_code = %(code)s, error_detail = %(detail)s, {_REQUEUE}"
_FAIL = f"""
attempts = attempts + 1, error_code = %(code)s, error_detail = %(detail)s, {_RELEASED},
state = CASE WHEN attempts + 1 >= %(most)s THEN 'failed' ELSE state END,
not_before = clock_timestamp() + make_interval(secs => %(back_off)s * 4 ^ attempts)
"""
# The error names what delays a deletion that waits for the file's removal; a finished file stays as it is.
_REFUSE = f"""
state = CASE WHEN %(final)s AND state IN ('pending', 'stale') THEN 'failed' ELSE state END,
{_PUT_OFF}
"""
_EXPIRE = f"state = 'expired', key = NULL, upload_id = NULL, stale_at = NULL, {_RELEASED}, {_FRESH}"

_REQUEUE_LOST = """
UPDATE conversations_dailyextract e
   SET token = NULL, claimed_until = NULL, attempts = e.attempts + lost.counts,
       error_code = CASE lost.counts WHEN 1 THEN 'worker_lost' ELSE e.error_code END,
       error_detail = CASE lost.counts WHEN 1 THEN
           'The worker stopped in the middle of the work. Look at its logs, then order the extract again.'
           ELSE e.error_detail END,
       state = CASE WHEN lost.counts = 1 AND e.attempts + 1 >= %(most)s THEN 'failed' ELSE e.state END
  FROM (SELECT id, CASE WHEN %(blamed)s::text IS NULL OR owner = %(blamed)s THEN 1 ELSE 0 END AS counts
          FROM conversations_dailyextract
         WHERE state IN ('pending', 'stale') AND {which}
         ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) lost
 WHERE e.id = lost.id
"""
_REQUEUE_EXPIRED = _REQUEUE_LOST.format(which="claimed_until < clock_timestamp()")
_REQUEUE_FROM_CLUSTER = _REQUEUE_LOST.format(which="token IS NOT NULL AND starts_with(owner, %(cluster)s || ':')")


class ExtractLost(Exception):
    """The lease ran out and another worker has the extract: stop, and publish nothing."""


@dataclass(frozen=True)
class ExtractLease:
    """An extract that a worker has taken, as its row was then."""

    id: int
    chatbot_id: int
    day: date
    starts_at: datetime
    ends_at: datetime
    state: str
    hosting: str
    bucket: str
    key: str | None
    upload_id: str | None
    made_version: int | None
    created_at: datetime
    error_code: str
    token: UUID
    may_call_client: bool = True  # else only the hosted bucket

    def renew(self) -> int:
        """Renew the lease, and return the day's present version. Raises ExtractLost."""
        return self._set_or_lose(_RENEWED)

    def record(self, location: StorageLocation, key: str, upload_id: str | None) -> None:
        """Record where the file goes, before anything of it exists. Raises ExtractLost."""
        # With its expiry: if building fails once something is there, that is removed too.
        self._set_or_lose(
            _RECORD,
            hosting=location.hosting,
            bucket="" if location.is_hosted else location.bucket,
            key=key,
            upload=upload_id,
            life=settings.HOSTED_FILE_DAYS.total_seconds(),
        )

    def finish(self, written: Written, *, rows: int, version: int) -> bool:
        """Record the published file, as read at `version`; return whether that is still the day's version.

        If not, the day is stale. Raises ExtractLost.
        """
        return version == self._set_or_lose(
            _FINISH,
            version=version,
            rows=rows,
            bytes=written.bytes,
            sha256=written.sha256,
            life=settings.HOSTED_FILE_DAYS.total_seconds(),
        )

    def requeue(self, *, wait: timedelta = timedelta()) -> None:
        """Release it without a lost attempt, not to be taken before `wait` is over."""
        close_if_unusable()  # the connection may be what failed
        self._execute(_REQUEUE, wait=wait.total_seconds())

    def put_off(self, code: str, detail: str, *, wait: timedelta) -> None:
        """As `requeue`, once the database answers, and record why."""
        retry_while_unavailable(
            lambda: self._execute(_PUT_OFF, code=code, detail=detail[:_DETAIL_LENGTH], wait=wait.total_seconds())
        )

    def fail(self, code: str, detail: str, *, retryable: bool) -> None:
        """Record an error: retry after a wait, or fail when no attempt is left or a retry cannot help."""
        logger.warning("extract.attempt_failed extract=%s code=%s", self.id, code)
        retry_while_unavailable(
            lambda: self._execute(
                _FAIL,
                code=code,
                detail=detail[:_DETAIL_LENGTH],
                most=errors.most_attempts(code, retryable=retryable, most=MAX_ATTEMPTS),
                back_off=_BACK_OFF.total_seconds(),
            )
        )

    def refuse(self, code: str, detail: str, *, retryable: bool, wait: timedelta) -> None:
        """Record that storage did not remove the file of an expired day, to be tried again after `wait`.

        An extract that is waiting to be built fails, unless a retry can help.
        """
        detail = detail[:_DETAIL_LENGTH]
        self._execute(_REFUSE, code=code, detail=detail, final=not retryable, wait=wait.total_seconds())

    def expire(self) -> None:
        self._execute(_EXPIRE)

    def _set_or_lose(self, changes: str, **values: Any) -> int:
        version = self._execute(changes, **values)
        if version is None:
            raise ExtractLost
        return version

    def _execute(self, changes: str, **values: Any) -> int | None:
        """Set columns if the lease is still held; return the day's version, or None."""
        statement = f"""
UPDATE conversations_dailyextract SET {changes} WHERE id = %(id)s AND token = %(token)s RETURNING version
"""  # noqa: S608  (texts of ours)
        row = fetch_one(statement, {"id": self.id, "token": self.token, "lease": LEASE_SECONDS, **values})
        return row[0] if row else None


def take_next(*, settled: bool) -> ExtractLease | None:
    """Take the next extract that is due and goes to the hosted bucket, or return None.

    Stale days come before new ones. Of these, a chatbot is drawn at random, and its day that has been stale longest.
    `settled` skips days that became due just now. All but one of a cluster's workers may build extracts at a time,
    whatever the number of clusters: one is always left for requests.
    """
    with transaction.atomic():
        if not _is_any_waiting():
            return None
        lock_until_commit(_RUNNING_LOCK)
        [(running,)] = fetch(_COUNT_RUNNING)
        if running >= most_workers():
            return None
        take = _TAKE_NEXT.format(answering=machines.on_answering())
        lease = _take(take, settling=SETTLING.total_seconds() if settled else 0, closed=_closed())
    return replace(lease, may_call_client=False) if lease else None


def take_for_bucket(*, busy: Collection[int] = ()) -> ExtractLease | None:
    """Take the next extract that is due and goes to a client's bucket, except of the chatbots in `busy`."""
    if not _is_any_waiting():
        return None
    take = _TAKE_FOR_BUCKET.format(answering=machines.on_answering())
    return _take(take, settling=0, busy=array(busy), closed=_closed())


def take_one(extract_id: int) -> ExtractLease | None:
    """Take this extract if it is waiting to be built, due or not, and no worker holds it."""
    return _take(_TAKE_ONE, id=extract_id)


def take_expired() -> ExtractLease | None:
    """Take the next expired hosted extract, to remove its file."""
    return _take(_TAKE_EXPIRED)


def requeue_expired() -> None:
    execute(_REQUEUE_EXPIRED, {"most": MAX_ATTEMPTS, "blamed": None})


def requeue_from_cluster(cluster: str, *, blamed: str | None) -> None:
    """Release the extracts of a dead cluster. See `compliance.work.claims.requeue_from_cluster`."""
    execute(_REQUEUE_FROM_CLUSTER, {"most": MAX_ATTEMPTS, "blamed": blamed, "cluster": cluster})


def _is_any_waiting() -> bool:
    return DailyExtract.objects.filter(state__in=["pending", "stale"]).exists()


def _closed() -> str:
    return array(Chatbot.objects.exclude(closed_at=None).values_list("pk", flat=True))


def _take(statement: str, **values: Any) -> ExtractLease | None:
    token = uuid4()
    row = fetch_one(statement, {"token": token, "owner": proc.owner(), "lease": LEASE_SECONDS, **values})
    return ExtractLease(*(*row, token)) if row else None
