"""What tests of the canary's searches share."""

from collections.abc import Iterable

from compliance.canary.api import Sighting


def collect(sightings: Iterable[Sighting], places: list[str]) -> None:
    """Add where something is to `places`, also if the search ends with an error."""
    for one in sightings:
        places.append(one.where)  # noqa: PERF401  (what came before an error counts)
