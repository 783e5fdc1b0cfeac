"""Causes one fault after another, mends each, and measures how soon the service carries requests out again."""

import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from random import Random

from tests.faults.catalogue import Fault
from tests.faults.client import NoAnswer
from tests.faults.site import Site
from tests.faults.soak import sending
from tests.faults.soak.caller import new_key
from tests.faults.soak.circle import Circle
from tests.faults.soak.filing import see
from tests.faults.soak.following import Read, settle
from tests.faults.soak.model import Filed
from tests.faults.soak.receivers import WELL, Receivers
from tests.faults.soak.violations import Violations
from tests.faults.wire import Wire

# How long a fault lasts that lasts until it is mended.
_LASTS = (1.0, 9.0)
# Longer than anything may take.
_LONGEST = 240.0
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
    wires: dict[str, Callable[..., None]] = {
        "refuses": lambda *_: client_wire.refuse(),
        "drips": lambda *_: client_wire.slow(2_000),
        "silent": lambda *_: client_wire.hang(),
    }
    return moods | {f"client's bucket {how}": Fault(cause, restore, lasts=True) for how, cause in wires.items()}


class Driver(threading.Thread):
    """`recoveries` has, by fault, the seconds from the mend until a request that was filed at once was completed."""

    def __init__(
        self,
        site: Site,
        circle: Circle,
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
        self._circle = circle
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
        circle = self._circle
        person = circle.new_person()
        sent = [sending.prepared(circle, circle.new_talk(), person.value)]
        sending.send(circle, sent)
        self._violations.outages.begin(name)
        self.caused[name] += 1
        fault.cause(self._site, self._chance)
        if fault.lasts:
            self._over.wait(self._chance.uniform(*_LASTS))
        fault.mend(self._site)
        seconds = self._measure(person.value)
        self.recoveries[name].append(seconds)
        if seconds > fault.recovers_within:
            told = f"after {name}: a request filed at once took {seconds:.1f} s of {fault.recovers_within:.0f} s"
            self._violations.add("slow recovery", told)

    def _measure(self, value: str) -> float:
        """File a request as soon as one is accepted, and return the seconds until it is seen completed."""
        circle = self._circle
        began = time.monotonic()
        kind = self._chance.choice(("deletion", "export"))
        one = Filed(circle.bot, kind, new_key(), value=value)
        one.surely = set(circle.alive_of(value))
        one.texts = {talk.id: dict(talk.texts) for talk in one.surely}
        circle.model.file(one)
        body = {"unique_chatter_identifier_key": circle.uci, "unique_chatter_identifier_value": value}
        path = "data-deletion" if kind == "deletion" else "data-export"
        while time.monotonic() < began + _LONGEST and not one.is_final:
            with suppress(NoAnswer):
                if not one.id:
                    answer = circle.caller.client.file(path, body, key=one.key)
                    if answer.status == 200:
                        one.id = answer.body["request_id"]
                        circle.filed[one.id] = one
                        circle.open[one] = None
                        circle.close(one.surely if kind == "deletion" else ())
                        see(circle, one, answer.body)
                else:
                    answer = circle.caller.client.get(f"requests/{one.id}")
                    if answer.status == 200:
                        see(circle, one, answer.body)
            time.sleep(0.05)
        seconds = time.monotonic() - began
        if one.status == "completed":
            circle.unsettled.pop(one, None)
            settle(circle, one, circle.caller.get("one request", f"requests/{one.id}").body, self._read)
        else:
            self._violations.add("slow recovery", f"{one} is {one.status or 'not accepted'} after {seconds:.0f} s")
        return seconds
