"""The final checks: the model against the evidence. Each check yields kind and text of each violation.

Nothing is expected that the documentation does not promise. Data that may remain is listed at its check.
"""

from collections import defaultdict
from collections.abc import Collection

from tests.oracle import conversations, exports, leftovers
from tests.oracle.comparison import Comparison, Findings
from tests.oracle.evidence import Evidence
from tests.oracle.model import FINAL, Expected, Model
from tests.oracle.violations import Outages

# Apart from the time of faults, no request takes longer: the lease of a claim, and half a minute to be noticed.
_LATE = 120.0


class Checks:
    """All checks of one run, when all its requests are over.

    `sessions` has the value of each session that a resolver has answered, and always correctly; `callbacks` are the
    chatbots with a receiver.
    """

    def __init__(
        self,
        model: Model,
        evidence: Evidence,
        *,
        sessions: Collection[str] = (),
        callbacks: Collection[str],
        outages: Outages | None = None,
    ):
        self.comparison = Comparison(model, evidence)
        self.evidence = evidence
        self._sessions, self._callbacks, self._outages = set(sessions), set(callbacks), outages or Outages()

    def all(self) -> Findings:
        yield from self.of_contents()
        yield from self.in_time()
        yield from leftovers.errors_logged(self.comparison, self._outages)
        yield from self.callbacks_came()
        self.comparison.met["erased chatters who live in another chatbot"] += self.comparison.namesakes

    def of_contents(self) -> Findings:
        """Check rows, objects and usage, but not times, callbacks and logs."""
        yield from conversations.stored(self.comparison)
        yield from self.requests_ended()
        yield from conversations.counts(self.comparison)
        yield from self.identities()
        yield from leftovers.words(self.comparison)
        yield from exports.hosted(self.comparison)
        yield from exports.delivered(self.comparison)
        yield from exports.uploads(self.comparison)
        yield from exports.extracts(self.comparison)

    def requests_ended(self) -> Findings:
        """Check that each accepted request is over, with one final event, and that no other request exists."""
        known, rows = self.comparison.filed, self.evidence.requests
        for name, filed in known.items():
            found = rows.get(name)
            if found is None:
                yield "forgotten request", f"{filed} was accepted, and is not there"
            elif filed.is_final and found.status != filed.status:
                yield "ended twice", f"{filed} was {filed.status}, and is {found.status}"
            elif found.status in {"cancelled", "rejected"} and not filed.may_be_cancelled:
                yield "wrong end", f"{filed} is {found.status}, without a decision"
        events = defaultdict(list)
        for request, event in self.evidence.events:
            events[request].append(event)
        for name, row in rows.items():
            one = known.get(name)
            which = one or f"{row.kind} {name} of {row.bot}"
            self.comparison.met[f"{row.kind}s {row.status}"] += 1
            is_over = row.status in FINAL
            if not is_over and not (row.status == "failed" and one and one.may_stay_failed):
                yield "not ended", f"{which} is {row.status} {row.hold_reason} {row.error_code}".strip()
            is_told_before = one and one.is_replayed and name not in events
            if not is_told_before and events.get(name, []) != [f"request.{row.status}"] * is_over:
                yield "ended twice", f"{which} is {row.status}, and the change log has {events.get(name, [])}"
            # A redaction whose answer was lost is filed again, and is two. An export is repeated by a redaction.
            is_ours = row.repeats or row.continues
            if name not in known and row.kind not in {"redaction", "retention"} and not is_ours:
                yield "doubled filing", f"{which} is there, and was not filed"

    def in_time(self) -> Findings:
        """Check that no request has taken longer than the faults of its time explain."""
        for row in self.evidence.requests.values():
            if row.ended_at is None:
                continue
            seconds = (row.ended_at - row.received_at).total_seconds()
            explained = self._outages.within(row.received_at, row.ended_at)
            if seconds - explained > _LATE:
                which = self.comparison.filed.get(row.id, f"{row.kind} {row.id} of {row.bot}")
                yield "late", f"{which} took {seconds:.0f} s, {explained:.0f} of which there was a fault"

    def callbacks_came(self) -> Findings:
        """Check that the chatbot's receiver got each end of a request under one id, and no other ends."""
        for row in self.evidence.requests.values():
            if row.bot not in self._callbacks or row.status not in FINAL:
                continue
            which, taken = f"{row.kind} {row.id} of {row.bot}", self.evidence.taken.get(row.id, {})
            ids = taken.get(f"request.{row.status}", set())
            self.comparison.met["callbacks"] += len(ids)
            if not ids:
                yield "lost callback", f"no callback came for {which}, which is {row.status}"
            elif len(ids) > 1:
                yield "doubled callback", f"{which} was told as {row.status} under {len(ids)} ids"
            if wrong := {f"request.{end}" for end in FINAL - {row.status}} & set(taken):
                yield "wrong callback", f"{which} is {row.status}, and was told as {wrong}"
        for request in set(self.evidence.taken) - set(self.evidence.requests):
            yield "wrong callback", f"a callback told of {request}, which is not there"

    def identities(self) -> Findings:
        """Check that identities from the client's resolver are stored."""
        for each, expected in self.comparison.expected.items():
            row = self.evidence.conversations.get(each.number or 0)
            if row and each.session and each.session in self._sessions and expected is Expected.WHOLE:
                self.comparison.met["chatters looked up"] += 1
                if not row.values:
                    lookup = f"though one was named (look-up: {row.lookup or 'none'})"
                    yield "identity", f"{each.bot}: {each.id} has no identity, {lookup}"
