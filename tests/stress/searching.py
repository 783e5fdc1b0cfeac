"""Play one story after another, and look for the shortest of each kind that fails."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest.mock import patch

from django.test import override_settings

from chatbots.buckets import hosted_storage
from common.storage import ObjectStorage
from compliance.retention import due
from tests import databases
from tests.clients import empty
from tests.stress import circumstances
from tests.stress.actors import acting_in_pools
from tests.stress.invariants import Broken
from tests.stress.officers import clients_bucket
from tests.stress.running import Play
from tests.stress.stories import Author, Story, printed, shortened

# One story of four is played in so many threads.
_THREADS = 3
_SECONDS_TO_SHORTEN = 45.0


class Failure(NamedTuple):
    story: Story
    threads: int
    broken: Broken

    def __str__(self) -> str:
        how = f"in {self.threads} threads" if self.threads > 1 else "rule by rule"
        return f"{self.broken}\n{len(self.story)} rules, played {how}:\n{printed(self.story)}"


class Stage:
    """Where stories are played, one after another."""

    def __init__(
        self,
        storage: ObjectStorage,
        clients: ObjectStorage,
        stored: circumstances.Faults,
        *,
        tell: Callable[[str], None] = print,
    ) -> None:
        self._storage, self._clients = storage, clients
        self._faults = stored
        self._tell = tell
        self.played = 0
        self._performed = 0

    def play(self, story: Story, *, seed: int, threads: int = 1, to_the_end: bool = True) -> Broken | None:
        databases.empty()
        empty(self._storage)
        empty(self._clients)
        self._faults.refusals.clear()
        self.played += 1
        play = Play(self._storage, self._clients, self._faults, story, seed=seed)
        try:
            play.run(threads, to_the_end=to_the_end)
        except Broken as broken:
            self._performed = play.performed
            return broken
        return None

    def search(self, *, seed: int, seconds: float, most: int = 1) -> list[Failure]:
        """Play stories for so long, and return the failures of different kinds, each as short as it could be made.

        Some are always played rule by rule: all that is certain has to be known when the database is lost, and a
        message that comes while another variable is the identifier has no identity.
        """
        end = time.monotonic() + seconds
        found: dict[str, Failure] = {}
        number = 0
        while time.monotonic() < end and len(found) < most:
            story_seed = seed * 1_000_000 + number
            number += 1
            story = Author(story_seed).story()
            has_order = any(rule[0] in {"backup", "restore", "redesignate"} for rule in story)
            threads = _THREADS if number % 4 == 0 and not has_order else 1
            broken = self.play(story, seed=story_seed, threads=threads)
            if broken and broken.kind not in found:
                self._tell(f"story {number} after {seconds - (end - time.monotonic()):.0f} s: {broken}")
                patience = min(_SECONDS_TO_SHORTEN, seconds / 4)
                found[broken.kind] = self._shortest(story, story_seed, threads, broken, seconds=patience)
                self._tell(str(found[broken.kind]))
        self._tell(f"{number} stories, {self.played} plays")
        return list(found.values())

    def _shortest(self, story: Story, seed: int, threads: int, broken: Broken, *, seconds: float) -> Failure:
        end = time.monotonic() + seconds
        if threads > 1 and (alone := self.play(story, seed=seed)) and alone.kind == broken.kind:
            threads, broken = 1, alone
        to_the_end = threads > 1 or self._performed == len(story)
        if not to_the_end:
            # Later rules are not the cause.
            story = story[: self._performed + 1]
        last = broken

        def fails(shorter: Story) -> bool:
            nonlocal last
            for _ in range(3 if threads > 1 else 1):
                if time.monotonic() > end:
                    return False
                again = self.play(shorter, seed=seed, threads=threads, to_the_end=to_the_end)
                if again and again.kind == broken.kind:
                    last = again
                    return True
            return False

        return Failure(shortened(story, fails), threads, last)


@contextmanager
def stage(storage: ObjectStorage, *, tell: Callable[[str], None] = print) -> Iterator[Stage]:
    # Only errors are looked at, and there are many lines.
    logging.disable(logging.WARNING)
    try:
        # Retention runs have several slices, however little is stored.
        with acting_in_pools(), patch.object(due, "SLICE", 1), circumstances.installed(storage) as stored:
            with override_settings(S3_BUCKET=clients_bucket()):
                clients = hosted_storage()
                clients.create_bucket_if_missing()
            yield Stage(storage, clients, stored, tell=tell)
    finally:
        logging.disable(logging.NOTSET)
