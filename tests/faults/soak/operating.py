"""The operator's acts: retries failed requests, releases legal holds, sets a retention period, orders extracts."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import cycle

import psycopg

from tests.faults.site import Site
from tests.oracle import holding, sending
from tests.oracle.caller import Silent
from tests.oracle.client_state import ClientState
from tests.oracle.model import Conversation, Request, now

RETENTION_DAYS = 90
# After faults of the storages, the processes and the clocks (S3 refuses a signature of another time) a retry helps.
EXPECTED = {"storage_unavailable", "storage_incomplete", "storage_access_denied", "worker_lost", "database_lost"}
# The time after a fault in which a command, and its request, may still fail: a storage rests, and attempts are few.
_CALM, _REST = 60.0, 180.0
# How long a legal hold is in force.
_HELD = timedelta(seconds=25)
_FAILED = "SELECT DISTINCT error_code, error_detail FROM compliance_compliancerequest WHERE status = 'failed'"
# A day passes for the runs of a chatbot: it gets one a day.
_DAY_PASSES = """
UPDATE compliance_retentionrun SET day = day - 1
 WHERE chatbot_id = (SELECT id FROM chatbots_chatbot WHERE slug = %s)
"""
_FIRST_RUN_IS_DUE = """
UPDATE compliance_compliancerequest SET not_before = clock_timestamp()
 WHERE kind = 'retention' AND status = 'accepted' AND not_before > clock_timestamp() + interval '1 hour'
"""


class Operator(threading.Thread):
    """`state` is a chatbot with a retention period, to which old conversations are sent."""

    def __init__(
        self, site: Site, state: ClientState, clients: Sequence[ClientState], *, over: threading.Event, every: float
    ) -> None:
        super().__init__(name="operator", daemon=True)
        self.retried: Counter[str] = Counter()
        # The acts that have succeeded, and how often.
        self.done: Counter[str] = Counter()
        self._site, self._state, self._violations = site, state, state.violations
        self._clients, self._every, self._over = clients, every, over
        self._old: list[Conversation] = []

    def run(self) -> None:
        """Retry failed requests and release holds every ten seconds, and by turns retain and make days."""
        turns = cycle((self.retain, self.make_days))
        due = time.monotonic() + self._every
        while not self._over.wait(10):
            self.attempt(self.retry)
            self.attempt(self.release_holds)
            if time.monotonic() > due:
                self.attempt(next(turns))
                due = time.monotonic() + self._every

    def attempt(self, what: Callable[[], None]) -> None:
        """Perform an act that a fault may prevent: then it is done the next time."""
        try:
            what()
        except Silent:
            pass  # recorded already
        except (psycopg.Error, RuntimeError, OSError) as error:
            if not self._violations.outages.lately(_CALM):
                told = f"{what.__name__} has failed, and no fault explains that: {type(error).__name__}"
                self._violations.add("operator", f"{told} {error if isinstance(error, RuntimeError) else ''}".strip())
        else:
            self.done[what.__name__] += 1

    def begin(self) -> None:
        """Send the first old conversations, and set the period. Its first run need not wait a day."""
        self._send_old()
        said = self._site.manage("set_retention", self._state.bot, str(RETENTION_DAYS), ends=(0, 3))
        number = said.out.rpartition(" ")[2].strip()
        self._site.manage("set_retention", self._state.bot, str(RETENTION_DAYS), "--confirm", number)
        self._site.sql(_FIRST_RUN_IS_DUE)

    def retain(self) -> None:
        """Send more old conversations, and let the next day's run begin: by a sweep or by our command."""
        self._send_old()
        state, conversation = self._state, self._state.pick(self._old)
        if conversation:
            answer = state.caller.get("messages", f"conversations/{conversation.number}/messages", ok=(200, 410))
            if answer.status == 410:
                # A run has erased it: nothing more of it may be stored.
                sending.send_late(state, conversation, min(conversation.tried), "conversation_deleted")
        self.end_day()

    def end_day(self) -> None:
        self._site.sql(_DAY_PASSES, [self._state.bot])
        self._site.manage("apply_retention", self._state.bot, ends=(0, 3))

    def make_days(self) -> None:
        yesterday = (now() - timedelta(days=1)).date().isoformat()
        self._site.manage("daily_extract", "hosted", "--date", yesterday, ends=(0, 3))

    def retry(self) -> None:
        found: dict[str, str] = dict(self._site.sql(_FAILED))
        for code, detail in found.items():
            if code not in EXPECTED or not self._violations.outages.lately(_REST):
                self._violations.add("failed request", f"requests have failed by {code}: {detail}")
            said = self._site.manage("retry_request", "--all-failed", "--code", code, "--json", ends=(0, 1, 2))
            self.retried[code] += said.document["retried"] if said.code == 0 else 0

    def release_holds(self) -> None:
        """Release the holds that have been in force for some time; at the end all."""
        for state in self._clients:
            for request in list(state.filed.values()):
                if request.hold and (self._over.is_set() or request.asked_at < now() - _HELD):
                    self.done["held deletions"] += request.status == "on_hold"
                    holding.release(self._site, state, request)

    def note_run(self, status: str) -> None:
        """Record in the model that old conversations are erased: a run filed after they were sent is over."""
        run = Request(self._state.bot, "retention", "the runs of the period", surely=set(self._old), status=status)
        self._state.model.file(run)

    def _send_old(self) -> None:
        """Send conversations whose last message is too old, and one that is not."""
        state = self._state
        for days in (RETENTION_DAYS + 30, RETENTION_DAYS + 1, RETENTION_DAYS - 5):
            began = now() - timedelta(days=days)
            conversation = sending.store(state, state.new_person().value, began, sent_at=began)
            if days > RETENTION_DAYS and conversation.number is not None:
                self._old.append(conversation)
