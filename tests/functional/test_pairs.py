"""Two acts that meet in one conversation, at each moment: what must remain remains, and nothing else."""

from collections.abc import Iterator

import pytest

from tests.extracting import versioned_bucket
from tests.stress.pairs import pairs
from tests.stress.searching import Stage, stage

pytestmark = pytest.mark.django_db(transaction=True)

PAIRS = pairs()


@pytest.fixture(scope="module")
def on_stage() -> Iterator[Stage]:
    with versioned_bucket() as storage, stage(storage) as found:
        yield found


@pytest.mark.long(reason="each plays a story", beyond=1)
@pytest.mark.parametrize("pair", PAIRS)
def test_two_acts_leave_what_must_remain(on_stage: Stage, pair: str) -> None:
    assert on_stage.play(PAIRS[pair], seed=1) is None
