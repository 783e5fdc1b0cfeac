"""A site for all tests of a process, which takes half a minute to start, and a company there for each module.

Only `make faults` runs all of them: the environment has FAULTS=all then.
"""

import os
from collections.abc import Iterator

import pytest

from tests.faults import catalogue
from tests.faults import company as companies
from tests.faults.company import Company
from tests.faults.site import Site
from tests.oracle.client_state import Known

if os.environ.get("FAULTS") != "all":
    _LONG = ("in_the_middle", "looks", "restored_under_traffic", "while_they_wait")
    collect_ignore = [f"test_{name}.py" for name in _LONG]

# The largest tests take half of it. It is memory, as far as it is used.
DISK_BYTES = 1024 * 1024 * 1024


@pytest.fixture(scope="session")
def running_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("faults") / "site"
    with Site(folder, disk_bytes=DISK_BYTES) as site:
        yield site


@pytest.fixture(scope="session")
def known() -> Known:
    return Known()


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    """Yield a site, and repair it at the end, also after a failed test."""
    yield running_site
    catalogue.mend_everything(running_site)


@pytest.fixture(scope="module")
def company(running_site: Site, known: Known, request: pytest.FixtureRequest) -> Company:
    slug = request.module.__name__.rpartition("test_")[2].replace("_", "-")
    return companies.found(running_site, known, seed=int(os.environ.get("FAULTS_SEED", "1")), slug=slug)
