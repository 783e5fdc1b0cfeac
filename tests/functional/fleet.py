"""Two web servers and a cluster that are restarted one after the other, under calls that never stop."""

import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from scripts.processes import Processes
from tests.functional.support import manage, wait_until, worker_environment
from tests.functional.web import WebServer, web_server

# A turn is given both web servers, in changing order: what one has issued is brought to the other.
Turn = Callable[[WebServer, WebServer], None]

_PRIVATE = {"CALLBACK_PRIVATE_NETWORKS": "127.0.0.0/8"}


class Fleet:
    """A context in which `turn` runs in a thread, again and again. `failures` has its errors, and must stay empty."""

    def __init__(self, turn: Turn, settings: Mapping[str, str]) -> None:
        self.turns = 0
        self.failures: list[str] = []
        self._turn = turn
        self._settings = dict(settings)
        self._webs: list[tuple[WebServer, ExitStack]] = []
        self._cluster = ExitStack()
        self._is_over = threading.Event()
        self._calling = threading.Thread(target=self._call)

    def __enter__(self) -> Self:
        try:
            self._webs = [self._start_web(), self._start_web()]
            self._cluster = self._start_cluster()
            self._calling.start()
            self.wait_for_turns()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def restart(self, settings: Mapping[str, str]) -> None:
        """Replace each process by one with these settings: the first of it runs beside the last of before."""
        self._settings = dict(settings)
        for place, (former, stack) in enumerate(self._webs):
            self._webs[place] = self._start_web()
            self.wait_for_turns()
            former.stop()
            stack.close()
        cluster, self._cluster = self._cluster, self._start_cluster()
        self.wait_for_turns()
        cluster.close()

    def wait_for_turns(self, number: int = 3) -> None:
        """Wait until so many turns have ended, the first of which may have begun before."""
        until = self.turns + number
        wait_until(lambda: self.turns >= until or bool(self.failures))
        assert not self.failures, self.failures[0]

    def _start_web(self) -> tuple[WebServer, ExitStack]:
        stack = ExitStack()
        return stack.enter_context(web_server(**_PRIVATE, **self._settings)), stack

    def _start_cluster(self) -> ExitStack:
        stack = ExitStack()
        processes = stack.enter_context(Processes(stop_timeout=60))
        processes.start("worker", manage("qcluster"), env=worker_environment() | _PRIVATE | self._settings)
        return stack

    def stop_calling(self) -> None:
        """End the turns, while web servers and cluster go on."""
        self._is_over.set()
        if self._calling.ident:
            self._calling.join()

    def _stop(self) -> None:
        self.stop_calling()
        for stack in (self._cluster, *(stack for _, stack in self._webs)):
            stack.close()

    def _call(self) -> None:
        while not self._is_over.is_set() and not self.failures:
            one, other = (web for web, _ in self._webs)
            try:
                self._turn(*((one, other) if self.turns % 2 else (other, one)))
            except Exception:
                self.failures.append(traceback.format_exc())
            self.turns += 1
