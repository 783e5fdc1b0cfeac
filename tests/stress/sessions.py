"""The client's server that identifies sessions, and the results of its answers in the service."""

import json
from contextlib import ExitStack

from chatbots.models import Chatbot
from compliance.lookups.queue import RESOLVERS
from tests.looking_up import SESSION, with_resolver
from tests.oracle.model import now
from tests.receivers import Received, receiving
from tests.stress.looking import Onlooker
from tests.stress.truth import ModelConversation, Span, Truth

# The state of a look-up, and its error, which has ended with a value that was refused.
_REFUSED = "failed not_stored"


class Sessions:
    """The data of the server, and a record of its calls. It runs from `open` to `close`.

    An answer may be stored from the moment of the call; whether it was stored, the service shows afterwards (`see`).
    Each session has one chatter.
    """

    def __init__(self, truth: Truth, look: Onlooker) -> None:
        self._truth, self._look = truth, look
        self._whose: dict[str, tuple[ModelConversation, str]] = {}
        self._running = ExitStack()

    def open(self, chatbot: Chatbot) -> None:
        # The breakers of this process know chatbots of other stories by the same numbers.
        RESOLVERS.forget()
        receiver = self._running.enter_context(receiving(respond=self._respond))
        with_resolver(chatbot, receiver.url("/who"))

    def close(self) -> None:
        self._running.close()

    def new(self, entry: ModelConversation, chatter: str) -> dict[str, str]:
        """Return the variables of a document whose session is this chatter's."""
        token = self._truth.word(entry)
        self._whose[token] = (entry, chatter)
        return {SESSION: token}

    def whose(self, variables: dict[str, str]) -> str | None:
        """Return the chatter whose session is among the variables of a document."""
        return self._whose[variables[SESSION]][1] if SESSION in variables else None

    def see(self) -> None:
        """Record which answers are stored by now, and which have closed a conversation."""
        asked = {entry.number: entry for entry in self._truth.entries if entry.asked}
        for number, row in self._look.rows(asked.values()).items() if asked else ():
            entry = asked[number]
            for chatter in row.values.keys() & entry.asked:
                entry.names(chatter)
                if row.values[chatter] == "resolved":
                    entry.vouched[chatter].answered_at = entry.vouched[chatter].answered_at or now()
            # No other chatter can have been identified before.
            is_only = len(entry.asked) == 1 and entry.tried == entry.asked and not entry.claimed
            if row.lookup == _REFUSED and is_only and not self._truth.may_be_kept(entry):
                entry.named |= entry.asked

    def _respond(self, received: Received) -> bytes:
        entry, chatter = self._whose[received.payload["variables"][SESSION]]
        entry.vouched.setdefault(chatter, Span(now()))
        entry.tried.add(chatter)
        entry.asked.add(chatter)
        return json.dumps({"value": chatter}).encode()
