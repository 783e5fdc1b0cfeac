"""Threads for work that calls clients' buckets, so that a bucket that does not answer blocks no worker.

A worker takes this work while it drains the queue and hands each job to a thread with its own connections. A process
runs one job per bucket, and at most THREADS at a time; each that ends notifies the workers to take the next. Without
`BackgroundJobs`, callers run the work in their own thread.
"""

import logging
import multiprocessing.process
import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.util import Finalize

from django.db import connection, connections

from common.database_errors import was_refused_temporarily
from common.logs import describe_kind
from compliance.cluster import notify, occurrences

logger = logging.getLogger(__name__)

THREADS = 4
# One more thread, for a check that a user is waiting for.
THREADS_WITH_CHECK = THREADS + 1
# Stands for a chatbot in jobs that call only the operator's bucket.
HOSTED = 0
# How long an ending worker waits for its threads before it requeues their work and abandons them.
SECONDS_TO_END = 5.0


@dataclass(frozen=True, eq=False)
class Job:
    """Work that calls the bucket of this chatbot (or HOSTED).

    `requeue` can be called while `run` is still running in another thread, which can write nothing from then on.
    """

    chatbot_id: int
    run: Callable[[], object]
    requeue: Callable[[], object]


class BackgroundJobs:
    """The threads of one process. Calls `when_ended` after each job: another one may be taken then."""

    def __init__(self, when_ended: Callable[[], object]) -> None:
        self._when_ended = when_ended
        self._jobs: set[Job] = set()
        self._changed = threading.Condition()
        self._finalizer: Finalize | None = None
        self._is_over = False

    @property
    def has_room(self) -> bool:
        return len(self._jobs) < THREADS and not self._is_over

    @property
    def has_room_for_check(self) -> bool:
        return len(self._jobs) < THREADS_WITH_CHECK and not self._is_over

    @property
    def busy(self) -> Collection[int]:
        """The chatbots whose buckets are being called."""
        with self._changed:
            return {job.chatbot_id for job in self._jobs}

    def begin(self, job: Job) -> None:
        """Run a job in a thread. If the database refuses the thread a connection for now, requeue the job and pause.

        Check `has_room` first.
        """
        self._end_with_the_worker()
        with self._changed:
            self._jobs.add(job)
        connected: Future[None] = Future()
        try:
            # A daemon, or the worker could not end before the bucket answers.
            threading.Thread(target=self._run, args=[job, connected], name="background", daemon=True).start()
            connected.result()
        except Exception as error:  # the system has no more threads for us, or the database no connection
            self._drop(job)
            # In this thread, which has a connection: otherwise the lease would run out, which costs an attempt.
            job.requeue()
            if not was_refused_temporarily(error):
                raise
            logger.warning("job.refused chatbot=%s %s", job.chatbot_id, describe_kind(error))
            occurrences.pause_after_refusal()

    def wait(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout=seconds)

    def end(self, seconds: float = SECONDS_TO_END) -> bool:
        """Take no more jobs, wait for the running ones, and requeue those that do not end in time.

        Returns whether all ended. A requeued job costs no attempt: the next one removes what this one left in the
        bucket.
        """
        self._is_over = True
        if self.wait(seconds):
            return True
        with self._changed:
            left = list(self._jobs)
        for job in left:
            logger.warning("job.abandoned chatbot=%s", job.chatbot_id)
            _requeue(job)
        return False

    def _run(self, job: Job, connected: Future[None]) -> None:
        try:
            try:
                connection.ensure_connection()
            except BaseException as error:
                connected.set_exception(error)
                return
            connected.set_result(None)
            try:
                job.run()
            except Exception:  # must not end the others
                logger.exception("job.failed chatbot=%s", job.chatbot_id)
                _requeue(job)
            finally:
                self._drop(job)
            if not self._is_over:
                self._when_ended()
        except Exception:  # the sweep notifies too
            logger.exception("job.notify_failed")
        finally:
            connections.close_all()

    def _drop(self, job: Job) -> None:
        with self._changed:
            self._jobs.discard(job)
            self._changed.notify_all()

    def _end_with_the_worker(self) -> None:
        """Call `end` when this child process ends: django-q2 recycles and stops its workers that way."""
        if self._finalizer is None and multiprocessing.process.parent_process() is not None:
            # After multiprocessing's own finalizers: a task's result has been sent by then.
            self._finalizer = Finalize(None, self._end_process, exitpriority=-100)

    def _end_process(self) -> None:
        if not self.end():
            # Python would wait for the threads, however long their calls take.
            logging.shutdown()
            os._exit(0)


def _requeue(job: Job) -> None:
    try:
        connections.close_all()  # this thread's connection may be what failed
        job.requeue()
    except Exception:  # its lease runs out, then
        logger.exception("job.requeue_failed chatbot=%s", job.chatbot_id)


# Of this worker process.
JOBS = BackgroundJobs(notify.notify_workers)
