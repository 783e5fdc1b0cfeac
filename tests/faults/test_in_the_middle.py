"""A deletion is hit in the middle of its rows, or before it may begin: it goes on, and has counted each row once."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from scripts.drill_site import wait_until
from tests.faults.catalogue import FAULTS
from tests.faults.company import Company
from tests.faults.people import stuff, upload
from tests.faults.site import UCI, Site
from tests.oracle.http import NoAnswer

pytestmark = pytest.mark.long(reason="a site of its own, and deletions of 100,000 messages")

_CONVERSATIONS, _MESSAGES_EACH = 20, 5_000
# Longer than a lease (`compliance/work/claims.py`), with the time to take up what another has lost.
_LEASE_IS_OVER = 150.0
# How long nothing must happen while the ledger cannot be written.
_STILL_SECONDS = 8.0

_OWNERS = """
SELECT c.owner FROM compliance_claim c JOIN compliance_compliancerequest r ON r.claim_id = c.id WHERE r.id = %s
"""


def state(site: Site, request: str) -> tuple[str, int, int]:
    """Return its status, the messages that it has erased, and how many attempts it has lost."""
    [found] = site.sql("SELECT status, messages, attempts FROM compliance_compliancerequest WHERE id = %s", [request])
    return (found[0], found[1], found[2])


def is_completed(site: Site, request: str) -> bool:
    return state(site, request)[0] == "completed"


def worker_of(site: Site, request: str) -> tuple[str, int]:
    """Return the cluster and the process that carry a request out."""
    [(owner,)] = site.sql(_OWNERS, [request])
    name, _, pid = owner.rpartition(":")
    guard = int(name.partition(":")[2].partition("-")[0])
    [cluster] = [cluster for cluster in site.clusters if site.guard(cluster) == guard]
    return cluster, int(pid)


def large_deletion(site: Site, company: Company, name: str) -> str:
    """File the deletion of somebody with many messages, and return its id once some of them are erased."""
    person = company.person(name, conversations=_CONVERSATIONS)
    stuff(site, person, _MESSAGES_EACH)
    upload(company.random, company.client, person)
    company.person(f"{name}, a neighbour")
    request = company.delete(person)
    wait_until(lambda: state(site, request)[1] > 0, "some messages are erased")
    assert state(site, request)[0] == "processing", "it was over too soon to show anything"
    return request


Hit = Callable[[Site, Company, str], None]


def stop_its_cluster(site: Site, company: Company, request: str) -> None:
    cluster = worker_of(site, request)[0]
    assert site.stop(cluster) == 0
    assert state(site, request)[2] == 0
    site.start(cluster)


def kill_its_worker(site: Site, company: Company, request: str) -> None:
    os.kill(worker_of(site, request)[1], signal.SIGKILL)


def freeze_its_cluster_for_longer_than_its_lease(site: Site, company: Company, request: str) -> None:
    cluster = worker_of(site, request)[0]
    site.freeze(site.pid(cluster))
    wait_until(lambda: is_completed(site, request), "another cluster completes it", seconds=_LEASE_IS_OVER)
    site.resume()


def happens(name: str, *, seconds: float = 0.0) -> Hit:
    """Return what causes a fault of the catalogue, and mends it after some time."""

    def hit(site: Site, company: Company, _: str) -> None:
        fault = FAULTS[name]
        if reason := fault.prevented(site):
            pytest.skip(reason)
        fault.cause(site, company.random)
        time.sleep(seconds)
        fault.mend(site)

    return hit


HITS: dict[str, Hit] = {
    "its cluster is stopped": stop_its_cluster,
    "its worker is killed": kill_its_worker,
    "its cluster is frozen for longer than its lease": freeze_its_cluster_for_longer_than_its_lease,
    "PostgreSQL is restarted": happens("PostgreSQL restarted"),
    "PostgreSQL is killed": happens("PostgreSQL killed, started again"),
    "PostgreSQL's connections are silent": happens("its connections silent", seconds=5),
    "the disk is full": happens("its disk full", seconds=5),
}


@pytest.mark.parametrize("name", list(HITS))
def test_a_deletion_that_is_hit_half_way_goes_on(site: Site, company: Company, name: str) -> None:
    request = large_deletion(site, company, name)

    HITS[name](site, company, request)

    assert company.wrong() == []


@contextmanager
def unwritable_ledger(site: Site) -> Iterator[None]:
    site.s3_wire.refuse()
    try:
        yield
    finally:
        site.s3_wire.restore()


def test_nothing_is_marked_while_the_ledger_cannot_be_written(site: Site, company: Company) -> None:
    """Requests are accepted all the same, and carried out as soon as the storage is back."""
    people = [company.person(f"ledger {number}") for number in range(5)]
    numbers = [number for person in people for number in person.numbers.values()]
    with unwritable_ledger(site):
        requests = [company.delete(person) for person in people]
        end = time.monotonic() + _STILL_SECONDS
        while time.monotonic() < end:
            marked = site.sql(
                "SELECT id FROM conversations_conversation WHERE id = ANY(%s) AND deletion_request_id IS NOT NULL",
                [numbers],
            )
            assert marked == []
            time.sleep(0.2)
        assert {state(site, request)[:2] for request in requests} == {("accepted", 0)}

    assert company.wrong() == []


@contextmanager
def locked(site: Site, number: int) -> Iterator[None]:
    """Keep the row of a conversation locked."""
    with site.database.connect() as connection, connection.transaction():
        connection.execute("SELECT id FROM conversations_conversation WHERE id = %s FOR UPDATE", [number])
        yield


def is_any_waiting(site: Site) -> bool:
    return site.sql("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == [(True,)]


def test_an_intake_that_stopped_half_way_keeps_no_deletion_waiting(site: Site, company: Company) -> None:
    """The web server is frozen in a transaction that has locked the chatbot against marks, and a conversation."""
    person = company.person("of a frozen intake")
    [document], [number] = person.documents, person.numbers.values()

    def send() -> None:
        with suppress(NoAnswer):
            company.client.post("conversations", [document | {"language": "fr"}])

    sending = threading.Thread(target=send)
    with locked(site, number):
        sending.start()
        wait_until(lambda: is_any_waiting(site), "the intake waits for the row")
        site.freeze(site.pid("web"))
    said = site.manage("request_deletion", company.client.slug, UCI, person.uci, "--erase-exports", "--json")
    request = said.document["request_id"]
    wait_until(lambda: is_completed(site, request), "the deletion is completed", seconds=_LEASE_IS_OVER)
    site.resume()
    sending.join()
    person.deletions.append(request)
    person.is_erased = True

    assert company.wrong() == []
