"""What the canary last found (`compliance.canary` takes the turns)."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db.models import Min

from compliance.models import Canary, CanaryTurn

# Turns in a row may fail for a restart, or an hour's outage, before it is told.
_LATE_TURNS = 3
_LATE_AT_LEAST = timedelta(hours=1)


class CanaryState(NamedTuple):
    """What the canary last said. `every` is None where it is off, `began_at` where it is not set up.

    `findings` counts those of the last turn that could tell, by place, and none where it was clean.
    """

    every: timedelta | None
    began_at: datetime | None = None
    clean_at: datetime | None = None
    found_at: datetime | None = None
    findings: Mapping[str, int] = {}
    trouble: str = ""
    trouble_at: str = ""

    @property
    def is_on(self) -> bool:
        return self.every is not None

    @property
    def clean_since(self) -> datetime | None:
        """Return when a turn was last clean, or since when one could have been."""
        return self.clean_at or self.began_at

    def is_late(self, now: datetime) -> bool:
        """Return whether it is on, and was not clean for several turns, or is not set up."""
        if self.every is None:
            return False
        return self.clean_since is None or now - self.clean_since > max(_LATE_AT_LEAST, _LATE_TURNS * self.every)


def state() -> CanaryState:
    """Return what the canary last said. No query where it is off."""
    canary = None if settings.CANARY_EVERY is None else Canary.objects.first()
    if canary is None:
        return CanaryState(settings.CANARY_EVERY)
    State = CanaryTurn.State  # noqa: N806
    ended = CanaryTurn.objects.exclude(state=State.RUNNING).order_by("-began_at")
    last, clean = ended.first(), ended.filter(state=State.CLEAN).first()
    # One that could not look says nothing about what is left.
    looked = ended.filter(state__in=[State.CLEAN, State.FOUND]).first()
    # It can be switched on long after it was set up: the first turn is what it begins with.
    began_at = CanaryTurn.objects.aggregate(first=Min("began_at"))["first"] or canary.created_at
    return CanaryState(
        every=settings.CANARY_EVERY,
        began_at=began_at,
        clean_at=clean.ended_at if clean else None,
        found_at=looked.ended_at if looked and looked.findings else None,
        findings=Counter(one["place"] for one in looked.findings) if looked else {},
        trouble=last.trouble if last else "",
        trouble_at=last.trouble_at if last else "",
    )
