"""Any sequence of events: random stories of filings, faults and late data, compared with a model of the result.

`make stress SECONDS=600 SEED=1` is the long run; the short one here has a fixed seed. A story that was
printed is played again with STRESS_STORY.
"""

import os
from collections.abc import Iterator

import pytest

from tests.extracting import versioned_bucket
from tests.stress.running import Stage, stage
from tests.stress.stories import story

SECONDS = float(os.environ.get("STRESS_SECONDS", "20"))
SEED = int(os.environ.get("STRESS_SEED", "1"))
STORY = os.environ.get("STRESS_STORY", "")
# The short run stops at the first failure; the long one looks for more of other kinds.
MOST = 1 if SECONDS <= 60 else 20

pytestmark = pytest.mark.long(reason="random stories for 20 seconds")


@pytest.fixture
def on_stage(capfd: pytest.CaptureFixture[str]) -> Iterator[Stage]:
    def report(what: str) -> None:
        with capfd.disabled():  # at once: it can take long
            print(what, flush=True)  # noqa: T201

    report(f"\nseed {SEED}, {SECONDS:.0f} s")
    with versioned_bucket() as storage, stage(storage, tell=report) as found:
        yield found


@pytest.mark.skipif(not STORY, reason="no story is given")
def test_a_fixed_story_keeps_all_invariants(on_stage: Stage) -> None:
    assert on_stage.play(story(STORY), seed=SEED) is None


@pytest.mark.skipif(bool(STORY), reason="one story is given")
def test_in_any_order_nothing_is_left_or_lost_and_all_requests_end(on_stage: Stage) -> None:
    failures = on_stage.search(seed=SEED, seconds=SECONDS, most=MOST)
    assert not failures, "\n\n".join(map(str, failures))
