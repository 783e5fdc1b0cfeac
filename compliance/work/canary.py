"""Whether the canary is due, and what it last found (`compliance.canary` takes the turns)."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings

from common.db import fetch, fetch_one

# Turns in a row may fail for a restart, or an hour's outage, before it is told.
_LATE_TURNS = 3
_LATE_AT_LEAST = timedelta(hours=1)

_IS_DUE = """
SELECT EXISTS (SELECT FROM compliance_canaryturn
                WHERE state = 'running' AND next_attempt_at <= clock_timestamp())
       OR %(every)s::interval IS NOT NULL AND EXISTS (SELECT FROM compliance_canary)
       AND NOT EXISTS (SELECT FROM compliance_canaryturn
                        WHERE state = 'running' OR began_at > clock_timestamp() - %(every)s::interval)
"""
# Of what a turn has found or not; one that could not look says nothing about that. It can be switched on long after
# it was set up: the first turn is what it begins with.
_STATE = """
SELECT coalesce((SELECT min(began_at) FROM compliance_canaryturn), c.created_at), clean.ended_at,
       looked.state = 'found', looked.id, looked.ended_at, last.trouble, last.trouble_at
  FROM compliance_canary c
  LEFT JOIN LATERAL (SELECT ended_at FROM compliance_canaryturn
                      WHERE state = 'clean' ORDER BY began_at DESC LIMIT 1) AS clean ON TRUE
  LEFT JOIN LATERAL (SELECT id, state, ended_at FROM compliance_canaryturn
                      WHERE state IN ('clean', 'found') ORDER BY began_at DESC LIMIT 1) AS looked ON TRUE
  LEFT JOIN LATERAL (SELECT trouble, trouble_at FROM compliance_canaryturn
                      WHERE state <> 'running' ORDER BY began_at DESC LIMIT 1) AS last ON TRUE
"""
_FINDINGS = "SELECT place, count(*) FROM compliance_canaryfinding WHERE turn_id = %s GROUP BY 1"


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


def is_due() -> bool:
    """Return whether a turn is to begin, or one that runs can go on, also one that a command has left."""
    if not settings.CANARY_URL:
        return False
    return bool(fetch(_IS_DUE, {"every": settings.CANARY_EVERY})[0][0])


def state() -> CanaryState:
    """Return what the canary last said. No query where it is off."""
    row = None if settings.CANARY_EVERY is None else fetch_one(_STATE)
    if row is None:
        return CanaryState(settings.CANARY_EVERY)
    began_at, clean_at, has_found, looked_id, looked_at, trouble, trouble_at = row
    return CanaryState(
        every=settings.CANARY_EVERY,
        began_at=began_at,
        clean_at=clean_at,
        found_at=looked_at if has_found else None,
        findings=dict(fetch(_FINDINGS, [looked_id])) if has_found else {},
        trouble=trouble or "",
        trouble_at=trouble_at or "",
    )
