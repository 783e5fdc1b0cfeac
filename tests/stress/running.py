"""Play stories rule by rule, with workers that stop at the story's steps, and search for the shortest that fails."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any
from unittest.mock import patch

from django.test import override_settings

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.retention import due
from tests import databases
from tests.clients import empty
from tests.holding import guarded
from tests.oracle.evidence import RequestRow, Usage
from tests.oracle.exports import export_of
from tests.oracle.model import FINAL
from tests.stress import circumstances, invariants, texts
from tests.stress.actors import Actor, ErrorsLogged, acting_in_pools
from tests.stress.invariants import Broken
from tests.stress.looking import Onlooker
from tests.stress.officers import clients_bucket
from tests.stress.restores import Restores
from tests.stress.sessions import Sessions
from tests.stress.stories import FILED, TURNS, Author, Rule, Story, printed, shortened
from tests.stress.truth import FiledRequest, Truth
from tests.stress.world import BOTS, COMMANDS, World

# Drains and sweeps after which everything has to be final, once the storage is well.
_ROUNDS = 8
_PATIENCE = 40.0
_SECONDS_TO_SHORTEN = 45.0

# A claim does not wait for what another has locked, a restore is noticed, and a story refuses uploads.
_TOLERATED = {"SQLSTATE 55P03", "logged service.restored"}
_TOLERATED |= {"logged A file could not be stored:", "logged A call was answered with 503:"}


class Play:
    """One story on a database and a bucket that are empty at its start."""

    def __init__(self, stage: "Stage", story: Story, *, seed: int) -> None:
        self.truth = Truth()
        self.broken: Broken | None = None
        self.performed = 0  # rules that were played, and all held
        self._story = story
        self._random = Random(seed)
        self._look = Onlooker(stage.storage, stage.clients)
        self._actors: dict[str, Actor] = {}
        self._watching = threading.Lock()
        self._forgotten: set[str] = set()
        self._sessions = Sessions(self.truth, self._look)
        self.world = World(self.truth, stage.faults, self._sessions, self._report)
        self._restores = Restores(self.world, self._look)
        self._has_officers = any(rule[0] in {"eyes", "period", "restore"} for rule in story)
        self._has_lookups = any(rule[0] == "arrive" for rule in story)
        if self._has_lookups:
            self._sessions.open(Chatbot.objects.get(slug=BOTS[0]))

    # --- Its parts -------------------------------------------------------------------------------------

    def run(self, *, to_the_end: bool = True) -> None:
        """Play the story, then repair all faults, and check. Raises Broken.

        Without `to_the_end` only the checks on the way count.
        """
        logged = ErrorsLogged(self._report)
        logging.getLogger().addHandler(logged)
        try:
            for rule in self._story:
                self._perform(rule)
                self.performed += 1
            if to_the_end:
                self._heal()
                self._look_at_the_end()
        finally:
            logging.getLogger().removeHandler(logged)
            for actor in self._actors.values():
                if actor.is_busy:
                    actor.kill()
            for actor in self._actors.values():
                actor.wait(_PATIENCE)
                actor.end()
            self._sessions.close()
            self._look.close()

    def _perform(self, rule: Rule) -> None:
        kind, *rest = rule
        if kind == "restore":
            if self._restores.has_backup:
                self._restore(*rest)
        elif kind in TURNS:
            self._turn(kind, *rest)
        elif kind == "kill":
            actor = self._actor(rest[0])
            if actor.is_stopped:
                actor.kill()
                self._settled(actor)
        else:
            self._call(partial(self._do, kind, *rest))

    def _turn(self, kind: str, name: str, steps: int | str | None = None) -> None:
        """Let a worker drain, sweep or look up, or resume it."""
        actor, work = self._actor(name), self.world.turns[kind]
        if steps == "begun":
            # It stops where a request is seen to have begun.
            begun = sum(one.has_begun for one in self.truth.named.values())
            actor.begin(work, steps=1)
            self._settled(actor)
            while actor.is_stopped and sum(one.has_begun for one in self.truth.named.values()) == begun:
                actor.resume(1)
                self._settled(actor)
            return
        # Unless another transaction has locked some of it, or nothing may be erased.
        is_alone = not any(each.is_stopped for each in self._actors.values())
        late = invariants.late(self.truth, self._look) if kind == "sweep" and is_alone else []
        most = None if steps is None else int(steps)
        if actor.is_stopped:
            actor.resume(most)
        else:
            actor.begin(work, steps=most)
        self._settled(actor)
        if kind == "sweep" and not actor.is_stopped and not self.world.is_ledger_refused:
            invariants.late_words_are_gone(late, self._look)

    def _call(self, work: Callable[[], object]) -> None:
        actor = self._actor("client")
        actor.begin(work)
        self._settled(actor)

    def _do(self, kind: str, *rest: Any) -> None:
        """Carry out a rule that is not a worker's turn: most have the name of a method."""
        world = self.world
        if kind in {"cancel", "approve", "reject", *COMMANDS}:
            world.decide(kind, *rest)
        elif kind in FILED:
            world.file(kind, *rest)
        else:
            owners = (world, world.officers, world.holders, world.writer, self._restores, circumstances)
            next(getattr(owner, kind) for owner in owners if hasattr(owner, kind))(*rest)

    def _restore(self, how: str = "") -> None:
        """Lose the database with all its actors, replay the ledger, and send lost data again."""
        for actor in self._actors.values():
            if actor.is_busy:
                actor.kill()
                self._settle(actor)
        with self._watching:  # what is seen before the service is open again is of neither life
            self._call(partial(self._restores.lose, how))
            self._call(self._restores.replay)
        self._look_on()
        invariants.after_replay(self.truth, self._look)
        self._call(self._restores.send_again)
        invariants.after_sending_again(self.truth, self._look, self._restores.lost)

    # --- The end ---------------------------------------------------------------------------------------

    def _heal(self) -> None:
        """Heal the storage, resume stopped actors, then retry failed requests and decide held ones."""
        self.world.mend()
        self._perform(("free",))
        for actor in list(self._actors.values()):
            if actor.is_stopped:
                actor.resume()
                self._settle(actor)
        states: list[list[tuple[str, str]]] = []
        while (waiting := self._waiting()) and len(states) < _ROUNDS:
            if len(states) >= 3 and states[-1] == states[-2] == states[-3]:
                break
            self._random.shuffle(waiting)
            for one in waiting:
                self._decide(one)
            for rule in (("leases",), ("hour",), ("work", "w1")):
                self._perform(rule)
            states.append([(one.name, one.status) for one in self._waiting()])
            if states[-1]:
                self._perform(("sweep", "w2"))
        # The failed ones that cannot be retried any more.
        self._forgotten = {one.name for one in self._waiting() if one.status == "failed" and not self._retries(one)}
        self._call(self.world.order_failed_days)
        # What was late until now has one sweep more, and the days that it changed are made.
        looks: Story = [("look", "w1")] * self._has_lookups
        for rule in (("leases",), ("hour",), *looks, ("sweep", "w1"), ("hour",), ("work", "w1")):
            self._perform(rule)

    def _decide(self, one: FiledRequest) -> None:
        if one.status == "failed":
            self._retries(one)
        elif one.status == "on_hold":
            self._perform((self._random.choice(["approve", "approve", "reject"]), one.name))
            if self._has_officers:
                self._perform(("officer", one.name))
        if self._random.random() < 0.3:
            self._perform(("work", "w1"))

    def _retries(self, one: FiledRequest) -> bool:
        taken: list[bool] = []
        self._call(lambda: taken.append(self.world.decide("retry", one.name)))
        return taken == [True]

    def _waiting(self) -> list[FiledRequest]:
        """Return the requests that are not final, as they are now."""
        found = self._look.requests()
        waiting = [one for one in self.truth.named.values() if one.id in found and found[one.id].status not in FINAL]
        for one in waiting:
            one.status = found[one.id].status
        return waiting

    def _look_at_the_end(self) -> None:
        self._judge(usage=self.world.usage())
        texts.are_right(self.truth, self._look)
        exports = [export for export in self.truth.of("export") if export.status == "completed"]
        for export in exports:
            self._perform(("week", export.name))
        if exports:
            self._perform(("sweep", "w1"))
            self._judge(usage={})

    def _judge(self, *, usage: dict[str, Usage]) -> None:
        self.truth.judge(stay_failed=self._forgotten)
        invariants.at_the_end(self.truth, replace(self._look.all(), usage=usage), self._look)

    # --- Looking on ------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Read the states of requests, and check each deletion that is completed now. Raises nothing."""
        if self.broken or not self._watching.acquire(blocking=False):
            return
        try:
            self._see()
        except Broken as broken:
            self.broken = self.broken or broken
        except Exception as error:  # not into the worker that is watched
            self.broken = self.broken or Broken("onlooker", repr(error))
        finally:
            self._watching.release()

    def _see(self) -> None:
        self._sessions.see()
        rows, truth = self._look.requests(), self.truth
        names = {one.id: one for one in list(truth.named.values()) if one.id}
        self._note_follow_ups(rows.values(), names)
        seen = [(row, names[row.id]) for row in rows.values() if row.id in names]
        for row, one in seen:
            one.status, one.has_begun = row.status, row.has_begun
            one.has_failed |= row.status == "failed"
            if row.cutoff_at and not one.is_marked and one.redacts:
                invariants.note_kept(truth, one, self._look)
            one.is_marked = row.cutoff_at is not None
            one.left_out = row.left_out
            one.is_delivered = row.hosting == "client"
            if row.key and one.kind == "export" and one.status == "completed":
                invariants.note_key(truth, one, row.key)
        invariants.note_removed(truth, {row.id for row, _ in seen if row.key})
        new = [one for _, one in seen if one.status == "completed" and not one.ended_at]
        for row, one in seen:
            one.ended_at, one.done_at = row.completed_at, one.done_at or row.completed_at
        for one in new:
            if one.kind == "export":
                objects = self._look.delivered() if one.is_delivered else self._look.objects()
                held = [truth.held_in(found) for found in objects if export_of(found.key, [one.object_key])]
                one.held = frozenset().union(*held) if held else None
        for one in new:
            invariants.at_completion(truth, one, self._look)

    def _note_follow_ups(self, rows: Iterable[RequestRow], names: dict[str, FiledRequest]) -> None:
        """Note exports that were filed again, and deletions of what others have left out."""
        for row in rows:
            if row.id in names:
                continue
            filed = {"request_id": row.id, "received_at": row.received_at}
            if removed := names.get(row.repeats or ""):
                names[row.id] = self.truth.repeat(removed, **filed)
                invariants.note_deletions(self.truth, removed, names[row.id])
            if first := names.get(row.continues or ""):
                names[row.id] = self.truth.continue_(first, **filed)

    def _report(self, what: str) -> None:
        if what not in _TOLERATED and not self.broken:
            self.broken = Broken(what, what)

    # --- Actors ----------------------------------------------------------------------------------------

    def _actor(self, name: str) -> Actor:
        if name not in self._actors:
            self._actors[name] = Actor(name, watch=self.watch, report=self._report)
        return self._actors[name]

    def _settled(self, actor: Actor) -> None:
        """Wait until it is done or stopped, and look. Raises Broken."""
        self._settle(actor)
        self._look_on()

    def _look_on(self) -> None:
        self.watch()
        if self.broken:
            raise self.broken

    def _settle(self, actor: Actor, depth: int = 0) -> None:
        """Wait until it is done or stopped. Stopped actors that block it are resumed.

        A command that polls for rows that another has locked is blocked by no session that the database knows
        of: after a while all stopped actors are resumed.
        """
        end = time.monotonic() + _PATIENCE
        looks_in_vain = time.monotonic() + _PATIENCE / 4
        while not actor.wait(0.05):
            stopped = [other for other in self._actors.values() if other.is_stopped]
            blocking = set(self._look.blocking(actor.pid)) if stopped and actor.pid else set()
            for other in stopped:
                if other.is_stopped and (other.pid in blocking or time.monotonic() > looks_in_vain):
                    other.resume()
                    if depth < len(self._actors):
                        self._settle(other, depth + 1)
            if time.monotonic() > end:
                raise Broken("hangs", f"{actor.name} does not come to an end")


# --- One story after another ---------------------------------------------------------------------------------


@dataclass
class Stage:
    """Plays stories, one after another. `performed` are the rules that were played of a failed one."""

    storage: ObjectStorage
    clients: ObjectStorage
    faults: circumstances.Faults
    tell: Callable[[str], None]
    performed: int = 0

    def play(self, story: Story, *, seed: int, to_the_end: bool = True) -> Broken | None:
        databases.empty()
        empty(self.storage)
        empty(self.clients)
        self.faults.refusals.clear()
        play = Play(self, story, seed=seed)
        try:
            play.run(to_the_end=to_the_end)
        except Broken as broken:
            self.performed = play.performed
            return broken
        return None

    def search(self, *, seed: int, seconds: float, most: int = 1) -> list[str]:
        """Play stories for `seconds`, and report failures of different kinds, each as short as possible."""
        end = time.monotonic() + seconds
        found: dict[str, str] = {}
        number = 0
        while time.monotonic() < end and len(found) < most:
            story_seed = seed * 1_000_000 + number
            number += 1
            story = Author(story_seed).story()
            broken = self.play(story, seed=story_seed)
            if broken and broken.kind not in found:
                self.tell(f"story {number} after {seconds - (end - time.monotonic()):.0f} s: {broken}")
                patience = min(_SECONDS_TO_SHORTEN, seconds / 4)
                found[broken.kind] = self._shortest(story, story_seed, broken, seconds=patience)
                self.tell(found[broken.kind])
        self.tell(f"{number} stories")
        return list(found.values())

    def _shortest(self, story: Story, seed: int, broken: Broken, *, seconds: float) -> str:
        end = time.monotonic() + seconds
        to_the_end = self.performed == len(story)
        last = broken

        def fails(shorter: Story) -> bool:
            nonlocal last
            if time.monotonic() > end:
                return False
            again = self.play(shorter, seed=seed, to_the_end=to_the_end)
            last = again if again and again.kind == broken.kind else last
            return last is again

        # Later rules are not the cause.
        shortest = shortened(story[: self.performed + 1], fails)
        return f"{last}\n{len(shortest)} rules:\n{printed(shortest)}"


@contextmanager
def stage(storage: ObjectStorage, *, tell: Callable[[str], None] = print) -> Iterator[Stage]:
    # Only errors are read, and there are many lines.
    logging.disable(logging.WARNING)
    try:
        # Retention runs have several slices, however little is stored.
        slices = patch.object(due, "SLICE", 1)
        with acting_in_pools(), slices, guarded(), circumstances.installed(storage) as stored:
            with override_settings(S3_BUCKET=clients_bucket()):
                clients = hosted_storage()
                clients.create_bucket_if_missing()
            yield Stage(storage, clients, stored, tell)
    finally:
        logging.disable(logging.NOTSET)
