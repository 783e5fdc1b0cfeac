"""Take an extract to make it, renew the lease, and say what became of it. The row is claim and fence.

Whoever makes an extract holds its row by a token and a lease, by the database's clock; each statement here names the
token, so a worker that slept through its lease changes nothing. An expired lease counts as an attempt.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, transaction

from chatbots.buckets import StorageLocation
from common import proc
from common.db import array, execute, fetch, fetch_one, retry_while_unavailable
from common.leases import LEASE_END, most_workers, take_first
from common.storage import Written, errors
from conversations.models import DailyExtract

logger = logging.getLogger(__name__)

# As a claim of requests: the slowest call to the storage, with its retries, fits in.
LEASE_SECONDS = 90
MAX_ATTEMPTS = 5
# A day that is being changed is left alone so long while there is other work: made once for all that changed.
SETTLING_SECONDS = 30
_BACK_OFF = timedelta(seconds=30)
# A bucket that is given a rest is asked again after so long; that is no attempt.
_REST = timedelta(seconds=60)

_DETAIL_LENGTH = DailyExtract._meta.get_field("error_detail").max_length

_AT_WORK_LOCK = 0x6463_6578  # "dcex": one worker at a time looks whether another extract may be begun
# Where the file of a day `d` goes: what lies in the hosted bucket is made again there, whatever is set since.
_TO_HOSTED = """
((d.key IS NOT NULL AND d.hosting = 'hosted')
 OR EXISTS (SELECT FROM chatbots_bucket b WHERE b.chatbot_id = d.chatbot_id AND b.hosting = 'hosted'))
"""
_TO_CLIENT = """
(NOT (d.key IS NOT NULL AND d.hosting = 'hosted')
 AND EXISTS (SELECT FROM chatbots_bucket b WHERE b.chatbot_id = d.chatbot_id AND b.hosting = 'client'))
"""
_AT_WORK = f"""
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


def _taking(condition: str, *, order: str) -> str:
    return take_first(
        "conversations_dailyextract",
        "id",
        condition,
        order=order,
        returning="id, chatbot_id, day, starts_at, ends_at, state, hosting, bucket, key, upload_id, made_version,"
        " created_at",
    )


def _making(which: str) -> str:
    is_wanted = "d.state IN ('pending', 'stale') AND (d.expires_at IS NULL OR d.expires_at > statement_timestamp())"
    return _taking(f"{is_wanted} AND {which}", order="d.state = 'pending', d.stale_at, d.id")


_TAKE_NEXT = _making(f"{_DUE} AND {_TO_HOSTED}")
_TAKE_FOR_BUCKET = _making(f"{_DUE} AND {_TO_CLIENT} AND {_IS_FREE}")
_TAKE_ONE = _making(f"d.id = %(id)s AND ({_TO_HOSTED} OR {_TO_CLIENT})")

# What has expired is not made again, so whoever has it now had begun before.
_TAKE_EXPIRED = _taking(
    """
d.expires_at < statement_timestamp() AND d.key IS NOT NULL AND d.hosting = 'hosted'
AND (d.not_before IS NULL OR d.not_before <= clock_timestamp())
""",
    order="d.expires_at",
)
_EXPIRE = """
UPDATE conversations_dailyextract
   SET state = 'expired', key = NULL, upload_id = NULL, stale_at = NULL, token = NULL, claimed_until = NULL,
       attempts = 0, not_before = NULL, error_code = '', error_detail = ''
 WHERE id = %(id)s AND token = %(token)s
"""

# A deletion that waits for the file to go learns by the error why it does not; what is whole else stays whole.
_REFUSE = """
UPDATE conversations_dailyextract
   SET state = CASE WHEN %(final)s AND state IN ('pending', 'stale') THEN 'failed' ELSE state END,
       token = NULL, claimed_until = NULL, error_code = %(code)s, error_detail = %(detail)s,
       not_before = clock_timestamp() + make_interval(secs => %(wait)s)
 WHERE id = %(id)s AND token = %(token)s
"""

_RENEW = f"""
UPDATE conversations_dailyextract SET claimed_until = {LEASE_END}
 WHERE id = %(id)s AND token = %(token)s RETURNING version
"""  # noqa: S608  (a text of ours)
_RECORD = f"""
UPDATE conversations_dailyextract
   SET hosting = %(hosting)s, bucket = %(bucket)s, key = %(key)s, upload_id = %(upload)s,
       expires_at = CASE %(hosting)s WHEN 'hosted' THEN
                    CASE WHEN made_version IS NOT NULL AND expires_at IS NOT NULL THEN expires_at
                         ELSE clock_timestamp() + make_interval(secs => %(life)s) END END,
       claimed_until = {LEASE_END}
 WHERE id = %(id)s AND token = %(token)s RETURNING version
"""  # noqa: S608  (a text of ours)
_FINISH = """
UPDATE conversations_dailyextract
   SET state = CASE WHEN version = %(version)s THEN 'done' ELSE 'stale' END, made_version = %(version)s,
       rows = %(rows)s, bytes = %(bytes)s, sha256 = %(sha256)s, upload_id = NULL, finished_at = clock_timestamp(),
       expires_at = CASE hosting WHEN 'hosted'
                    THEN CASE WHEN made_version IS NOT NULL AND expires_at IS NOT NULL THEN expires_at
                              ELSE clock_timestamp() + make_interval(secs => %(life)s) END END,
       stale_at = CASE WHEN version = %(version)s THEN NULL ELSE coalesce(stale_at, clock_timestamp()) END,
       token = NULL, claimed_until = NULL, attempts = 0, not_before = NULL, error_code = '', error_detail = ''
 WHERE id = %(id)s AND token = %(token)s RETURNING version
"""
_GIVE_BACK = """
UPDATE conversations_dailyextract
   SET token = NULL, claimed_until = NULL, not_before = clock_timestamp() + make_interval(secs => %(wait)s)
 WHERE id = %(id)s AND token = %(token)s
"""
_FAIL = """
UPDATE conversations_dailyextract
   SET token = NULL, claimed_until = NULL, attempts = attempts + 1, error_code = %(code)s, error_detail = %(detail)s,
       state = CASE WHEN attempts + 1 >= %(most)s THEN 'failed' ELSE state END,
       not_before = clock_timestamp() + make_interval(secs => %(back_off)s * 4 ^ attempts)
 WHERE id = %(id)s AND token = %(token)s
"""
_BREAK = """
UPDATE conversations_dailyextract e
   SET token = NULL, claimed_until = NULL, attempts = e.attempts + lost.counts,
       error_code = CASE lost.counts WHEN 1 THEN 'worker_lost' ELSE e.error_code END,
       error_detail = CASE lost.counts WHEN 1 THEN
           'The worker stopped in the middle of the work. Look at its logs, then have it made again.'
           ELSE e.error_detail END,
       state = CASE WHEN lost.counts = 1 AND e.attempts + 1 >= %(most)s THEN 'failed' ELSE e.state END
  FROM (SELECT id, CASE WHEN %(blamed)s::text IS NULL OR owner = %(blamed)s THEN 1 ELSE 0 END AS counts
          FROM conversations_dailyextract
         WHERE state IN ('pending', 'stale') AND {which}
         ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) lost
 WHERE e.id = lost.id
"""
_BREAK_EXPIRED = _BREAK.format(which="claimed_until < clock_timestamp()")
_BREAK_OF_CLUSTER = _BREAK.format(which="token IS NOT NULL AND starts_with(owner, %(cluster)s || ':')")


class ExtractLost(Exception):
    """The lease ran out and somebody else has the extract: stop, publish nothing."""


@dataclass(frozen=True)
class Held:
    """An extract in the hands of the worker that took it, as its row was then."""

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
    token: UUID
    may_call_client: bool = True  # else only the hosted bucket

    def renew(self) -> int:
        """Renew the lease, and return the version that the day has now. Raises ExtractLost."""
        return self._change(_RENEW)

    def record(self, place: StorageLocation, key: str, upload_id: str | None) -> None:
        """Write down where the file goes, before anything of it is there. Raises ExtractLost."""
        bucket = "" if place.is_hosted else place.bucket
        # With its end: should it fail once something lies there, that goes too.
        life = settings.HOSTED_FILE_DAYS.total_seconds()
        self._change(_RECORD, hosting=place.hosting, bucket=bucket, key=key, upload=upload_id, life=life)

    def finish(self, written: Written, *, rows: int, version: int) -> bool:
        """Say that the file lies there, as read at `version`; return whether that is the present one still.

        If not, the day is stale. Raises ExtractLost.
        """
        return version == self._change(
            _FINISH,
            version=version,
            rows=rows,
            bytes=written.bytes,
            sha256=written.sha256,
            life=settings.HOSTED_FILE_DAYS.total_seconds(),
        )

    def requeue(self, *, wait: timedelta = timedelta()) -> None:
        """Let it go without a lost attempt."""
        connection.close_if_unusable_or_obsolete()  # what failed may have been the connection
        self._execute(_GIVE_BACK, wait=wait.total_seconds())

    def settle(self) -> None:
        """Let it go, since it has just changed, for as long as it is left alone then."""
        self.requeue(wait=timedelta(seconds=SETTLING_SECONDS))

    def rest(self) -> None:
        """Let it go without a lost attempt, for as long as its bucket is given a rest."""
        self.requeue(wait=_REST)

    def fail(self, code: str, detail: str, *, retryable: bool) -> None:
        """Note an error: try again after a wait, or fail when no attempt is left or trying cannot help."""
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
        """Note that the storage did not remove the file of an expired day: it is tried again after `wait`.

        What waits to be made again has failed, unless trying again can help.
        """
        self._execute(
            _REFUSE, code=code, detail=detail[:_DETAIL_LENGTH], final=not retryable, wait=wait.total_seconds()
        )

    def expire(self) -> None:
        """Say that the file is gone, after its days."""
        self._execute(_EXPIRE)

    def _change(self, statement: str, **values: Any) -> int:
        found = self._execute(statement, **values)
        if found is None:
            raise ExtractLost
        return found

    def _execute(self, statement: str, **values: Any) -> int | None:
        with connection.cursor() as cursor:
            cursor.execute(statement, {"id": self.id, "token": self.token, "lease": LEASE_SECONDS, **values})
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def take_next(*, settled: bool) -> Held | None:
    """Take the next extract that is due and goes to the hosted bucket, or return None.

    Of stale days the one that waits longest goes first; with `settled` only what has not just become due. All but one
    of a cluster's workers may make extracts at a time, whatever the number of clusters: one is always left for
    requests.
    """
    with transaction.atomic():
        if not _is_any_due():
            return None
        execute("SELECT pg_advisory_xact_lock(%s)", [_AT_WORK_LOCK])
        [(at_work,)] = fetch(_AT_WORK)
        if at_work >= most_workers():
            return None
        held = _take(_TAKE_NEXT, settling=SETTLING_SECONDS if settled else 0)
    return replace(held, may_call_client=False) if held else None


def take_for_bucket(*, busy: Collection[int] = ()) -> Held | None:
    """Take the next extract that is due and goes to a client's bucket, of none of the chatbots in `busy`."""
    if not _is_any_due():
        return None
    return _take(_TAKE_FOR_BUCKET, settling=0, busy=array(busy))


def take_one(extract_id: int) -> Held | None:
    """Take this extract if it waits to be made, whatever it waits for, and nobody has it."""
    return _take(_TAKE_ONE, id=extract_id)


def take_expired() -> Held | None:
    """Take the next hosted extract whose days are over, to remove its file."""
    return _take(_TAKE_EXPIRED)


def requeue_expired() -> None:
    """Release the extracts of lost workers."""
    _break(_BREAK_EXPIRED, blamed=None)


def requeue_from_cluster(cluster: str, *, blamed: str | None) -> None:
    """Release the extracts of a dead cluster. See `compliance.work.claims.requeue_from_cluster`."""
    _break(_BREAK_OF_CLUSTER, cluster=cluster, blamed=blamed)


def _break(statement: str, **values: str | None) -> None:
    execute(statement, {"most": MAX_ATTEMPTS, **values})


def _is_any_due() -> bool:
    return DailyExtract.objects.filter(state__in=["pending", "stale"]).exists()


def _take(statement: str, **values: Any) -> Held | None:
    token = uuid4()
    row = fetch_one(statement, {"token": token, "owner": proc.owner(), "lease": LEASE_SECONDS, **values})
    return Held(*(*row, token)) if row else None
