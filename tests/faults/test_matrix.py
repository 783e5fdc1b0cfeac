"""With any fault while requests of both kinds are filed and carried out, each ends once, and all promises hold."""

import os

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.company import Company
from tests.faults.site import Site

# `make faults` causes all. These are one of each kind, and take a minute.
SHORT = [
    *("worker killed", "PostgreSQL killed, started again", "S3's answers lost", "tasks lost"),
    "clock of a cluster ahead",
]
NAMES = list(FAULTS) if os.environ.get("FAULTS") == "all" else SHORT

pytestmark = pytest.mark.long(reason="a site of its own, and faults that last for seconds")


@pytest.mark.parametrize("name", NAMES)
def test_each_request_ends_once_and_nothing_else_is_touched(site: Site, company: Company, name: str) -> None:
    if reason := FAULTS[name].prevented(site):
        pytest.skip(reason)
    requests = company.begin_round(to_erase=8, to_export=6)
    company.delete_under_hold(company.person(conversations=2))
    requests.run(lambda: company.suffer(name))
    assert company.wrong() == []
