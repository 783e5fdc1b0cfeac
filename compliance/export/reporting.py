"""What became of a claim's exports that are not completed, as reported to `work.transitions`."""

from collections.abc import Collection, Mapping

from compliance.errors import StepFailed
from compliance.export import records
from compliance.export.records import Target
from compliance.models import ComplianceRequest
from compliance.work import transitions
from compliance.work.claims import HeldClaim

# As the change log tells it, when a deletion has met one of the conversations: the export is made again.
_OVERTAKEN = "export_overtaken"


class Reporter:
    """Reports on a claim's exports, in transactions that hold it. `settled` are those that have left it. Raises
    ClaimLost."""

    def __init__(self, held: HeldClaim) -> None:
        self.settled: set[Target] = set()
        self._held = held

    def overtaken(self, targets: Collection[Target]) -> None:
        """Have exports made again, from what is left: a deletion has met one of their conversations."""
        if targets:
            transitions.try_again(self._held, [target.request_id for target in targets], code=_OVERTAKEN)
            self.settled.update(targets)

    def failed(self, failures: Mapping[Target, StepFailed]) -> None:
        """Note errors. What a deletion has met by now fails because it is being removed: it is overtaken."""
        if not failures:
            return
        met = records.met_since(failures)
        self.overtaken(met)
        failed = {target.request_id: failure for target, failure in failures.items() if target not in met}
        if failed:
            transitions.step_failed(self._held, failed)
        self.settled |= failures.keys()

    def untouched(self, targets: Collection[Target]) -> None:
        """Requeue what was not begun, or of which nothing is left: it need not be purged next time."""
        if targets:
            with self._held.transaction():
                records.forget_keys(targets)
            waiting_for = ComplianceRequest.WaitingFor.TURN
            transitions.requeue(self._held, [target.request_id for target in targets], waiting_for=waiting_for)
