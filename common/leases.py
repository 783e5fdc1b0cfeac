"""What is held by a lease is renewed in passing, while its worker reads, sends or waits."""

import time
from collections.abc import Callable

# A storage call with all its retries (common/outbound.py) must still fit in the lease with this.
SECONDS_BETWEEN_KEEPS = 15.0


class LeaseRenewer:
    """Renews a lease by `keep`, no more often than needed."""

    def __init__(self, keep: Callable[[], object]) -> None:
        self._keep = keep
        self._kept = time.monotonic()

    def renew_if_due(self) -> None:
        """Raises what `keep` raises of a lease that is lost."""
        if time.monotonic() - self._kept >= SECONDS_BETWEEN_KEEPS:
            self._keep()
            self._kept = time.monotonic()
