"""A cluster whose workers kill themselves at given steps of their work: `python -m tests.faults.dying <folder>`.

The name of each file in the folder contains a step, `before` or `after` a function of the service, and the request
whose claim kills a worker there: ANYBODY is the first claim with work there. A worker renames the file before it
dies, so that it is the only one.
"""

import importlib
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

ANYBODY = "anybody"
_MODULE = "tests.faults.dying"
# It identifies the claim at work.
_TAKE = "compliance.work.claims.take"
_DIED = ".died"


def prepare(folder: Path, steps: Iterable[tuple[str, str]]) -> list[str]:
    """Write steps, such as `after compliance.worker.work`, with their requests; return the command of a cluster."""
    for step, request in steps:
        (folder / f"{step} {request}").touch()
    return [sys.executable, "-m", _MODULE, str(folder)]


def not_reached(folder: Path) -> set[tuple[str, str]]:
    """Return the steps at which no worker has died yet, each with its request."""
    left = [file.name.rpartition(" ") for file in folder.iterdir() if file.suffix != _DIED]
    return {(step, request) for step, _, request in left}


class _Steps:
    """The steps of this process, which works on one claim at a time."""

    def __init__(self, folder: Path) -> None:
        self._files: defaultdict[str, dict[str, Path]] = defaultdict(dict)
        for file in folder.iterdir():
            when, place, request = file.name.split(" ")
            self._files[f"{when} {place}"][request] = file
        self._at_work: Collection[str] = ()

    def insert(self) -> None:
        """Replace each function, which is named with its module or class, by one that dies before or after it."""
        for place in {_TAKE, *(step.partition(" ")[2] for step in self._files)}:
            owner, name = _owner_of(place)
            setattr(owner, name, self._around(getattr(owner, name), place))

    def _around(self, original: Callable[..., Any], place: str) -> Callable[..., Any]:
        @wraps(original)
        def step(*args: Any, **options: Any) -> Any:
            self._die_if_asked(f"before {place}", has_something=True)
            found = original(*args, **options)
            if place == _TAKE and found:
                self._at_work = {str(request) for request in found.request_ids}
            self._die_if_asked(f"after {place}", has_something=found is None or bool(found))
            return found

        return step

    def _die_if_asked(self, step: str, *, has_something: bool) -> None:
        for request, file in self._files.get(step, {}).items():
            if request in self._at_work or (request == ANYBODY and has_something):
                with suppress(FileNotFoundError):  # another worker has died here
                    file.rename(file.with_name(f"{file.name}{_DIED}"))
                    os.kill(os.getpid(), signal.SIGKILL)


def _owner_of(place: str) -> tuple[Any, str]:
    path, _, name = place.rpartition(".")
    try:
        return importlib.import_module(path), name
    except ModuleNotFoundError:
        module, _, kind = path.rpartition(".")
        return getattr(importlib.import_module(module), kind), name


def _main(folder: Path) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django

    django.setup()
    from common.db import sessions_find_by_index
    from compliance.cluster import supervision
    from compliance.tasks import DUTIES

    # It would wait longer after each of so many deaths.
    supervision._LONGEST_PAUSE_SECONDS = 0.2
    _Steps(folder).insert()
    with sessions_find_by_index():
        supervision.run(DUTIES)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
