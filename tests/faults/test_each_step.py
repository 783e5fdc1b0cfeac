"""Workers of real clusters are killed (SIGKILL) before and after each step of deletions, exports and callbacks.

Each step has a request of its own, so that none is lost so often that it fails. All are filed while no cluster runs,
and then two clusters carry them out, die at one step after the other, and go on where others have died.
"""

import os
from pathlib import Path

import pytest

from tests.faults import dying
from tests.faults.company import Company
from tests.faults.site import Site
from tests.operated import wait_until
from tests.receivers import receiving

pytestmark = pytest.mark.long(reason="a site of its own, and clusters that die at one step after the other")


def _around(*places: str) -> list[str]:
    return [f"{when} {place}" for place in places for when in ("before", "after")]


_OF_BOTH = [
    "after compliance.work.claims.take",
    *_around("compliance.worker.measure", "compliance.worker.work"),
    "before compliance.work.claims.HeldClaim.release",
]
OF_DELETIONS = [
    *_OF_BOTH,
    *_around(
        "compliance.erasure.marking.admit",
        "compliance.ledger.journal.intend",
        "compliance.erasure.marking.mark",
        "compliance.erasure.rows.erase_chunk",
        "compliance.erasure.verify.find_leftovers",
        "compliance.erasure.objects.erase_files",
        "compliance.erasure.objects.erase_exports",
        "compliance.erasure.objects._purge",
        "compliance.ledger.journal.conclude",
        "compliance.erasure.verify.verify",
        "compliance.work.transitions.completion.complete_deletions",
        "compliance.work.transitions.completion.announce",
    ),
]
OF_EXPORTS = [
    *_OF_BOTH,
    *_around(
        "compliance.work.transitions.completion.start_exports",
        "compliance.export.records.record",
        "common.storage.ObjectStorage.open_upload",
        "compliance.export.records.record_uploads",
        "compliance.export.records.record_conversations",
        "compliance.export.attachments._record",
        "compliance.export.attachments._note",
        "common.storage.ObjectStorage.write_parts",
        "compliance.work.transitions.completion.complete_exports",
    ),
]
# The steps of any request with a callback being sent.
_CALLBACKS = "compliance.callbacks.queue.Callbacks"
OF_CALLBACKS = [f"after {_CALLBACKS}.take", *_around(f"{_CALLBACKS}.note")]
# Between the objects and their rows, and right before the commit.
_SHORT = [
    "after compliance.erasure.objects._purge",
    "after compliance.work.transitions.completion.complete_deletions",
    "after common.storage.ObjectStorage.write_parts",
]
_MORE_THAN_A_CHUNK = 30_000
_IS_WHOLE = os.environ.get("FAULTS") == "all"
# A request that is resumed may find a step done, and then no worker dies there: another request tries it.
_ROUNDS = 3

# A sweep takes what a worker died with once its lease is over: a minute for each of the three steps, and some more.
_SWEEPS_FOR_CALLBACKS = 300.0

_WAITING = "SELECT id FROM compliance_callback WHERE request_id = ANY(%s::uuid[]) AND state = 'waiting'"


Steps = dict[str, list[str]]


def test_workers_that_are_killed_there_lose_and_double_nothing(site: Site, company: Company, tmp_path: Path) -> None:
    steps = {"deletions": OF_DELETIONS, "exports": OF_EXPORTS, "callbacks": OF_CALLBACKS}
    left = {of: [step for step in each if _IS_WHOLE or step in _SHORT] for of, each in steps.items()}
    for number in range(_ROUNDS):
        if any(left.values()):
            folder = tmp_path / str(number)
            folder.mkdir()
            left = _kill_at(left, site, company, folder)
    assert not any(left.values()), left
    for cluster in site.clusters:
        site.restart(cluster)


def _kill_at(steps: Steps, site: Site, company: Company, folder: Path) -> Steps:
    """Kill a worker at each step, check everything, and return the steps at which no worker was killed."""
    to_erase, to_export = len(steps["deletions"]), len(steps["exports"])
    begun = company.begin_round(to_erase=max(2, to_erase), to_export=to_export)
    for person in (*begun.erased, *begun.exported):
        company.upload(person)
    # They are to be erased, too, with the files beside them.
    for person in begun.erased:
        company.export(person, "include_files")
    company.follow()
    for step, person in zip(steps["deletions"], begun.erased, strict=False):
        # Data that fits one chunk is in the ledger as erased before its files go.
        if step.endswith("ledger.journal.intend"):
            company.add_messages(person, _MORE_THAN_A_CHUNK)
    for cluster in site.clusters:
        site.stop(cluster)

    with receiving() as receiver:
        told = {"callback_url": receiver.url()}
        deletions = [company.delete(person, **told).id for person in begun.erased]
        exports = [company.export(person, "include_files", **told).id for person in begun.exported]
        asked = {
            "deletions": list(zip(steps["deletions"], deletions, strict=False)),
            "exports": list(zip(steps["exports"], exports, strict=True)),
            "callbacks": [(step, dying.ANYBODY) for step in steps["callbacks"]],
        }
        argv = dying.prepare(folder, [each for of in asked.values() for each in of])
        with company.fault("worker killed"):
            for cluster in site.clusters:
                site.start(cluster, argv=argv)
            company.follow(seconds=600)
        assert company.wrong() == []
        waiting = [*deletions, *exports]
        wait_until(lambda: not site.sql(_WAITING, [waiting]), "each callback has come", seconds=_SWEEPS_FOR_CALLBACKS)

    payloads = [each.payload for each in receiver.received]
    came = {(told["request_id"], told["event"], told["callback_id"]) for told in payloads}
    expected = sorted((request, "request.completed") for request in (*deletions, *exports))
    assert sorted(each[:2] for each in came) == expected
    left = dying.not_reached(folder)
    return {of: [step for step, request in each if (step, request) in left] for of, each in asked.items()}
