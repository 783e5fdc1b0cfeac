"""A deletion is interrupted amid its rows, or before it may begin: it resumes and counts each row once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.company import Company
from tests.faults.site import Site
from tests.operated import wait_until
from tests.oracle import filing
from tests.oracle.caller import NoAnswer
from tests.oracle.client_state import UCI

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
    """Return the cluster and the process that carry out a request."""
    [(owner,)] = site.sql(_OWNERS, [request])
    name, _, pid = owner.rpartition(":")
    guard = int(name.partition(":")[2].partition("-")[0])
    [cluster] = [cluster for cluster in site.clusters if site.guard(cluster) == guard]
    return cluster, int(pid)


def large_deletion(site: Site, company: Company) -> str:
    """File the deletion of a chatter with many messages, and return its id once some of them are erased."""
    person = company.person(conversations=_CONVERSATIONS)
    company.add_messages(person, _MESSAGES_EACH)
    company.upload(person)
    company.person()  # a neighbour
    request = company.delete(person).id
    wait_until(lambda: state(site, request)[1] > 0, "some messages are erased")
    assert state(site, request)[0] == "processing", "it was over too soon to show anything"
    return request


def stop_its_cluster(site: Site, request: str) -> None:
    cluster = worker_of(site, request)[0]
    assert site.stop(cluster) == 0
    assert state(site, request)[2] == 0
    site.start(cluster)


def kill_its_worker(site: Site, request: str) -> None:
    os.kill(worker_of(site, request)[1], signal.SIGKILL)


def freeze_its_cluster_for_longer_than_its_lease(site: Site, request: str) -> None:
    cluster = worker_of(site, request)[0]
    site.freeze(site.pid(cluster))
    wait_until(lambda: is_completed(site, request), "another cluster completes it", seconds=_LEASE_IS_OVER)
    site.resume()


HITS = {
    "its cluster is stopped": stop_its_cluster,
    "its worker is killed": kill_its_worker,
    "its cluster is frozen for longer than its lease": freeze_its_cluster_for_longer_than_its_lease,
}
# Faults of the catalogue, and how many seconds each lasts.
SUFFERED = {
    "PostgreSQL restarted": 0.0,
    "PostgreSQL killed, started again": 0.0,
    "its connections silent": 5.0,
    "its disk full": 5.0,
}


@pytest.mark.parametrize("name", [*HITS, *SUFFERED])
def test_a_deletion_that_is_hit_half_way_goes_on(site: Site, company: Company, name: str) -> None:
    if name in FAULTS and (reason := FAULTS[name].prevented(site)):
        pytest.skip(reason)
    request = large_deletion(site, company)

    if name in SUFFERED:
        company.suffer(name, seconds=SUFFERED[name])
    else:
        with company.fault(name):
            HITS[name](site, request)

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
    people = [company.person() for _ in range(5)]
    numbers = company.numbers_of(*people)
    with company.fault("S3 refuses connections"), unwritable_ledger(site):
        requests = [company.delete(person).id for person in people]
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
    with site.database.connect() as connection, connection.transaction():
        connection.execute("SELECT id FROM conversations_conversation WHERE id = %s FOR UPDATE", [number])
        yield


def is_any_waiting(site: Site) -> bool:
    return site.sql("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == [(True,)]


def test_an_intake_that_stopped_half_way_keeps_no_deletion_waiting(site: Site, company: Company) -> None:
    """The web server is frozen in a transaction that has locked the chatbot against marks, and a conversation."""
    person = company.person()
    [conversation] = company.conversations_of(person)

    def send() -> None:
        with suppress(NoAnswer):
            company.ours.caller.client.post("conversations", conversation.documents[0] | {"language": "fr"})

    sending = threading.Thread(target=send)
    deletion = filing.deletion_of(company.ours, person.value, "erase_exports")
    with company.fault("web server frozen"):
        with locked(site, company.numbers_of(person)[0]):
            sending.start()
            wait_until(lambda: is_any_waiting(site), "the intake waits for the row")
            site.freeze(site.pid("web"))
        said = site.manage("request_deletion", company.ours.bot, UCI, person.value, "--erase-exports", "--json")
        filing.filed_elsewhere(company.ours, deletion, said.document["request_id"])
        wait_until(lambda: is_completed(site, deletion.id), "the deletion is completed", seconds=_LEASE_IS_OVER)
        site.resume()
        sending.join()

    assert company.wrong() == []
