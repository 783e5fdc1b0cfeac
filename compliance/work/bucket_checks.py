"""Checks of buckets that somebody has asked for: a row says so, a worker carries it out and writes down each step.

So whoever asks waits for no bucket, and a bucket is checked once at a time. Commands check in their own process
(`chatbots.operations.buckets.check_bucket`).
"""

import json
from collections.abc import Collection
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.buckets import Step
from chatbots.buckets.locations import require_bucket
from chatbots.models import BucketCheck, Chatbot
from chatbots.operations.buckets import check_bucket
from common import proc
from common.db import array, execute, fetch_one
from compliance.work import notify

# Renewed at each step, which is one call or a few. After the last, what was made is removed: two calls more. It is
# only waited out where nobody can tell that the worker is gone (compliance/work/claims.py).
_LEASE_SECONDS = 150

_ASK = """
INSERT INTO chatbots_bucketcheck AS c (chatbot_id, token, asked_at, steps, error)
VALUES (%(chatbot)s, %(token)s, clock_timestamp(), '[]', '')
    ON CONFLICT (chatbot_id) DO UPDATE
   SET token = excluded.token, asked_at = excluded.asked_at, claimed_until = NULL, finished_at = NULL, steps = '[]',
       error = ''
 WHERE c.finished_at IS NOT NULL
"""
_TAKE = """
UPDATE chatbots_bucketcheck
   SET token = %(token)s, owner = %(owner)s, steps = '[]',
       claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
 WHERE chatbot_id = (
       SELECT chatbot_id FROM chatbots_bucketcheck
        WHERE finished_at IS NULL AND (claimed_until IS NULL OR claimed_until < clock_timestamp())
          AND chatbot_id <> ALL(%(busy)s::bigint[])
        ORDER BY asked_at LIMIT 1
          FOR NO KEY UPDATE SKIP LOCKED)
RETURNING chatbot_id
"""
_NOTE = """
UPDATE chatbots_bucketcheck
   SET steps = steps || %(step)s::jsonb, claimed_until = clock_timestamp() + make_interval(secs => %(lease)s)
 WHERE chatbot_id = %(chatbot)s AND token = %(token)s
"""
_FINISH = """
UPDATE chatbots_bucketcheck SET finished_at = clock_timestamp(), claimed_until = NULL, error = %(error)s
 WHERE chatbot_id = %(chatbot)s AND token = %(token)s
"""
# With a token that nobody has: who had it, and may be under way still, writes nothing more.
_GIVE_BACK = """
UPDATE chatbots_bucketcheck SET claimed_until = NULL, token = gen_random_uuid()
 WHERE chatbot_id = %(chatbot)s AND token = %(token)s AND finished_at IS NULL
"""
_BREAK = """
UPDATE chatbots_bucketcheck SET claimed_until = NULL, token = gen_random_uuid()
 WHERE finished_at IS NULL AND starts_with(owner, %s || ':')
"""


class HeldCheck(NamedTuple):
    """A check in the hands of a worker. Who has lost it writes nothing more."""

    chatbot_id: int
    token: UUID

    def carry_out(self) -> None:
        """Check the bucket, and write down each step once it has been tried. Call it outside any transaction."""
        try:
            outcome = check_bucket(chatbot=Chatbot.objects.get(pk=self.chatbot_id), on_step=self._note)
        except ValidationError as error:  # it was removed meanwhile
            told = " ".join(error.messages)
        else:
            told = outcome.error
        self._execute(_FINISH, error=told[:500])

    def requeue(self) -> None:
        """Let another worker begin it anew."""
        self._execute(_GIVE_BACK)

    def _note(self, step: Step) -> None:
        shown = {
            "name": step.name,
            "permission": step.permission,
            "code": step.error.code if step.error else "",
            "detail": step.error.detail if step.error else "",
        }
        self._execute(_NOTE, step=json.dumps([shown]), lease=_LEASE_SECONDS)

    def _execute(self, statement: str, **values: str | int) -> None:
        execute(statement, {"chatbot": self.chatbot_id, "token": self.token, **values})


def enqueue(*, chatbot: Chatbot) -> None:
    """Have the chatbot's bucket checked by a worker, at once; where that is under way already, wait for its end.

    Raises ValidationError when no bucket is set.
    """
    require_bucket(chatbot)
    execute(_ASK, {"chatbot": chatbot.pk, "token": uuid4()})
    notify.notify_workers_after_commit()


def last(chatbot: Chatbot) -> BucketCheck | None:
    """Return the check of the chatbot's bucket that was asked for last, under way or not."""
    return BucketCheck.objects.filter(chatbot=chatbot).first()


def take_next(busy: Collection[int] = ()) -> HeldCheck | None:
    """Take the check that waits longest, of none of the chatbots in `busy`."""
    token = uuid4()
    values: dict[str, Any] = {"token": token, "owner": proc.owner(), "lease": _LEASE_SECONDS, "busy": array(busy)}
    row = fetch_one(_TAKE, values)
    return HeldCheck(row[0], token) if row else None


def is_any_waiting() -> bool:
    """Say whether a check waits that no worker is at."""
    waiting = BucketCheck.objects.filter(finished_at__isnull=True)
    return waiting.filter(Q(claimed_until__isnull=True) | Q(claimed_until__lt=Now())).exists()


def requeue_from_cluster(cluster: str) -> None:
    """Let others begin anew what the workers of a cluster had in hand that is no more."""
    execute(_BREAK, [cluster])
