"""A backup from the middle of an export of many files: it knows the export, and not all of its files."""

from datetime import timedelta

import pytest
from django.db.models import F

from common.storage import ObjectStorage
from compliance import worker
from compliance.export.attachments import FileCopier
from compliance.models import Claim, ExportFile
from tests.clients import PREFIX
from tests.compliance.replay.conftest import replay
from tests.functional.company import Company, settle
from tests.functional.elsewhere import Elsewhere
from tests.functional.test_export_formats import ALL
from tests.patches import before
from tests.restoring import Backup

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.long(reason="a restore, and each way to end", beyond=1)
@pytest.mark.parametrize("formats", [ALL, ["csv"]], ids=["folder", "csv"])
@pytest.mark.parametrize("ending", ["deletion", "delivery"])
def test_files_that_the_backup_does_not_know_go_with_their_export(
    company: Company, clients: ObjectStorage, monkeypatch: pytest.MonkeyPatch, ending: str, formats: list[str]
) -> None:
    company.talk("c-1", "alice", has_file=True)
    backups: list[Backup] = []
    with monkeypatch.context() as patched:
        # No file beside it has a row yet.
        before(patched, FileCopier, "run", lambda *_: backups.append(Elsewhere(Backup).end()))
        export = company.export("alice", formats=formats, include_files=True)
        settle()
    assert company.status(export) == "completed"
    lost = set(clients.keys())
    if ending == "deletion":
        deletion = company.delete("alice")
        settle()
        assert company.status(deletion) == "completed"
    # Of names that begin alike, and of the same names elsewhere.
    theirs = {key.replace("_conversation_export", "_conversation_export_2") for key in lost}
    theirs |= {key.replace(PREFIX, "neighbour/") for key in lost}
    for key in theirs:
        clients.put(key, b"of another export", "text/plain")
    assert len(theirs) == 2 * len(lost)

    backups[0].restore()
    assert not ExportFile.objects.exists()
    replay()
    Claim.objects.update(expires_at=F("expires_at") - timedelta(hours=1))
    worker.sweep()
    settle()
    worker.sweep()

    shown = company.request_object(export)["export"]
    files = {shown["key"], *(one["key"] for one in shown["files"])} if ending == "delivery" else set()
    assert set(clients.keys()) == theirs | files
