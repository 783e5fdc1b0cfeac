"""The canary's last results (`compliance.canary` takes the turns)."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings

from compliance.models import Canary, CanaryTurn

# The number of turns in a row that may fail, as in a restart or an hour's outage, before it is reported.
_LATE_TURNS = 3
_LATE_AT_LEAST = timedelta(hours=1)


class CanaryState(NamedTuple):
    """The canary's last results. `every` is None if it is off, `began_at` if it is not set up.

    `clean` is the last clean turn, `looked` the last with a result, `last` the last that has ended.
    """

    every: timedelta | None
    began_at: datetime | None = None
    clean: CanaryTurn | None = None
    looked: CanaryTurn | None = None
    last: CanaryTurn | None = None

    @property
    def is_on(self) -> bool:
        return self.every is not None

    @property
    def clean_at(self) -> datetime | None:
        return self.clean.ended_at if self.clean else None

    @property
    def clean_since(self) -> datetime | None:
        """Return the time of the last clean turn, or the time from which one could have been clean."""
        return self.clean_at or self.began_at

    @property
    def found_at(self) -> datetime | None:
        return self.looked.ended_at if self.looked and self.looked.findings else None

    @property
    def findings(self) -> Mapping[str, int]:
        """The number of findings by place; empty for a clean turn."""
        return Counter(one["place"] for one in self.looked.findings) if self.looked else {}

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
    return CanaryState(
        settings.CANARY_EVERY,
        # The canary can be switched on long after it was set up.
        began_at=first.began_at if first else canary.created_at,
        clean=ended.filter(state="clean").first(),
        looked=ended.filter(state__in=["clean", "found"]).first(),
        last=ended.first(),
    )
