"""Shares the state of storages that do not answer between processes, so that each need not detect it.

A process applies the shared state to its own circuit breaker (`common.storage.breaker`) before it works with a
storage, and records the result after. A storage is identified by the chatbot that owns the bucket, or None for the
operator's. Times are by the database's clock.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import Error as DatabaseError
from django.db import connection
from django.db.models.functions import Now

from chatbots.buckets.locations import hosted_storage, location_of
from chatbots.models import Bucket, SilentStorage
from common.crypto import SecretUnreadable
from common.db import execute, fetch_one
from common.logs import describe_kind
from common.storage.breaker import FIRST_REST_SECONDS, LONGEST_REST_SECONDS, QUICK_REST_SECONDS, Breaker
from common.storage.errors import StorageError

logger = logging.getLogger(__name__)

# A refused connection costs nothing, so the rest is a tenth of the time without an answer.
_SHARE_AFTER_QUICK = 0.1
# The time for which only one process tries a storage after its rest. Longer than a call can take.
_TRIAL_SECONDS = 90

_READ = """
WITH tried AS (
    UPDATE chatbots_silentstorage SET rests_until = clock_timestamp() + make_interval(secs => %(trial)s)
     WHERE chatbot_id IS NOT DISTINCT FROM %(chatbot)s AND rests_until <= clock_timestamp()
    RETURNING rests_until
)
SELECT (SELECT rests_until FROM tried), extract(epoch FROM rests_until - clock_timestamp())::float
  FROM chatbots_silentstorage WHERE chatbot_id IS NOT DISTINCT FROM %(chatbot)s
"""
# The rest is as long as the time without an answer, within limits: so each is twice as long as the one before.
_SILENT = """
INSERT INTO chatbots_silentstorage AS s (chatbot_id, rests_until)
VALUES (%(chatbot)s, CASE WHEN %(rests)s THEN clock_timestamp() + make_interval(secs => %(first)s) END)
    ON CONFLICT (chatbot_id) DO UPDATE
   SET rests_until = CASE WHEN %(rests)s THEN clock_timestamp() + least(
           greatest((clock_timestamp() - s.since) * %(share)s, make_interval(secs => %(first)s)),
           make_interval(secs => %(longest)s)) END
"""
_NOW = "SELECT clock_timestamp() FROM chatbots_silentstorage WHERE chatbot_id IS NOT DISTINCT FROM %s"


@contextmanager
def calling_bucket_of(chatbot_id: int) -> Iterator[None]:
    """Work with a client's bucket: apply the shared state before, and record the result after.

    One at a time per process. A bucket that cannot be opened is skipped: its caller gets the error.
    """
    breaker = None
    with _ignore_database_errors():
        breaker = _breaker_of(chatbot_id)
        if breaker:
            apply_state(chatbot_id, breaker)
    try:
        yield
    finally:
        with _ignore_database_errors():
            # Skipped if the bucket or its settings have changed.
            if breaker and breaker is _breaker_of(chatbot_id):
                record(chatbot_id, breaker)


@contextmanager
def _ignore_database_errors() -> Iterator[None]:
    """Only log database errors: the work itself gets them too, and releases its claims."""
    try:
        yield
    except DatabaseError as error:
        logger.warning("silence.not_shared %s", describe_kind(error))
        connection.close()


@contextmanager
def calling_hosted() -> Iterator[None]:
    """Work with the operator's bucket: apply the shared state before, and record the result after."""
    share_hosted()
    try:
        yield
    finally:
        record_hosted()


def share_hosted() -> None:
    record_hosted()
    apply_state(None, hosted_storage().calls.breaker)


def record_hosted() -> None:
    """Record this process's state of the operator's bucket. If it had the trial and did not call, another may try.

    It raises no error of the database: without it, the others only wait for some time longer.
    """
    with _ignore_database_errors():
        record(None, hosted_storage().calls.breaker)


def apply_state(chatbot_id: int | None, breaker: Breaker) -> None:
    """Close the breaker, or open it for the rest or for one trial call, according to the shared state."""
    if breaker.may_try:
        # This process has the trial: a thread of it is about to call.
        return
    found = fetch_one(_READ, {"chatbot": chatbot_id, "trial": _TRIAL_SECONDS})
    if found is None:
        breaker.close_if_resting()
        return
    trial_ends, seconds = found
    if trial_ends:
        breaker.allow_trial(ends=trial_ends)
    elif seconds is not None and seconds > 0:
        breaker.open_for(seconds)


def record(chatbot_id: int | None, breaker: Breaker) -> None:
    """Record the result of the last call since the previous `record`. Without a call, release the trial to others.

    A client's bucket rests from the first call without an answer, since only its own work waits; the operator's from
    the third in a row.
    """
    last = breaker.pop_last()
    if last is None:
        if trial_ends := breaker.unused_trial:
            breaker.open_for(_TRIAL_SECONDS)
            # Only the trial itself: meanwhile another process can have found the storage silent, and started a rest.
            SilentStorage.objects.filter(chatbot=chatbot_id, rests_until=trial_ends).update(rests_until=Now())
        return
    if last.answered:
        if row := fetch_one(_NOW, [chatbot_id]):
            # The database's time is read before the age: the duration of the statement would make the answer newer.
            answered_at = row[0] - timedelta(seconds=breaker.seconds_since(last.at))
            # Ignores an answer older than the row: its process may have been idle since.
            SilentStorage.objects.filter(chatbot=chatbot_id, since__lte=answered_at).delete()
        return
    values = {
        "chatbot": chatbot_id,
        "rests": chatbot_id is not None or breaker.is_resting,
        "first": QUICK_REST_SECONDS if breaker.was_quick else FIRST_REST_SECONDS,
        "share": _SHARE_AFTER_QUICK if breaker.was_quick else 1.0,
        "longest": LONGEST_REST_SECONDS,
    }
    execute(_SILENT, values)


def forget(chatbot_id: int) -> None:
    """Remove the record that a chatbot's bucket did not answer: its settings changed, or a check is requested."""
    SilentStorage.objects.filter(chatbot=chatbot_id).delete()


def _breaker_of(chatbot_id: int) -> Breaker | None:
    bucket = Bucket.objects.select_related("chatbot").filter(chatbot=chatbot_id, hosting="client").first()
    if bucket is None:
        return None
    try:
        breaker: Breaker = location_of(bucket).storage.calls.breaker
    except (StorageError, SecretUnreadable):
        return None
    return breaker
