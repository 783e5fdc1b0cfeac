"""Bucket checks that a user has requested in the console: a row that a worker takes, and adds each step's result to.

So no page waits for a bucket, and a bucket has one check at a time. Commands check in their own process
(`chatbots.operations.buckets.check_bucket`).
"""

import json
from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from chatbots.buckets import Step
from chatbots.buckets.locations import require_bucket
from chatbots.models import BucketCheck, Chatbot
from chatbots.operations.buckets import check_bucket
from common import proc
from common.db import array, execute, fetch_one
from common.leases import LEASE_END, take_first
from compliance.work import notify

# Renewed at each step, which is one call or a few; removing the test object at the end is two more.
_LEASE_SECONDS = 150

_ENQUEUE = """
INSERT INTO chatbots_bucketcheck AS c (chatbot_id, token, asked_at, steps, error)
VALUES (%(chatbot)s, %(token)s, clock_timestamp(), '[]', '')
    ON CONFLICT (chatbot_id) DO UPDATE
   SET token = excluded.token, asked_at = excluded.asked_at, claimed_until = NULL, finished_at = NULL, steps = '[]',
       error = ''
 WHERE c.finished_at IS NOT NULL
"""
_TAKE = take_first(
    "chatbots_bucketcheck",
    "chatbot_id",
    "finished_at IS NULL AND chatbot_id <> ALL(%(busy)s::bigint[])",
    order="asked_at",
    returning="chatbot_id",
    also="steps = '[]'",
)
_ADD_STEP = f"""
UPDATE chatbots_bucketcheck SET steps = steps || %(step)s::jsonb, claimed_until = {LEASE_END}
 WHERE chatbot_id = %(chatbot)s AND token = %(token)s
"""


class HeldCheck(NamedTuple):
    """A check that this worker holds. Once it is lost to another, nothing more is written."""

    chatbot_id: int
    token: UUID

    def run(self) -> None:
        """Check the bucket and write each step's result as it comes. Call it outside any transaction."""
        try:
            error = check_bucket(chatbot=Chatbot.objects.get(pk=self.chatbot_id), on_step=self._add_step).error
        except ValidationError as removed:  # the bucket was removed meanwhile
            error = " ".join(removed.messages)
        self._row.update(finished_at=Now(), claimed_until=None, error=error[:500])

    def requeue(self) -> None:
        """Let another worker start over."""
        _requeue(self._row)

    @property
    def _row(self) -> QuerySet[BucketCheck]:
        return BucketCheck.objects.filter(chatbot=self.chatbot_id, token=self.token)

    def _add_step(self, step: Step) -> None:
        result = {
            "name": step.name,
            "permission": step.permission,
            "code": step.error.code if step.error else "",
            "detail": step.error.detail if step.error else "",
        }
        values = {"chatbot": self.chatbot_id, "token": self.token, "lease": _LEASE_SECONDS}
        execute(_ADD_STEP, {"step": json.dumps([result]), **values})


def enqueue(*, chatbot: Chatbot) -> None:
    """Have a worker check the chatbot's bucket, unless one is pending. Raises ValidationError without a bucket."""
    require_bucket(chatbot)
    execute(_ENQUEUE, {"chatbot": chatbot.pk, "token": uuid4()})
    notify.notify_workers_after_commit()


def last(chatbot: Chatbot) -> BucketCheck | None:
    return BucketCheck.objects.filter(chatbot=chatbot).first()


def take_next(busy: Collection[int] = ()) -> HeldCheck | None:
    """Take the check that has waited longest, of none of the chatbots in `busy`."""
    token = uuid4()
    row = fetch_one(_TAKE, {"token": token, "owner": proc.owner(), "lease": _LEASE_SECONDS, "busy": array(busy)})
    return HeldCheck(row[0], token) if row else None


def is_any_waiting() -> bool:
    """Return whether a check waits that no worker holds."""
    waiting = BucketCheck.objects.filter(finished_at=None)
    return waiting.filter(Q(claimed_until=None) | Q(claimed_until__lt=Now())).exists()


def requeue_from_cluster(cluster: str) -> None:
    """Let others start over the checks of a dead cluster's workers."""
    _requeue(BucketCheck.objects.filter(owner__startswith=f"{cluster}:"))


def _requeue(checks: QuerySet[BucketCheck]) -> None:
    # A new token, so that a worker that is still running one writes nothing more.
    checks.filter(finished_at=None).update(claimed_until=None, token=uuid4())
