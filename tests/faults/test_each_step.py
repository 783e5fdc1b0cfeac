"""Workers of real clusters are killed (SIGKILL) before and after each step of deletions, exports and callbacks.

Each step has a request of its own, so that none is lost so often that it fails. All are filed while no cluster runs,
and then two clusters carry them out, die at one step after the other, and go on where others have died.
"""

import os
from collections import defaultdict
from pathlib import Path

import pytest

from scripts.drill_site import wait_until
from tests.faults import dying, invariants
from tests.faults.company import Company
from tests.faults.people import upload
from tests.faults.site import Site
from tests.receivers import receiving

pytestmark = pytest.mark.long(reason="a site of its own, and clusters that die at one step after the other")

_EACH = ("before", "after")
_OF_BOTH = [
    "after compliance.work.claims.take",
    *(f"{when} compliance.worker.measure" for when in _EACH),
    *(f"{when} compliance.worker.work" for when in _EACH),
    "before compliance.work.claims.HeldClaim.release",
]
OF_DELETIONS = [
    *_OF_BOTH,
    *(
        f"{when} compliance.{step}"
        for step in (
            "erasure.marking.admit",
            "ledger.journal.intend",
            "erasure.marking.mark",
            "erasure.rows.erase_chunk",
            "erasure.verify.find_leftovers",
            "erasure.objects.erase_files",
            "erasure.objects.erase_exports",
            "erasure.objects._purge",
            "ledger.journal.conclude",
            "erasure.verify.verify",
            "work.transitions.completion.complete_deletions",
            "work.transitions.completion.announce",
        )
        for when in _EACH
    ),
]
OF_EXPORTS = [
    *_OF_BOTH,
    *(
        f"{when} {step}"
        for step in (
            "compliance.work.transitions.completion.start_exports",
            "compliance.export.records.record",
            "common.storage.ObjectStorage.open_upload",
            "compliance.export.records.record_uploads",
            "compliance.export.records.record_conversations",
            "compliance.export.attachments._record",
            "compliance.export.attachments._note",
            "common.storage.ObjectStorage.write_parts",
            "compliance.work.transitions.completion.complete_exports",
        )
        for when in _EACH
    ),
]
# Of whoever has a callback on its way.
OF_CALLBACKS = [
    "after compliance.callbacks.leases.take",
    *(f"{when} compliance.callbacks.leases.note" for when in _EACH),
]
# Between the objects and their rows, and where all is done but for the commit.
_SHORT = [
    "after compliance.erasure.objects._purge",
    "after compliance.work.transitions.completion.complete_deletions",
    "after common.storage.ObjectStorage.write_parts",
]
if os.environ.get("FAULTS") != "all":
    OF_DELETIONS, OF_EXPORTS, OF_CALLBACKS = (
        [step for step in steps if step in _SHORT] for steps in (OF_DELETIONS, OF_EXPORTS, OF_CALLBACKS)
    )

_WAITING = "SELECT id FROM compliance_callback WHERE request_id = ANY(%s::uuid[]) AND state = 'waiting'"


def test_workers_that_are_killed_there_lose_and_double_nothing(site: Site, company: Company, tmp_path: Path) -> None:
    begun = company.begin_round("killed", to_erase=max(2, len(OF_DELETIONS)), to_export=len(OF_EXPORTS))
    for person in (*begun.erased, *begun.exported):
        upload(company.random, company.client, person)
    # They are to be erased, too, with the files beside them.
    for person in begun.erased:
        company.client.follow(company.export(person, include_files=True), {"completed"})
    for cluster in site.clusters:
        site.stop(cluster)

    with receiving() as receiver:
        told = {"callback_url": receiver.url()}
        deletions = [company.delete(person, **told) for person in begun.erased]
        exports = [company.export(person, include_files=True, **told) for person in begun.exported]
        steps = [
            *zip(OF_DELETIONS, deletions, strict=False),
            *zip(OF_EXPORTS, exports, strict=True),
            *((step, dying.ANYBODY) for step in OF_CALLBACKS),
        ]
        argv = dying.prepare(tmp_path, steps)
        for cluster in site.clusters:
            site.start(cluster, argv=argv)
        requests = [*deletions, *exports]
        assert invariants.wait_for_ends(site, requests, seconds=600) == []
        # A request that is taken up again may find a step done, and then nobody dies there.
        most = len(steps) // 10
        wait_until(lambda: len(dying.not_reached(tmp_path)) <= most, "workers have died at the steps")
        assert company.wrong() == []
        wait_until(lambda: not site.sql(_WAITING, [requests]), "each callback has come")

    told_of = defaultdict(set)
    for each in receiver.received:
        told_of[each.payload["request_id"]].add((each.payload["event"], each.payload["callback_id"]))
    assert {request: [event for event, _ in of_request] for request, of_request in told_of.items()} == {
        request: ["request.completed"] for request in requests
    }
    for cluster in site.clusters:
        site.restart(cluster)
