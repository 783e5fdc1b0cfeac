"""The database is restored to a copy some minutes old while clients call: no erased chatter stays."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import company as companies
from tests.faults.company import Company, Round
from tests.faults.processes import kill_server
from tests.faults.site import Site
from tests.operated import wait_until
from tests.oracle.client_state import Known
from tests.oracle.model import Person

pytestmark = pytest.mark.long(reason="a site of its own, which is restored and notices it within a minute")

# Workers compare the ledger each minute.
_NOTICED_SECONDS = 150.0


@contextmanager
def traffic(company: Company, person: Person) -> Iterator[None]:
    """File exports of a chatter without a pause."""
    is_over = threading.Event()

    def file() -> None:
        while not is_over.wait(0.05):
            company.export(person)

    thread = threading.Thread(target=file)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def put_back(site: Site, copy: Path, meanwhile: Callable[[], None]) -> None:
    """Kill the database server, and start it with the files of a copy."""
    kill_server(site.database)
    shutil.rmtree(site.database.data)
    shutil.copytree(copy, site.database.data)
    meanwhile()
    site.start_server(site.database)


def test_it_is_noticed_and_who_was_erased_is_erased_again(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        company = companies.found(site, Known(), seed=1)
        before, after = (company.begin_round(to_erase=3, to_export=2) for _ in range(2))
        waits, busy = company.person(), company.person()
        before.run()
        assert company.wrong() == []
        # Before the copy is made: what was stored after it is lost.
        kept = company.filed("export")
        copy = tmp_path / "copy"
        site.database.run("pg_basebackup", "--pgdata", str(copy), "--checkpoint=fast")
        after.run()
        assert company.wrong() == []
        site.wait_for_journal()

        def accepted() -> int:
            return len(company.filed("export"))

        def forget() -> None:
            """Forget the exports that were filed after the copy was made, as they are lost in the database."""
            for export in set(company.filed("export")) - set(kept):
                company.forget(export)

        seen = accepted()
        with company.fault("PostgreSQL put back"), traffic(company, busy):
            wait_until(lambda: accepted() > seen, "calls are answered")
            put_back(site, copy, forget)
            answers = company.known.traffic.answers
            wait_until(lambda: answers["503 catching_up"] > 0, "it is noticed", seconds=_NOTICED_SECONDS)
            seen = accepted()
            wait_until(lambda: accepted() > seen, "it has caught up", seconds=_NOTICED_SECONDS)

        # A client files a lost export again.
        Round(company, [waits], after.exported).run()
        assert company.wrong(is_restored=True) == []
