"""The database is put back to a copy some minutes old while clients call: nobody who was erased stays."""

import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from scripts.drill_site import wait_until
from tests.faults import company as companies
from tests.faults.company import Company, Round
from tests.faults.people import about, word
from tests.faults.processes import kill_server
from tests.faults.site import Site
from tests.oracle.http import NoAnswer

pytestmark = pytest.mark.long(reason="a site of its own, which is restored and notices it within a minute")

# Workers compare the ledger each minute.
_NOTICED_SECONDS = 150.0


class Traffic:
    """A context in which a client files exports of one person without a pause; `answers` counts what it is told."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.person = company.person("of the traffic")
        self.answers: Counter[str] = Counter()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _call(self) -> None:
        client = self.company.client
        while not self._is_over.wait(0.05):
            try:
                answer = client.file("data-export", about(self.person), key=word(self.company.random))
            except NoAnswer:
                self.answers["none"] += 1
                continue
            self.answers["accepted" if answer.status == 200 else answer.body["code"]] += 1


def put_back(site: Site, copy: Path) -> None:
    """Kill the database server, and start it with the files of a copy."""
    kill_server(site.database)
    shutil.rmtree(site.database.data)
    shutil.copytree(copy, site.database.data)
    site.start_server(site.database)


def journalled(site: Site) -> bool:
    return site.sql("SELECT count(*) FROM compliance_journalentry") == [(0,)]


def test_it_is_noticed_and_who_was_erased_is_erased_again(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        company = companies.found(site, seed=1)
        before, after = (company.begin_round(name, to_erase=3, to_export=2) for name in ("before", "after"))
        waits = company.person("accepted, and not begun")
        before.run(lambda: None)
        assert company.wrong() == []
        # Before the copy is made: what was stored after it is lost.
        traffic = Traffic(company)
        copy = tmp_path / "copy"
        site.database.run("pg_basebackup", "--pgdata", str(copy), "--checkpoint=fast")
        after.run(lambda: None)
        assert company.wrong() == []
        wait_until(lambda: journalled(site), "the ledger knows what was accepted")
        with traffic:
            wait_until(lambda: traffic.answers["accepted"] > 0, "calls are answered")
            put_back(site, copy)
            wait_until(lambda: traffic.answers["catching_up"] > 0, "it is noticed", seconds=_NOTICED_SECONDS)
            seen = traffic.answers["accepted"]
            wait_until(lambda: traffic.answers["accepted"] > seen, "it has caught up", seconds=_NOTICED_SECONDS)
        assert set(traffic.answers) <= {"accepted", "none", "catching_up", "unavailable"}

        # What was exported after the copy was made is forgotten, and is filed again by whoever wants it.
        for person in after.exported:
            person.exports.clear()
        Round(company, [waits], after.exported).run(lambda: None)
        assert company.wrong(is_restored=True) == []
        said = site.manage("verify_erasure", "--all", "--json").document
        assert said["left"] == {}
