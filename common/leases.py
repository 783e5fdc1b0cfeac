"""What is held by a lease is renewed in passing, while its worker reads, sends or waits."""

import time
from collections.abc import Callable

# A storage call with all its retries (common/outbound.py) must still fit in the lease with this.
SECONDS_BETWEEN_RENEWALS = 15.0


class LeaseRenewer:
    """Renews a lease by `renew`, no more often than needed."""

    def __init__(self, renew: Callable[[], object]) -> None:
        self._renew = renew
        self._renewed = time.monotonic()

    def renew_if_due(self) -> None:
        """Raises what `renew` raises of a lease that is lost."""
        if time.monotonic() - self._renewed >= SECONDS_BETWEEN_RENEWALS:
            self._renew()
            self._renewed = time.monotonic()
