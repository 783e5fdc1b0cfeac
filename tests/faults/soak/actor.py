"""A thread of a client: does one thing after another, by chance, at a pace."""

import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults.soak import reading
from tests.oracle import filing, sending
from tests.oracle.caller import Silent
from tests.oracle.client_state import ClientState
from tests.oracle.following import Read, follow

Action = Callable[[ClientState], None]

# How often each is done, compared with the others.
SENDING: dict[Action, int] = {
    sending.begin: 16,
    sending.go_on: 16,
    sending.share: 4,
    sending.repeat: 6,
    sending.come_late: 5,
    sending.come_back: 4,
    sending.come_back_unnamed: 2,
    sending.upload: 6,
    sending.identify: 4,
    sending.sign: 4,
    sending.arrive: 3,
    sending.see_who_it_is: 4,
}
FILING: dict[Action, int] = {
    filing.delete: 9,
    filing.delete_conversations: 5,
    filing.export: 7,
    filing.export_conversations: 3,
    filing.batch: 2,
    filing.redact: 3,
}
READING: dict[Action, int] = {
    filing.file_again: 3,
    reading.read_log: 3,
    reading.read_requests: 2,
    reading.read_one_request: 3,
    reading.look_up: 2,
    reading.preview: 2,
    reading.find_conversations: 3,
    reading.read_usage: 1,
    reading.read_some: 5,
}
_ROUNDS = 5
# What needs a resolver and an identity key.
_IDENTIFYING: set[Action] = {sending.sign, sending.arrive, sending.see_who_it_is}


class Actor(threading.Thread):
    """`rate` is how many things it does in a second, if each takes no time."""

    def __init__(self, state: ClientState, *, rate: float, read: Read, over: threading.Event) -> None:
        super().__init__(name=f"client of {state.bot}", daemon=True)
        self.state = state
        self._rate = rate
        self._read = read
        self._over = over

    def run(self) -> None:
        while not self._over.is_set():
            self.attempt(self._act)
            self._over.wait(self.state.chance.expovariate(self._rate))

    def attempt(self, act: Callable[[], None]) -> None:
        """Do something; what goes wrong in the soak itself is told as such."""
        try:
            act()
        except Silent:
            pass  # told already
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"
            self.state.told("the soak itself", told)

    def follow_all(self) -> None:
        """Ask for everything that is open, and look at all that is over; again at what could not be fetched."""
        for _ in range(_ROUNDS):
            self.attempt(lambda: follow(self.state, self._read, most=1000))
            if not self.state.unsettled:
                return

    def _act(self) -> None:
        state = self.state
        kinds = SENDING | READING
        if len(state.open) < filing.MOST_OPEN:
            kinds = kinds | FILING
        if state.identity_key is None:
            kinds = {action: weight for action, weight in kinds.items() if action not in _IDENTIFYING}
        [action] = state.chance.choices(list(kinds), list(kinds.values()))
        action(state)
        follow(state, self._read, most=2)
