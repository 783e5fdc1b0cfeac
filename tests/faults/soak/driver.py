"""Causes one fault after another, repairs each, and measures the time of the recovery."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from random import Random

from tests.faults.catalogue import SILENT_SECONDS, Fault
from tests.faults.site import Site
from tests.faults.soak.receivers import WELL, Receivers
from tests.faults.wire import Wire
from tests.oracle import filing, sending
from tests.oracle.client_state import ClientState
from tests.oracle.following import settle
from tests.oracle.model import Request

# The duration of a fault that lasts until its repair, unless it must outlast a limit.
_LASTS = (1.0, 6.0)
# Longer than any recovery may take.
_LONGEST = 240.0
# Bytes a second: so few that no call ends in its time.
_DRIPS = 100
# The pause between two requests that test whether work continues.
_PROBE_SECONDS = 0.5


def faults_of(receivers: Receivers, client_wire: Wire) -> dict[str, Fault]:
    """Return the faults of the clients' own servers, which must not delay the requests of others."""

    def mood(what: str, mood: str) -> Fault:
        return Fault(lambda *_: receivers.mood.update({what: mood}), lambda _: receivers.mood.update({what: WELL}))

    def wire(cause: Callable[[], None], least: float = SILENT_SECONDS) -> Fault:
        return Fault(lambda *_: cause(), lambda _: client_wire.restore(), least=least)

    return {
        **{f"receiver {each}": mood("hook", each) for each in ("errors", "silent", "drips")},
        **{f"resolver {each}": mood("who", each) for each in ("errors", "silent", "drips", "lies")},
        "client's bucket refuses": wire(client_wire.refuse, 0.0),
        "client's bucket drips": wire(lambda: client_wire.slow(_DRIPS)),
        "client's bucket silent": wire(client_wire.hang),
    }


class Driver(threading.Thread):
    """`recoveries` has, by fault, the seconds from the mend, or the cause where nothing is mended, until all was as
    before: everything ran, and what was filed meanwhile, one request after another, was completed.

    `state` is of a chatbot whose chatters get no other requests.
    """

    def __init__(
        self,
        site: Site,
        state: ClientState,
        faults: dict[str, Fault],
        *,
        seed: int,
        pause: tuple[float, float],
        over: threading.Event,
    ) -> None:
        super().__init__(name="faults", daemon=True)
        self.recoveries: dict[str, list[float]] = defaultdict(list)
        self.caused: Counter[str] = Counter()
        self.prevented = {name: fault.prevented(site) for name, fault in faults.items() if fault.prevented(site)}
        self._site, self._state, self._violations = site, state, state.violations
        self._faults = {name: fault for name, fault in faults.items() if name not in self.prevented}
        self._chance = Random(seed)
        self._pause, self._over = pause, over

    def run(self) -> None:
        """Cause each fault once, by chance, and then all of them anew."""
        names: list[str] = []
        while not self._over.wait(self._chance.uniform(*self._pause)):
            names = names or self._chance.sample(list(self._faults), len(self._faults))
            name = names.pop()
            # After any error the rest of the run still has faults.
            for do in (lambda name=name: self._round(name), lambda name=name: self._faults[name].mend(self._site)):
                try:
                    do()
                    break
                except Exception as error:
                    self._violations.at_fault(f"fault {name}", error)
            if self._violations.outages.present:
                self._violations.outages.end()

    def _round(self, name: str) -> None:
        fault = self._faults[name]
        value = self._new_chatter()
        self._violations.outages.begin(name, fault.excuses)
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
        for probe in probes:
            if probe.status == "completed":
                self._state.unsettled.pop(probe, None)
                settle(self._state, probe)

    def _new_chatter(self) -> str:
        """Store a conversation of a new chatter, and return the value."""
        value = self._state.new_person().value
        sending.store(self._state, value)
        return value

    def _recover(self, value: str) -> tuple[list[Request], float]:
        """File one request after another until the site has recovered. Return them, and the seconds.

        Before a fault is noticed the site may seem to work, so it must work both before a request is filed and after
        it is completed.
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
        state = self._state
        request_of = self._chance.choice((filing.deletion_of, filing.export_of))
        request = filing.file(state, request_of(state, value), called="probe")
        while request.id and not request.is_final and time.monotonic() < end:
            time.sleep(0.05)
            filing.see(state, request, state.caller.get("probe's status", f"requests/{request.id}").body)
        return request
