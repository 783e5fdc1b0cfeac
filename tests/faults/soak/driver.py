"""Causes one fault after another, mends each, and measures how soon everything is as before."""

import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from functools import partial
from random import Random

from tests.faults.catalogue import SILENT_SECONDS, Fault
from tests.faults.site import Site
from tests.faults.soak.receivers import WELL, Receivers
from tests.faults.wire import Wire
from tests.oracle import sending
from tests.oracle.caller import new_key
from tests.oracle.client_state import ClientState
from tests.oracle.filing import see
from tests.oracle.following import Read, settle
from tests.oracle.model import Request
from tests.oracle.violations import Violations

# How long a fault lasts that lasts until it is mended, unless it is to outlast a limit.
_LASTS = (1.0, 6.0)
# Longer than anything may take.
_LONGEST = 240.0
# So many bytes a second that no call ends in its time.
_DRIPS = 100
# Between two requests that are filed to see whether work goes on.
_PROBE_SECONDS = 0.5
# What a fault explains: refusals that are right while it lasts.
_EXCUSES = {"clock of the web server": {"stale_timestamp", "invalid_identity_token"}}


def faults_of(receivers: Receivers, client_wire: Wire) -> dict[str, Fault]:
    """Return the faults of the clients' own servers, which must hold up nobody else's requests."""

    def be(name: str, mood: str, *_: object) -> None:
        setattr(receivers, name, mood)

    def restore(_: Site) -> None:
        client_wire.restore()

    moods = {
        f"{whose} {mood}": Fault(partial(be, name, mood), partial(be, name, WELL), lasts=True)
        for whose, name, all_moods in (
            ("receiver", "mood", ("errors", "silent", "drips")),
            ("resolver", "resolver_mood", ("errors", "silent", "drips", "lies")),
        )
        for mood in all_moods
    }
    wires: dict[str, tuple[Callable[..., None], float]] = {
        "refuses": (lambda *_: client_wire.refuse(), 0.0),
        "drips": (lambda *_: client_wire.slow(_DRIPS), SILENT_SECONDS),
        "silent": (lambda *_: client_wire.hang(), SILENT_SECONDS),
    }
    return moods | {
        f"client's bucket {how}": Fault(cause, restore, lasts=True, least=least)
        for how, (cause, least) in wires.items()
    }


class Driver(threading.Thread):
    """`recoveries` has, by fault, the seconds from the mend, or the cause where nothing is mended, until all was as
    before: everything ran, and what was filed meanwhile, one request after another, was completed.

    `state` is of a chatbot of whose chatters nobody else asks for anything.
    """

    def __init__(
        self,
        site: Site,
        state: ClientState,
        faults: dict[str, Fault],
        violations: Violations,
        *,
        seed: int,
        pause: tuple[float, float],
        read: Read,
        over: threading.Event,
    ) -> None:
        super().__init__(name="faults", daemon=True)
        self.recoveries: dict[str, list[float]] = defaultdict(list)
        self.caused: Counter[str] = Counter()
        self.prevented = {name: fault.prevented(site) for name, fault in faults.items() if fault.prevented(site)}
        self._site = site
        self._state = state
        self._faults = {name: fault for name, fault in faults.items() if name not in self.prevented}
        self._violations = violations
        self._chance = Random(seed)
        self._pause = pause
        self._read = read
        self._over = over

    @property
    def present(self) -> str:
        return self._violations.outages.present

    def excuses(self) -> Collection[str]:
        return next((codes for name, codes in _EXCUSES.items() if self.present.startswith(name)), ())

    def run(self) -> None:
        for name in self._in_turn():
            if self._over.wait(self._chance.uniform(*self._pause)):
                return
            try:
                self._round(name, self._faults[name])
            except Exception as error:
                self._told(name, error)
                # Otherwise this thread would die unseen, and the rest of the run had no faults.
                try:
                    self._faults[name].mend(self._site)
                except Exception as another:
                    self._told(name, another)
            finally:
                if self.present:
                    self._violations.outages.end()

    def _told(self, name: str, error: Exception) -> None:
        """Note that the soak itself is at fault."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        told = f"fault {name}: {type(error).__name__} in {place.filename}:{place.lineno}: {error}"
        self._violations.add("the soak itself", told)

    def _in_turn(self) -> Iterator[str]:
        """Yield each fault once, by chance, and then all of them anew."""
        while True:
            names = list(self._faults)
            self._chance.shuffle(names)
            yield from names

    def _round(self, name: str, fault: Fault) -> None:
        value = self._new_chatter()
        self._violations.outages.begin(name)
        self.caused[name] += 1
        fault.cause(self._site, self._chance)
        if fault.lasts:
            self._over.wait(max(fault.least, self._chance.uniform(*_LASTS)))
        fault.mend(self._site)
        probes, seconds = self._recover(value)
        self.recoveries[name].append(seconds)
        if seconds > fault.recovers_within:
            told = f"after {name} it took {seconds:.1f} s of {fault.recovers_within:.0f} s until all was as before"
            self._violations.add("slow recovery", told)
        self._violations.outages.end()
        for one in probes:
            self._look_at(one)

    def _new_chatter(self) -> str:
        """Store a conversation of somebody, and return their value."""
        state = self._state
        value = state.new_person().value
        sending.send(state, [sending.prepared(state, state.new_conversation(), value)])
        return value

    def _recover(self, value: str) -> tuple[list[Request], float]:
        """File one request after another until all is as before. Return them, and the seconds that it took.

        Before a fault is noticed all may seem well, so it must be so both before a request is filed and after it is
        completed.
        """
        began = time.monotonic()
        probes = []
        while True:
            missing = self._site.missing()
            probes.append(self._probe(value, began + _LONGEST))
            missing += self._site.missing()
            seconds = time.monotonic() - began
            if probes[-1].status == "completed" and not missing:
                return probes, seconds
            if seconds > _LONGEST:
                told = f"{probes[-1]} is {probes[-1].status or 'not accepted'}; {', '.join(missing)}"
                self._violations.add("slow recovery", f"after {seconds:.0f} s {told}")
                return probes, seconds
            time.sleep(_PROBE_SECONDS)
            value = self._new_chatter()

    def _probe(self, value: str, end: float) -> Request:
        """File a request, and return it once it is over, or the time is."""
        state = self._state
        kind = self._chance.choice(("deletion", "export"))
        one = Request(state.bot, kind, new_key(), value=value)
        one.surely = set(state.alive_of(value))
        one.texts = {conversation.id: dict(conversation.texts) for conversation in one.surely}
        state.model.file(one)
        body = {"unique_chatter_identifier_key": state.uci, "unique_chatter_identifier_value": value}
        path = "data-deletion" if kind == "deletion" else "data-export"
        answer = state.caller.file("probe", path, body, one.key)
        if answer.status != 200:
            return one
        one.id = answer.body["request_id"]
        state.filed[one.id] = one
        state.open[one] = None
        state.close(one.surely if kind == "deletion" else ())
        see(state, one, answer.body)
        while not one.is_final and time.monotonic() < end:
            time.sleep(0.05)
            see(state, one, state.caller.get("probe's status", f"requests/{one.id}").body)
        return one

    def _look_at(self, one: Request) -> None:
        state = self._state
        if one.status == "completed":
            state.unsettled.pop(one, None)
            settle(state, one, state.caller.get("one request", f"requests/{one.id}").body, self._read)
