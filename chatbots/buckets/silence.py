"""What all processes know of storages that do not answer: so each new one does not have to find out for itself.

Whoever works for a while with a storage heeds what is known before, and notes how it went after. In between, the
breaker of the process counts (`common.storage.breaker`). A storage is named by the chatbot whose bucket it is, or
by None: the operator's. Times are the database's clock.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import Error as DatabaseError
from django.db import connection

from chatbots.buckets.locations import hosted_storage, location_of
from chatbots.models import Bucket
from common.crypto import SecretUnreadable
from common.db import execute, fetch_one
from common.logs import describe_kind
from common.storage.breaker import FIRST_REST_SECONDS, LONGEST_REST_SECONDS, QUICK_REST_SECONDS, Breaker
from common.storage.errors import StorageError

logger = logging.getLogger(__name__)

# Where nobody listens a trial costs nothing: it rests for a tenth of the time that it has been silent.
_SHARE_AFTER_QUICK = 0.1
# Whoever tries a storage after its rest is the only one meanwhile. Longer than a call can take.
_TRIAL_SECONDS = 90

_HEED = """
WITH tried AS (
    UPDATE chatbots_silentstorage SET rests_until = clock_timestamp() + make_interval(secs => %(trial)s)
     WHERE chatbot_id IS NOT DISTINCT FROM %(chatbot)s AND rests_until <= clock_timestamp()
    RETURNING id
)
SELECT EXISTS (SELECT FROM tried), extract(epoch FROM rests_until - clock_timestamp())::float
  FROM chatbots_silentstorage WHERE chatbot_id IS NOT DISTINCT FROM %(chatbot)s
"""
# As long as it has been silent, within limits: so each rest is twice as long as the one before.
_SILENT = """
INSERT INTO chatbots_silentstorage AS s (chatbot_id, rests_until)
VALUES (%(chatbot)s, CASE WHEN %(rests)s THEN clock_timestamp() + make_interval(secs => %(first)s) END)
    ON CONFLICT (chatbot_id) DO UPDATE
   SET rests_until = CASE WHEN %(rests)s THEN clock_timestamp() + least(
           greatest((clock_timestamp() - s.since) * %(share)s, make_interval(secs => %(first)s)),
           make_interval(secs => %(longest)s)) END
"""
# An answer from before it was found silent says nothing: its process may have had nothing to do since.
_ANSWERS = """
DELETE FROM chatbots_silentstorage
 WHERE chatbot_id IS NOT DISTINCT FROM %(chatbot)s AND since <= clock_timestamp() - make_interval(secs => %(ago)s)
"""
_FORGET = "DELETE FROM chatbots_silentstorage WHERE chatbot_id = %s"


@contextmanager
def calling_bucket_of(chatbot_id: int) -> Iterator[None]:
    """Work with the bucket of a chatbot's client: heed what is known of it, and note how it went.

    One at a time in a process. A bucket that cannot be opened is none to learn of: whoever calls it is told.
    """
    breaker = None
    with _no_matter():
        breaker = _breaker_of(chatbot_id)
        if breaker:
            heed(chatbot_id, breaker)
    try:
        yield
    finally:
        with _no_matter():
            # Of another bucket, or other settings of this one, it says nothing.
            if breaker and breaker is _breaker_of(chatbot_id):
                note(chatbot_id, breaker)


@contextmanager
def _no_matter() -> Iterator[None]:
    """Log that the database fails: the work itself has to meet that, and to put back what it has in hand."""
    try:
        yield
    except DatabaseError as error:
        logger.warning("silence.not_shared %s", describe_kind(error))
        connection.close()


def share_hosted() -> None:
    """Note what this process has learned of the operator's bucket, and heed what others have."""
    breaker = hosted_storage().calls.breaker
    note(None, breaker)
    heed(None, breaker)


def heed(chatbot_id: int | None, breaker: Breaker) -> None:
    """Let the breaker be as what is known says: closed, open for the rest, or open for one call that tries."""
    found = fetch_one(_HEED, {"chatbot": chatbot_id, "trial": _TRIAL_SECONDS})
    if found is None:
        breaker.close_if_resting()
        return
    is_trial, seconds = found
    if is_trial:
        breaker.rest(0)
    elif seconds is not None and seconds > 0:
        breaker.rest(seconds)


def note(chatbot_id: int | None, breaker: Breaker) -> None:
    """Note what the last call since the last note has shown. Where none has ended nothing is learned.

    A client's bucket is left alone from the first call on that has no answer: only what is its own waits. The
    operator's from the third in a row.
    """
    last = breaker.take_last()
    if last is None:
        return
    values = {
        "chatbot": chatbot_id,
        "ago": last.seconds_ago,
        "rests": chatbot_id is not None or breaker.is_resting,
        "first": QUICK_REST_SECONDS if breaker.was_quick else FIRST_REST_SECONDS,
        "share": _SHARE_AFTER_QUICK if breaker.was_quick else 1.0,
        "longest": LONGEST_REST_SECONDS,
    }
    execute(_ANSWERS if last.answered else _SILENT, values)


def forget(chatbot_id: int) -> None:
    """Forget that a chatbot's bucket does not answer, since it is another one now or somebody wants to know."""
    execute(_FORGET, [chatbot_id])


def _breaker_of(chatbot_id: int) -> Breaker | None:
    bucket = Bucket.objects.select_related("chatbot").filter(chatbot=chatbot_id, hosting="client").first()
    if bucket is None:
        return None
    try:
        breaker: Breaker = location_of(bucket).storage.calls.breaker
    except (StorageError, SecretUnreadable):
        return None
    return breaker
