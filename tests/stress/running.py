"""Play stories: rule by rule with workers that stop where the story says, or in several threads at once."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any
from zlib import crc32

from django.db import connection

from common.storage import ObjectStorage
from tests.oracle.evidence import RequestRow
from tests.oracle.model import FINAL
from tests.stress import circumstances, invariants, texts
from tests.stress.actors import Actor, ErrorsLogged, Killed, jitter, stopping
from tests.stress.invariants import Broken
from tests.stress.looking import Onlooker
from tests.stress.restores import Restores
from tests.stress.sessions import Sessions
from tests.stress.stories import FILED, TURNS, Rule, Story
from tests.stress.truth import Filed, Truth
from tests.stress.world import COMMANDS, World

# Drains and sweeps after which everything has to be final, once the storage is well.
_ROUNDS = 8
_PATIENCE = 40.0

# A claim does not wait for what another has locked, a restore is noticed, and a story refuses uploads.
_TOLERATED = {"SQLSTATE 55P03", "logged service.restored"}
_TOLERATED |= {"logged A file could not be stored:", "logged A call was answered with 503:"}


class Play:
    """One story on a database and a bucket that are empty at its start."""

    def __init__(
        self, storage: ObjectStorage, clients: ObjectStorage, stored: circumstances.Faults, story: Story, *, seed: int
    ) -> None:
        self.truth = Truth()
        self.broken: Broken | None = None
        self.performed = 0  # rules that were played, and all held
        self._story = story
        self._random = Random(seed)
        self._faults = stored
        self._look = Onlooker(storage, clients)
        # Else what is answered is known later than what it led to.
        self._is_in_order = True
        self._actors: dict[str, Actor] = {}
        self._watching = threading.Lock()
        self._forgotten: set[str] = set()
        self._sessions = Sessions(self.truth, self._look)
        self.world = World(self.truth, stored, self._sessions, self._report)
        self._restores = Restores(self.world, self._look)
        self._has_officers = any(rule[0] in {"eyes", "period", "restore"} for rule in story)
        self._has_lookups = any(rule[0] == "arrive" for rule in story)
        if self._has_lookups:
            self.world.answer_lookups()

    # --- Its parts -------------------------------------------------------------------------------------

    def run(self, threads: int = 1, *, to_the_end: bool = True) -> None:
        """Play it, then heal what is broken, and look. Raises Broken.

        Not `to_the_end` only what is seen on the way counts.
        """
        logged = ErrorsLogged(self._report)
        logging.getLogger().addHandler(logged)
        try:
            self._is_in_order = threads == 1
            if threads > 1:
                self._at_once(threads)
            else:
                for rule in self._story:
                    self._perform(rule)
                    self.performed += 1
            if to_the_end:
                self._heal()
                self._look_at_the_end()
        finally:
            logging.getLogger().removeHandler(logged)
            self._end()

    def _perform(self, rule: Rule) -> None:
        kind, *rest = rule
        if kind == "restore":
            if self._restores.has_backup:
                self._restore(*rest)
            return
        if kind in TURNS:
            name, steps = (*rest, None)[:2]
            actor = self._actor(name)
            if steps == "begun":
                self._begin_one(actor, self.world.turns[kind])
                return
            # Unless somebody has locked some of it, or nothing may be erased.
            is_alone = not any(each.is_stopped for each in self._actors.values())
            late = invariants.late(self.truth, self._look) if kind == "sweep" and is_alone else set()
            if actor.is_stopped:
                actor.go_on(steps)
            else:
                actor.begin(self.world.turns[kind], steps=steps)
        elif kind == "kill":
            actor = self._actor(rest[0])
            if not actor.is_stopped:
                return
            actor.kill()
        else:
            self._call(partial(self._do, kind, *rest))
            return
        self._settle(actor)
        self.watch()
        self._raise_broken()
        if kind == "sweep" and not actor.is_stopped and not self.world.is_ledger_refused:
            invariants.late_words_are_gone(late, self._look)

    def _begin_one(self, actor: Actor, work: Callable[[], object]) -> None:
        """Stop the actor where a request is seen to have begun."""
        begun = sum(one.has_begun for one in self.truth.named.values())
        actor.begin(work, steps=1)
        self._settle(actor)
        while actor.is_stopped and sum(one.has_begun for one in self.truth.named.values()) == begun:
            actor.go_on(1)
            self._settle(actor)
            self.watch()
        self._raise_broken()

    def _call(self, work: Callable[[], object]) -> None:
        """Do something from outside. Raises Broken."""
        actor = self._actor("client")
        actor.begin(work)
        self._settle(actor)
        self.watch()
        self._raise_broken()

    def _restore(self, how: str = "") -> None:
        """Lose the database with all who work on it, replay the ledger, and send again what was lost."""
        for actor in self._actors.values():
            if actor.is_busy:
                actor.kill()
                self._settle(actor)
        with self._watching:  # what is seen before the service is open again is of neither life
            self._call(partial(self._restores.lose, how))
            self._call(self._restores.replay)
        self.watch()
        self._raise_broken()
        invariants.after_replay(self.truth, self._look)
        self._call(self._restores.send_again)
        invariants.after_sending_again(self.truth, self._look, self._restores.lost)

    def _do(self, kind: str, *rest: Any) -> None:
        """Do what a rule says, which is not a worker's turn: most are named as a method is."""
        world = self.world
        if kind in {"cancel", "approve", "reject", *COMMANDS}:
            world.decide(kind, *rest)
        elif kind in FILED:
            world.file(kind, *rest)
        else:
            owners = (world, world.officers, world.writer, self._restores, circumstances)
            method = next(getattr(owner, kind) for owner in owners if hasattr(owner, kind))
            method(*rest)

    def _at_once(self, threads: int) -> None:
        """Play the beginning in order, then deal the rest out to threads."""
        first = {"write", "say", "arrive", "identify", "upload", "days"}
        begun = next((place for place, rule in enumerate(self._story) if rule[0] not in first), 0)
        for rule in self._story[:begun]:
            self._perform(rule)
        hands: list[Story] = [[] for _ in range(threads)]
        for rule in self._story[begun:]:
            # The same rule to the same thread, whatever is left out.
            hands[crc32(repr(rule).encode()) % threads].append(rule)
        players = [self._actor(f"player {number}") for number in range(threads)]
        for player, hand in zip(players, hands, strict=True):
            player.begin(partial(self._play_hand, player, hand, Random(self._random.random())))
        end = time.monotonic() + _PATIENCE * 2
        while not all(player.wait(0.05) for player in players):
            self.watch()
            if time.monotonic() > end:
                raise Broken("hangs", "the threads do not come to an end")
        self.watch()
        self._raise_broken()

    def _play_hand(self, player: Actor, hand: Story, random: Random) -> None:
        """Play these rules beside others. Who is to stop after some steps rests there, or is killed."""
        killed = {rule[1] for rule in self._story if rule[0] == "kill"}
        for kind, *rest in hand:
            player.jitter = jitter(random)
            if kind in TURNS:
                name, steps = (*rest, None)[:2]
                if steps is not None:
                    player.jitter = stopping(player.jitter, steps, dies=name in killed)
                try:
                    self.world.turns[kind]()
                except Killed:
                    connection.close()
            elif kind != "kill":
                self._do(kind, *rest)
        player.jitter = None

    # --- The end ---------------------------------------------------------------------------------------

    def _heal(self) -> None:
        """Heal the storage, resume stopped actors, then retry failed requests and decide held ones."""
        self.world.mend()
        for actor in list(self._actors.values()):
            if actor.is_stopped:
                actor.go_on()
                self._settle(actor)
        states: list[list[tuple[str, str]]] = []
        while (waiting := self._waiting()) and not _is_stuck(states):
            self._random.shuffle(waiting)
            self._decide_all(waiting)
            for rule in (("leases",), ("hour",), ("work", "w1")):
                self._perform(rule)
            states.append([(one.name, one.status) for one in self._waiting()])
            if states[-1]:
                self._perform(("sweep", "w2"))
        # The failed ones that cannot be retried any more.
        self._forgotten = {one.name for one in self._waiting() if one.status == "failed" and not self._retries(one)}
        # What was late until now has one sweep more, and the days that it changed are made.
        looks: Story = [("look", "w1")] * self._has_lookups
        for rule in (("leases",), ("hour",), *looks, ("sweep", "w1"), ("hour",), ("work", "w1")):
            self._perform(rule)

    def _decide_all(self, waiting: list[Filed]) -> None:
        for one in waiting:
            if one.status == "failed":
                self._retries(one)
            elif one.status == "on_hold":
                self._perform((self._random.choice(["approve", "approve", "reject"]), one.name))
                if self._has_officers:
                    self._perform(("officer", one.name))
            if self._random.random() < 0.3:
                self._perform(("work", "w1"))

    def _retries(self, one: Filed) -> bool:
        taken: list[bool] = []
        self._call(lambda: taken.append(self.world.decide("retry", one.name)))
        return taken == [True]

    def _waiting(self) -> list[Filed]:
        """Return the requests that are not final, as they are now."""
        found = self._look.requests()
        waiting = [one for one in self.truth.named.values() if one.id in found and found[one.id].status not in FINAL]
        for one in waiting:
            one.status = found[one.id].status
        return waiting

    def _look_at_the_end(self) -> None:
        self.watch()
        self._raise_broken()
        self._judge(in_grace=True)
        texts.are_right(self.truth, self._look)
        exports = [export for export in self.truth.exports if export.status == "completed"]
        if exports:
            for export in exports:
                self._perform(("week", export.name))
            self._perform(("sweep", "w1"))
            self._judge(in_grace=False)

    def _judge(self, *, in_grace: bool) -> None:
        evidence = self._look.all()
        if in_grace:  # once
            evidence.usage = self.world.usage()
        self.truth.judge(stay_failed=self._forgotten)
        invariants.at_the_end(self.truth, evidence, self._look, in_grace=in_grace)

    def _end(self) -> None:
        for actor in self._actors.values():
            actor.jitter = None
            if actor.is_busy:
                actor.kill()
        for actor in self._actors.values():
            actor.wait(_PATIENCE)
            actor.end()
        self._sessions.close()
        self._look.close()

    # --- Looking on ------------------------------------------------------------------------------------

    def watch(self) -> None:
        """See what has become of requests, and check each deletion that is completed now. Raises nothing."""
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
        rows = self._look.requests()
        names = self._names(rows)
        requests = [request for request in rows.values() if request.id in names]
        for request in requests:
            one = names[request.id]
            one.status, one.has_begun = request.status, request.has_begun
            one.has_failed |= request.status == "failed"
            if request.cutoff_at and not one.is_marked and one.text and self._is_in_order:
                invariants.note_kept(self.truth, one, self._look)
            one.is_marked = request.cutoff_at is not None
            one.left_out = request.left_out
            one.is_delivered = request.hosting == "client"
            if request.key and one.is_export and one.status == "completed":
                invariants.note_key(self.truth, one, request.key)
        if self._is_in_order:
            invariants.note_removed(self.truth, {request.id for request in requests if request.key})
        new = [
            one for request in requests if (one := names[request.id]).status == "completed" and not one.completed_at
        ]
        for request in requests:
            one = names[request.id]
            one.completed_at, one.done_at = request.completed_at, one.done_at or request.completed_at
        for one in new:
            if one.is_export:
                objects = self._look.delivered() if one.is_delivered else self._look.objects()
                held = [self.truth.held_in(found) for found in objects if found.key == one.object_key]
                one.held = frozenset().union(*held) if held else None
        for one in new:
            invariants.at_completion(self.truth, one, self._look)

    def _names(self, rows: dict[str, RequestRow]) -> dict[str, Filed]:
        """Return the requests by id, also exports that were filed again."""
        names = {one.id: one for one in list(self.truth.named.values()) if one.id}
        for row in rows.values():
            removed = names.get(row.repeats or "")
            if removed and row.id not in names:
                one = self.truth.repeat(removed, request_id=row.id, received_at=row.received_at)
                if self._is_in_order:
                    invariants.note_deletions(self.truth, removed, one)
                names[row.id] = one
        return names

    def _report(self, what: str) -> None:
        if what not in _TOLERATED and not self.broken:
            self.broken = Broken(what, what)

    def _raise_broken(self) -> None:
        if self.broken:
            raise self.broken

    # --- Actors ----------------------------------------------------------------------------------------

    def _actor(self, name: str) -> Actor:
        if name not in self._actors:
            self._actors[name] = Actor(name, watch=self.watch, report=self._report)
        return self._actors[name]

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
                    other.go_on()
                    if depth < len(self._actors):
                        self._settle(other, depth + 1)
            if time.monotonic() > end:
                raise Broken("hangs", f"{actor.name} does not come to an end")


def _is_stuck(states: list[list[tuple[str, str]]]) -> bool:
    return len(states) >= _ROUNDS or (len(states) >= 3 and states[-1] == states[-2] == states[-3])
