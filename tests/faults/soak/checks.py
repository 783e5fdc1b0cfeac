"""What must be true in the end: the model against the evidence. Each check yields kind and text of what is not.

Nothing is expected that the documentation does not promise. What remains by promise is named where it is allowed.
"""

from collections.abc import Collection

from tests.faults.soak import files, leftovers, rows
from tests.faults.soak.evidence import Evidence
from tests.faults.soak.model import FINAL, Fate, Model
from tests.faults.soak.outages import Outages
from tests.faults.soak.truth import Found, Truth

# Beside the time of faults, no request takes longer: the lease of a claim, and half a minute to be noticed.
_LATE = 120.0


class Ending:
    """All checks of one run, when all its requests are over. `sessions` has the value of each session that a resolver
    has told the service, and never lied about."""

    def __init__(
        self,
        model: Model,
        evidence: Evidence,
        *,
        sessions: Collection[str] = (),
        callbacks: Collection[str],
        outages: Outages | None = None,
    ):
        self.truth = Truth(model, evidence)
        self.evidence = evidence
        self._sessions = set(sessions)
        # The chatbots that have a receiver.
        self._callbacks = set(callbacks)
        self._outages = outages or Outages()

    def all(self) -> Found:
        yield from self.requests_ended()
        yield from self.in_time()
        yield from rows.conversations(self.truth)
        yield from rows.counts(self.truth)
        yield from leftovers.words(self.truth)
        yield from leftovers.errors_logged(self.truth, self._outages)
        yield from files.exports(self.truth)
        yield from files.exports_at_clients(self.truth)
        yield from files.uploads(self.truth)
        yield from files.extracts(self.truth)
        yield from self.callbacks_came()
        yield from self.identities()
        self.truth.met["erased chatters who live in another chatbot"] += len(self.truth.namesakes)

    def requests_ended(self) -> Found:
        """Each accepted request is there and over, with one final event; none is there that nobody filed."""
        known = self.truth.filed
        events: dict[str, list[str]] = {}
        for request, event in self.evidence.events:
            events.setdefault(request, []).append(event)
        for name, one in known.items():
            row = self.evidence.requests.get(name)
            if row is None:
                yield "forgotten request", f"{one} was accepted, and is not there"
            elif one.is_final and row.status != one.status:
                yield "ended twice", f"{one} was {one.status}, and is {row.status}"
        for name, row in self.evidence.requests.items():
            which = known.get(name, f"{row.kind} {name} of {row.bot}")
            self.truth.met[f"{row.kind}s {row.status}"] += 1
            if row.status not in FINAL:
                yield "not ended", f"{which} is {row.status} {row.hold_reason} {row.error_code}".strip()
            elif events.get(name, []) != [f"request.{row.status}"]:
                yield "ended twice", f"{which} is {row.status}, and the change log has {events.get(name, [])}"
            # A redaction whose answer was lost is filed again, and is two. An export is repeated by a redaction.
            if name not in known and row.kind not in {"redaction", "retention"} and not row.repeats:
                yield "doubled filing", f"{which} is there, and nobody filed it"

    def in_time(self) -> Found:
        """No request has taken longer than the faults of its time explain."""
        for row in self.evidence.requests.values():
            if row.ended_at is None:
                continue
            seconds = (row.ended_at - row.received_at).total_seconds()
            explained = self._outages.within(row.received_at, row.ended_at)
            if seconds - explained > _LATE:
                which = self.truth.filed.get(row.id, f"{row.kind} {row.id} of {row.bot}")
                yield "late", f"{which} took {seconds:.0f} s, {explained:.0f} of which there was a fault"

    def callbacks_came(self) -> Found:
        """Each end of a request was told, under one id, to the chatbot's receiver; none of what never was."""
        for row in self.evidence.requests.values():
            if row.bot not in self._callbacks or row.status not in FINAL:
                continue
            ids = self.evidence.taken.get(row.id, {}).get(f"request.{row.status}", set())
            self.truth.met["callbacks"] += len(ids)
            if not ids:
                yield "lost callback", f"nobody was told that {row.kind} {row.id} of {row.bot} is {row.status}"
            elif len(ids) > 1:
                yield (
                    "doubled callback",
                    f"{row.kind} {row.id} of {row.bot} was told as {row.status} under {len(ids)} ids",
                )
            others = {f"request.{end}" for end in FINAL} - {f"request.{row.status}"}
            if wrong := others & set(self.evidence.taken.get(row.id, {})):
                yield "wrong callback", f"{row.kind} {row.id} of {row.bot} is {row.status}, and was told as {wrong}"
        for request in set(self.evidence.taken) - set(self.evidence.requests):
            yield "wrong callback", f"a callback told of {request}, which is not there"

    def identities(self) -> Found:
        """Who the client's resolver has named is known."""
        for talk, fate in self.truth.fates.items():
            row = self.evidence.talks.get(talk.number or 0)
            if not talk.session or row is None or fate is not Fate.WHOLE or talk.session not in self._sessions:
                continue
            self.truth.met["chatters looked up"] += 1
            if not row.values:
                state = self.evidence.lookups.get(row.number, "none")
                yield (
                    "identity",
                    f"{talk.bot}: {talk.id} has no identity, though its resolver named it (look-up: {state})",
                )
