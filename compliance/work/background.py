"""A few threads for what calls clients' buckets, so that one which does not answer keeps no worker from other work.

A worker takes such work up while it drains the queue, and hands each piece to a thread with connections of its own.
No two threads of a process call one bucket, and no more than THREADS are at work: what finds no room waits for the
next that ends, which notifies the workers. Callers without
`BackgroundJobs` run the work in their own thread.
"""

import logging
import multiprocessing.process
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from multiprocessing.util import Finalize

from django.db import connections

logger = logging.getLogger(__name__)

THREADS = 4
# One more for what somebody waits for in front of a screen.
THREADS_WITH_CHECK = THREADS + 1
# In the place of a chatbot, for what calls the operator's bucket alone.
HOSTED = 0
# A worker that ends waits so long for its threads. It then requeues what they have, and leaves them.
SECONDS_TO_END = 5.0


@dataclass(frozen=True, eq=False)
class Job:
    """A piece of work that calls the bucket of this chatbot (or HOSTED).

    `requeue` puts what it has into the line again, while `run` may still be under way in another thread: from then
    on that can write nothing.
    """

    chatbot_id: int
    run: Callable[[], object]
    requeue: Callable[[], object]


class BackgroundJobs:
    """The threads of one process. `when_ended` is called when one has ended: another piece may be taken up then."""

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
        """As `has_room`, with one thread more: somebody waits for a check in front of a screen."""
        return len(self._jobs) < THREADS_WITH_CHECK and not self._is_over

    @property
    def busy(self) -> Collection[int]:
        """The chatbots whose buckets are being called."""
        with self._changed:
            return {job.chatbot_id for job in self._jobs}

    def begin(self, job: Job) -> None:
        """Carry a job out in a thread. Ask `has_room` before."""
        self._end_with_the_worker()
        with self._changed:
            self._jobs.add(job)
        # A daemon, or the worker could not end before the bucket has answered.
        thread = threading.Thread(target=self._carry_out, args=[job], name="background", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads for us
            self._drop(job)
            _requeue(job)
            raise

    def wait(self, seconds: float) -> bool:
        """Wait until no thread is at work, for so long at most; say whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout=seconds)

    def end(self, seconds: float = SECONDS_TO_END) -> bool:
        """Take up nothing more, wait for the threads for so long, and requeue what they have still.

        Return whether all have ended. What was requeued is not lost, and costs no attempt: as after a kill, the
        next attempt removes what may lie in the bucket.
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

    def _carry_out(self, job: Job) -> None:
        try:
            try:
                job.run()
            except Exception:  # whatever it was, the others' work goes on
                logger.exception("job.failed chatbot=%s", job.chatbot_id)
                _requeue(job)
            finally:
                self._drop(job)
            if not self._is_over:
                self._when_ended()
        except Exception:  # the sweep looks again
            logger.exception("job.notify_failed")
        finally:
            connections.close_all()

    def _drop(self, job: Job) -> None:
        with self._changed:
            self._jobs.discard(job)
            self._changed.notify_all()

    def _end_with_the_worker(self) -> None:
        """Have `end` called when this process, a child, ends: django-q2 recycles and stops its workers so."""
        if self._finalizer is None and multiprocessing.process.parent_process() is not None:
            # After what multiprocessing does itself: a task's result is on its way by then.
            self._finalizer = Finalize(None, self._end_process, exitpriority=-100)

    def _end_process(self) -> None:
        if not self.end():
            # The threads of a call under way would be waited for, however long it takes.
            logging.shutdown()
            os._exit(0)


def _requeue(job: Job) -> None:
    try:
        connections.close_all()  # what failed may have been the connection of this thread
        job.requeue()
    except Exception:  # its lease runs out, then
        logger.exception("job.requeue_failed chatbot=%s", job.chatbot_id)
