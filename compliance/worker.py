"""The work of a worker: drain the queue of requests, and do what is due by time.

Both are loops over the database alone; django-q2, `process_requests` and the tests call the same functions.
"""

import logging
import random
import time
from collections.abc import Callable, Collection
from functools import partial

from django.db import Error as DatabaseError

from chatbots.buckets import silence
from common.database_errors import is_connection_lost, was_ended_by_operator, was_refused_temporarily
from common.db import retry_while_unavailable
from common.isolation import Isolation
from common.logs import describe_kind
from common.storage import StorageError
from compliance.callbacks import deadline_events
from compliance.cluster import occurrences
from compliance.cluster.background import HOSTED, BackgroundJobs, Job
from compliance.erasure import engine as erasure
from compliance.erasure import extracts, late_data, uci_values
from compliance.errors import ClaimLost, StepFailed
from compliance.export import engine as export
from compliance.ledger import journal, service, tripwire
from compliance.models import ComplianceRequest
from compliance.redaction import engine as redaction
from compliance.replay.operation import ReplayRefused, replay
from compliance.retention import engine as retention
from compliance.retention import expiry, objects, policy
from compliance.retention.objects import Cleanup
from compliance.work import bucket_checks, claims, scheduling
from compliance.work.claims import HeldClaim
from compliance.work.sizes import measure
from compliance.work.sql import chatbots_of
from compliance.work.transitions import requeue
from conversations.extracts import days, leases
from conversations.placement import machines

logger = logging.getLogger(__name__)

Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane

# About the longest that a task runs, so that a cluster stops soon and other tasks get their turn.
DRAIN_SECONDS = 20.0
# After this long, the rest of a claim is requeued, between two transactions.
TURN_SECONDS = 5.0
# How long a worker waits for the database to requeue its claim: less than the lease.
_PATIENCE_SECONDS = 30.0


def drain(
    *,
    seconds: float = DRAIN_SECONDS,
    on_backlog: Callable[[], None] | None = None,
    background: BackgroundJobs | None = None,
) -> bool:
    """Work on requests until none can be taken or the time is over; return whether work may be left.

    Kinds and lanes take turns, so a backlog in one does not delay the others. `on_backlog` is called when a claim
    leaves work for other workers: once for full claims, and for each large one. Daily extracts are built when no
    request can be taken; those that have waited long are built between rounds.

    In a database that was restored from a backup it does nothing; after a failover it replays the ledger.

    Work that calls a client's bucket goes to `background`, and can outlive this call; without it, it runs here, after
    the other work of a round.
    """
    end = time.monotonic() + seconds
    with silence.calling_hosted():
        if not tripwire.check_if_due():
            return _catch_up(seconds)
        requeue_expired()
        called = False
        while time.monotonic() < end:
            if not _may_work():
                return False
            # First: the later steps may try a silent storage.
            silence.share_hosted()
            journal.write_due()
            requeue.release_export_pending()
            machines.ask_if_due()
            idle = True
            for kind, lane in scheduling.waiting_lanes():
                held = claims.take(kind, lane) if _may_work() else None
                if held is None:
                    continue
                idle = False
                if on_backlog and held.may_leave_work and not (called and not held.is_large):
                    on_backlog()
                    called = True
                work(held, deadline=min(end, time.monotonic() + TURN_SECONDS))
            # The work until now took a while.
            if time.monotonic() < end and _may_work() and extracts.build_next(settled=not idle):
                idle = False
            if _start_client_work(background):
                idle = False
            if idle:
                return False
        return True


def _may_work() -> bool:
    return service.is_open() and not occurrences.is_resting()


def _catch_up(seconds: float) -> bool:
    """Replay the ledger for `seconds` if no decision is needed; return whether work may be left."""
    if service.state() != service.State.CATCHING_UP:
        return False
    try:
        replay(work=work, seconds=seconds)
    except ReplayRefused:
        return False
    except StorageError as error:
        logger.warning("replay.not_ended code=%s", error.code)
        return False
    return True


def _start_client_work(background: BackgroundJobs | None) -> bool:
    """Start work that calls clients' buckets while there is room, and return whether there was any."""
    has_begun = False
    while _may_work() and (job := _next_client_work(background)):
        has_begun = True
        if background is None:
            job.run()
            break
        background.begin(job)
    return has_begun


def _next_client_work(background: BackgroundJobs | None) -> Job | None:
    """Take the next work that calls a client's bucket: a check, for which a user waits, or else a random kind."""
    busy = background.busy if background else ()
    if background is None or background.has_room_for_check:
        check = bucket_checks.take_next(busy)
        if check:
            return _client_job(check.chatbot_id, partial(bucket_checks.run, check), requeue=check.release)
    if background is None or background.has_room:
        kinds = (_next_requests, _next_extract)
        for take in random.sample(kinds, len(kinds)):
            if job := take(busy):
                return job
    return None


def _next_requests(busy: Collection[int]) -> Job | None:
    held = claims.take_for_bucket(busy)
    if held is None or held.bucket_of is None:
        return None
    return _client_job(
        held.bucket_of, lambda: work(held, deadline=time.monotonic() + TURN_SECONDS), requeue=held.abandon
    )


def _next_extract(busy: Collection[int]) -> Job | None:
    if held := leases.take_for_bucket(busy=busy):
        return _client_job(held.chatbot_id, partial(extracts.build, held), requeue=partial(leases.requeue, held))
    return None


def _client_job(chatbot_id: int, work: Callable[[], object], *, requeue: Callable[[], object]) -> Job:
    def run() -> None:
        with silence.calling_bucket_of(chatbot_id):
            work()

    return Job(chatbot_id, run, requeue)


def sweep(background: BackgroundJobs | None = None) -> None:
    """Do what is due by time: requeue expired claims, plan extracts, erase late data and values that became UCIs, and
    announce deadlines.

    Expired data is removed by threads of `background` while it has room; without it, here. In a database that was
    restored from a backup it only checks the hosted bucket.

    An error of a step, or of a chatbot in it, affects no other. Raises PartsFailed after all steps. Raises the error
    of a database that is lost or refuses work at once.
    """
    steps: list[Callable[[], object]] = [
        *(claims.requeue_expired, leases.requeue_expired, machines.ask_if_due, journal.write_due),
        *(scheduling.forget_silence, requeue.release_export_pending, days.plan_due, policy.file_due_runs),
        *(late_data.erase, uci_values.erase, deadline_events.announce_due),
    ]
    if background is None:
        steps.append(expiry.remove_expired)
    with Isolation() as isolated:
        with silence.calling_hosted():
            # First: without the bucket, nothing else may be done once the database server was started anew.
            with isolated.part("hosted_bucket"):
                bucket_checks.check_hosted_if_due()
            if not tripwire.check_if_due():
                if (found := service.state()) != service.State.OPEN:
                    service.log_closed(found)
                return
            for step in steps:
                with isolated.part(f"{step.__module__}.{step.__name__}"):
                    step()
        # Afterwards: otherwise its threads could be refused calls that this thread may try.
        if background is not None:
            with isolated.part("background"):
                _remove_expired(background)


def _remove_expired(background: BackgroundJobs) -> None:
    """Start to remove expired data. There is nothing to requeue: the next sweep finds the rest."""

    def remove_hosted() -> None:
        with silence.calling_hosted():
            expiry.remove_expired(Cleanup(at_clients=False))

    hosted = Job(HOSTED, run=remove_hosted, requeue=lambda: None)
    if background.has_room and hosted.chatbot_id not in background.busy:
        background.begin(hosted)
    left = objects.clients_to_clean_up()
    for chatbot_id in random.sample(left, len(left)):
        if background.has_room and chatbot_id not in background.busy and not occurrences.is_resting():
            remove = partial(objects.remove_at_client, chatbot_id)
            background.begin(_client_job(chatbot_id, remove, requeue=lambda: None))


def requeue_expired() -> None:
    """Requeue the work of workers whose lease has run out."""
    claims.requeue_expired()
    leases.requeue_expired()


def work(held: HeldClaim, deadline: float) -> None:
    """Work on one claim. An error stops neither the worker nor other claims."""
    try:
        if held.kind == Kind.RETENTION:
            retention.run(held, deadline=deadline)
        elif held.kind == Kind.REDACTION:
            redaction.run(held, deadline=deadline)
        elif held.kind == Kind.DELETION:
            erasure.run(held, measure(held), deadline=deadline)
        else:
            requeue.keep_light(held, held.request_ids, measure(held))
            export.run(held, deadline=deadline)
        held.release()
    except ClaimLost:
        logger.warning("claim.lost claim=%s", held.id)
    except Exception as error:
        _isolate(held, error)


def _isolate(held: HeldClaim, error: Exception) -> None:
    """After an unforeseen error, split the claim up, or fail an attempt of a single request.

    Waits for a database that does not answer: otherwise the claim would have to expire. Pauses if the database
    refuses work for now.
    """
    if was_refused_temporarily(error):
        logger.warning("claim.refused claim=%s %s", held.id, describe_kind(error))
        occurrences.pause_after_refusal()
    else:
        logger.error("claim.failed claim=%s", held.id, exc_info=error)
    try:
        retry_while_unavailable(lambda: _requeue(held, error), seconds=_PATIENCE_SECONDS)
    except ClaimLost:
        pass
    except DatabaseError as again:
        # The claim will expire, which costs an attempt.
        logger.warning("claim.abandoned claim=%s %s", held.id, describe_kind(again))


def _requeue(held: HeldClaim, error: Exception) -> None:
    if machines.are_behind(error, chatbots_of(held.request_ids)):
        requeue.machine_lost(held, held.request_ids)
    elif was_refused_temporarily(error):
        requeue.refused(held, held.request_ids, StepFailed.by_refusal(error))
    elif len(held.request_ids) > 1 or was_ended_by_operator(error):
        requeue.split_up(held, held.request_ids)
    else:
        detail = f"The work stopped with an unforeseen error: {describe_kind(error)}."
        lost = is_connection_lost(error)
        failure = StepFailed("database_lost", detail) if lost else StepFailed("internal_error", detail)
        requeue.step_failed(held, {held.request_ids[0]: failure})
    held.release()
