"""Whatever happens while requests of both kinds are filed and carried out, each ends once, and all else holds."""

import os
import time

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.company import Company
from tests.faults.site import Site

# `make faults` causes all. These are of each kind one, and take a minute.
SHORT = [
    *("worker killed", "PostgreSQL killed, started again", "S3's answers lost", "tasks lost"),
    "clock of a cluster ahead",
]
NAMES = list(FAULTS) if os.environ.get("FAULTS") == "all" else SHORT

pytestmark = pytest.mark.long(reason="a site of its own, and faults that last for seconds")

# How long one lasts before it is mended, unless it is to outlast a limit.
_LASTS_SECONDS = 4.0


@pytest.mark.parametrize("name", NAMES)
def test_each_request_ends_once_and_nothing_else_is_touched(site: Site, company: Company, name: str) -> None:
    fault = FAULTS[name]
    if reason := fault.prevented(site):
        pytest.skip(reason)
    requests = company.begin_round(name, to_erase=8, to_export=6)

    def happens() -> None:
        fault.cause(site, company.random)
        try:
            if fault.lasts:
                time.sleep(max(_LASTS_SECONDS, fault.least))
        finally:
            fault.mend(site)

    requests.run(happens)

    assert company.wrong() == []
