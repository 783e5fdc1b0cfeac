"""A legal hold at each moment of a deletion, with a kill at that moment: the data is held, or it is gone; never half.

The story's guard refuses whatever destroys data under a hold, and its model judges what must remain in the end.
"""

import pytest

from tests.extracting import versioned_bucket
from tests.stress.running import stage
from tests.stress.stories import story

_BEFORE_DELETION = """
    say acme c1 ann lately 1; say acme c1 bob - 1; say acme c2 ann lately 1; upload acme c1; say acme c3 bob lately 1
    say neighbour c1 ann lately 1
"""
MOMENTS = {
    "while it waits": "delete r1 acme ann; keep h1 acme ann; work w1",
    "once it is claimed": "delete r1 acme ann; work w1 3; keep h1 acme ann; work w1",
    "and killed then": "delete r1 acme ann; work w1 3; keep h1 acme ann; kill w1; leases; work w1",
    "after the mark": "delete r1 acme ann; work w1 begun; keep h1 acme ann; work w1",
    "and killed after it": "delete r1 acme ann; work w1 begun; keep h1 acme ann; kill w1; leases; work w1",
    "after completion": "delete r1 acme ann; work w1; keep h1 acme ann; work w1",
    "and restored": "backup; delete r1 acme ann; work w1; keep h1 acme ann; restore; work w1",
} | {
    f"at step {step}": f"delete r1 acme ann; work w1 {step}; keep h1 acme ann; kill w1; leases; work w1"
    for step in (8, 13, 21)
}


@pytest.mark.long(reason="each plays a story", beyond=2, spread=True)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("then", ["", "limit r1; work w1"])
def test_at_each_moment_data_is_held_or_gone(storage, moment: str, then: str) -> None:
    with versioned_bucket() as bucket, stage(bucket) as found:
        assert found.play(story(f"{_BEFORE_DELETION}; {MOMENTS[moment]}; {then}"), seed=1) is None
