"""The checks of a site find violations: blind checks would let every fault pass."""

from pathlib import Path

import pytest

from tests.faults import company as companies
from tests.faults import plants
from tests.faults.site import Site
from tests.oracle.client_state import Known

pytestmark = pytest.mark.long(reason="a site of its own")


def test_nothing_is_told_before_something_is_wrong_and_each_wrong_then(tmp_path: Path) -> None:
    with Site(tmp_path / "site", clusters=1) as site:
        company = companies.found(site, Known(), seed=1)
        requests = company.begin_round(to_erase=3, to_export=1)
        others = [company.person() for _ in range(5)]
        company.upload(others[4])
        requests.run()
        assert company.wrong() == []

        deletion, export = (
            min(company.filed(kind), key=lambda request: request.asked_at) for kind in ("deletion", "export")
        )
        gone = min(deletion.surely, key=lambda conversation: conversation.index)
        *whole, upload = [company.conversations_of(person)[0] for person in others]
        told = plants.rows(site, deletion, gone, whole) + plants.objects(site, gone, export, upload)
        wrong = company.wrong()
        assert plants.untold(told, wrong) == [], wrong


def test_what_does_not_run_is_missing(site: Site) -> None:
    first, second = site.clusters
    assert site.missing() == []
    site.freeze(site.pid(first), alone=True)
    site.freeze(site.process(second, "worker"))
    assert site.missing() == [f"{first} does not run", f"{second} lacks a process"]
    site.resume()
    site.wait_for_all()
    site.sql("UPDATE compliance_heartbeat SET pid = -pid")
    assert site.missing() == [f"{name} has no fresh heartbeat" for name in site.clusters]
    site.sql("UPDATE compliance_heartbeat SET pid = -pid")
    site.kill("web")
    assert site.missing() == ["web does not run"]
    site.start("web")
    site.wait_for_all()
