"""A few threads that call the storage for one worker while it continues to read.

Only the worker's own thread uses the database, so it also renews the claim while it waits for the others.
"""

import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

from common import leases
from common.leases import LeaseRenewer
from common.storage import StorageError
from compliance.errors import StepFailed

Subject = TypeVar("Subject", bound=Hashable)
Result = TypeVar("Result")

# With a storage on the same machine two are twice as fast as one, and four a little faster.
THREADS = 4


class UploadPool(Generic[Subject, Result]):
    """A context that makes storage calls, each for a subject, and collects their results.

    Up to `waiting` calls may wait for a thread. `most_bytes` limits the total size of unfinished calls, unless there
    is only one. Leaving the context waits for the calls; after an error, those that have not begun are dropped.
    """

    def __init__(self, renewer: LeaseRenewer, *, waiting: int = 0, most_bytes: int = 0) -> None:
        self.done: dict[Subject, Result] = {}
        self.failed: dict[Subject, StepFailed] = {}
        self.begun: set[Subject] = set()
        self._renewer = renewer
        self._most_calls = THREADS + waiting
        self._most_bytes = most_bytes
        self._pending: dict[Future[Result], tuple[Subject, int]] = {}
        self._threads = ThreadPoolExecutor(THREADS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait_for_all()
        finally:
            self._threads.shutdown(wait=True, cancel_futures=True)
            for call in [call for call in self._pending if call.cancelled()]:
                subject, _ = self._pending.pop(call)
                self.begun.discard(subject)
            self._note(list(self._pending))

    def submit_all(self, subjects: Iterable[Subject], work: Callable[[Subject], Result], *, until: float) -> None:
        """Do the work for each subject, starting none but the first after `until` (`time.monotonic()`).

        Raises ClaimLost.
        """
        for number, subject in enumerate(subjects):
            self._wait_for_room(0)
            if number and time.monotonic() > until:
                break
            self.submit(subject, partial(work, subject))

    def submit(self, subject: Subject, work: Callable[[], Result], *, size: int = 0) -> None:
        """Do the work in a thread. Waits for room, renewing the claim. Raises ClaimLost."""
        self._wait_for_room(size)
        self.begun.add(subject)
        self._pending[self._threads.submit(work)] = subject, size
        self._renewer.renew_if_due()

    def _wait_for_room(self, size: int) -> None:
        while self._pending and not self._has_room(size):
            self._wait()

    def wait_for_all(self) -> None:
        """Wait until no call is running, renewing the claim. Raises ClaimLost."""
        while self._pending:
            self._wait()

    def note_finished(self) -> None:
        """Update `done` and `failed` without waiting."""
        self._note([call for call in self._pending if call.done()])

    def take(self) -> tuple[dict[Subject, Result], dict[Subject, StepFailed]]:
        """Return and clear `done` and `failed`."""
        taken = self.done, self.failed
        self.done, self.failed = {}, {}
        return taken

    def _has_room(self, size: int) -> bool:
        held = sum(bytes_held for _, bytes_held in self._pending.values())
        return len(self._pending) < self._most_calls and held + size <= self._most_bytes

    def _wait(self) -> None:
        self._renewer.renew_if_due()
        finished, _ = wait(self._pending, timeout=leases.SECONDS_BETWEEN_RENEWALS, return_when=FIRST_COMPLETED)
        self._note(list(finished))

    def _note(self, calls: list[Future[Result]]) -> None:
        for call in calls:
            subject, _ = self._pending.pop(call)
            try:
                self.done[subject] = call.result()
            except StorageError as error:
                self.failed[subject] = StepFailed.of(error)
