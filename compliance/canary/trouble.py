"""What keeps the canary from doing or seeing something: neither clean nor a finding."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from compliance.models import CanaryTurn

Trouble = CanaryTurn.Trouble


class CannotTell(Exception):
    """Something could not be done or looked at, for now or for good. `where` is a name of ours."""

    def __init__(self, code: Trouble, where: str = "") -> None:
        super().__init__(f"{code.value} {where}".rstrip())
        self.code = code
        self.where = where


class NotHere(CannotTell):
    """It could not be looked at by this process, but maybe by another, which has the setting `where`."""


class Budget:
    """The time that one piece of work may take, so that it holds no worker for long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Let the time begin anew."""
        self._end = time.monotonic() + self._seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._end

    def check(self, where: str) -> None:
        """Raise CannotTell once the time is over. Call it before each call to the service, the storage or a table."""
        if self.is_over:
            raise CannotTell(Trouble.TOO_LONG, where)


class Doubts:
    """Goes past what cannot be looked at, so that the rest is: what is left there is found all the same."""

    def __init__(self) -> None:
        self._first: CannotTell | None = None

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Keep a CannotTell that is raised within, and go on after it."""
        try:
            yield
        except CannotTell as error:
            self.note(error)

    def note(self, error: CannotTell) -> None:
        """Keep this one, unless there is an earlier one."""
        self._first = self._first or error

    def tell(self) -> None:
        """Raise the first CannotTell, if there was one. Call it at the end."""
        if self._first:
            raise self._first
