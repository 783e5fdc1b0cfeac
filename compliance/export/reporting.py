"""Report the exports of a claim that are not completed to `work.transitions`."""

from collections.abc import Collection, Mapping

from compliance.errors import StepFailed
from compliance.export import records
from compliance.export.records import Target
from compliance.models import ComplianceRequest
from compliance.work.claims import HeldClaim
from compliance.work.transitions import requeue

# In the change log, when a deletion has met one of the conversations: the export runs again.
_OVERTAKEN = "export_overtaken"


class Reporter:
    """Reports in transactions of the claim. `settled` are the exports that have left it. Raises ClaimLost."""

    def __init__(self, held: HeldClaim) -> None:
        self.settled: set[Target] = set()
        self._held = held

    def overtaken(self, targets: Collection[Target]) -> None:
        """Let exports run again on what is left: a deletion has met one of their conversations."""
        if targets:
            requeue.try_again(self._held, [target.request_id for target in targets], code=_OVERTAKEN)
            self.settled.update(targets)

    def failed(self, failures: Mapping[Target, StepFailed]) -> None:
        """Fail exports. Those that a deletion has met by now fail because of its removal: they are overtaken."""
        if not failures:
            return
        met = records.met_since(failures)
        self.overtaken(met)
        failed = {target.request_id: failure for target, failure in failures.items() if target not in met}
        if failed:
            requeue.step_failed(self._held, failed)
        self.settled |= failures.keys()

    def untouched(self, targets: Collection[Target]) -> None:
        """Requeue exports that left nothing to purge."""
        if targets:
            with self._held.transaction():
                records.forget_keys(targets)
            waiting_for = ComplianceRequest.WaitingFor.TURN
            requeue.requeue(self._held, [target.request_id for target in targets], waiting_for=waiting_for)
