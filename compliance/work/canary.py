"""The canary's last results (`compliance.canary` takes the turns)."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from django.conf import settings

from compliance.models import Canary, CanaryTurn

# The number of turns in a row that may fail, as in a restart or an hour's outage, before it is reported.
_LATE_TURNS = 3
_LATE_AT_LEAST = timedelta(hours=1)


class CanaryState(NamedTuple):
    """The canary's last results. `every` is None if it is off, `clean_since` if it is not set up.

    `clean_since`: when the last clean turn ended, or from when one could have. `found_at` and `findings`, numbers by
    place, are of the last turn with a result, if that was not clean. `last`: the last turn that has ended.
    """

    every: timedelta | None
    clean_at: datetime | None = None
    clean_since: datetime | None = None
    found_at: datetime | None = None
    findings: Mapping[str, int] = MappingProxyType({})
    last: CanaryTurn | None = None

    @property
    def is_on(self) -> bool:
        return self.every is not None

    def is_late(self, now: datetime) -> bool:
        """Return whether it is on, and either had no clean turn for several turns, or is not set up."""
        if self.every is None:
            return False
        return self.clean_since is None or now - self.clean_since > max(_LATE_AT_LEAST, _LATE_TURNS * self.every)


def state() -> CanaryState:
    """Return the canary's last results. Makes no query if it is off."""
    canary = None if settings.CANARY_EVERY is None else Canary.objects.first()
    if canary is None:
        return CanaryState(settings.CANARY_EVERY)
    ended = CanaryTurn.objects.exclude(state="running").order_by("-began_at")
    first = CanaryTurn.objects.order_by("began_at").first()
    clean = ended.filter(state="clean").first()
    looked = ended.filter(state__in=["clean", "found"]).first()
    # The canary can be switched on long after it was set up.
    began_at = first.began_at if first else canary.created_at
    return CanaryState(
        settings.CANARY_EVERY,
        clean_at=clean.ended_at if clean else None,
        clean_since=clean.ended_at if clean else began_at,
        found_at=looked.ended_at if looked and looked.findings else None,
        findings=Counter(one["place"] for one in looked.findings) if looked else Counter(),
        last=ended.first(),
    )
