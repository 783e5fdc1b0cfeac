"""`reconcile_storage` beside a database that was restored from a backup, before and after its replay."""

from datetime import timedelta

import pytest
from django.core.management import CommandError
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.ledger import service
from compliance.models import Service
from compliance.reconciliation import scan
from conversations.models import UploadedFile
from tests.closed import State, close
from tests.commands import run
from tests.compliance.reconciling import COPY, EXPORT, EXTRACT, keys, put, reconcile

# Written after the backup: the database does not know their rows.
NEWER = [
    "uploads/0/0af3",
    "acme/chatter_data_exports/erin%40example.org/20261102_120000_conversation_export.csv",
    "acme/daily_conversations_extracts/2026-11-02_conversations_extract.csv",
]
OTHER = "01a00000-0000-7000-8000-000000000001"
OTHER_LEDGER = f"erasure_ledger/{OTHER}/2020/01/02/030405-{OTHER}.jsonl"


@pytest.fixture
def everything_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat objects just written as old; S3 returns whole seconds."""
    monkeypatch.setattr(scan, "SAFETY_AGE", timedelta(seconds=-2))


def replayed() -> None:
    """The replay has ended in a moment from now."""
    service.remember()
    Service.objects.update(replayed_at=timezone.now() + timedelta(minutes=1))


def told(*options: str) -> str:
    return run("reconcile_storage", *options).out


def test_objects_that_the_database_has_forgotten_are_told_while_they_are_young(
    whole: list[str], storage: ObjectStorage
) -> None:
    """A backup of this morning: nothing that it lacks is old enough to be an orphan."""
    put(storage, *NEWER)
    replayed()

    report = reconcile()

    expected = {"uploads": 1, "chatter_data_exports": 1, "daily_conversations_extracts": 1}
    assert (report["agrees"], report["young"], report["orphans"]) == (True, expected, {})
    # The objects of `whole` have their rows, and the ledger has none.
    assert report["before_replay"] == 3
    text = told()
    assert "uploads: 1 objects without a row, younger than a day: run it again tomorrow" in text
    assert "If there is a newer backup, restore that one" in text
    assert reconcile("--fix", "--force")["fixed"] is None
    assert keys(storage) == sorted([*whole, *NEWER])


@pytest.mark.usefixtures("everything_is_old")
def test_objects_without_rows_and_rows_without_objects_are_told_apart(
    whole: list[str], storage: ObjectStorage, chatbot: Chatbot
) -> None:
    """Since the backup, more was written, and what it knows was erased or has expired."""
    put(storage, *NEWER)
    for key in (UploadedFile.objects.get().object_key, EXPORT, COPY, EXTRACT):
        storage.purge(key)
    replayed()

    report = reconcile(code=3)

    assert report["orphans"] == {"uploads": 1, "chatter_data_exports": 1, "daily_conversations_extracts": 1}
    assert report["rows"] == {"files": 1, "exports": 1, "export_files": 1, "extracts": 1}
    assert (report["before_replay"], report["young"]) == (3, {})


@pytest.mark.usefixtures("everything_is_old")
def test_orphans_of_later_are_no_matter_of_the_restore(whole: list[str], storage: ObjectStorage) -> None:
    put(storage, *NEWER)
    replayed()
    Service.objects.update(replayed_at=timezone.now() - timedelta(days=1))

    assert reconcile(code=3)["before_replay"] == 0
    assert "backup" not in told()


@pytest.mark.usefixtures("everything_is_old")
@pytest.mark.parametrize("state", [State.RESTORED, State.CATCHING_UP])
def test_nothing_is_fixed_before_the_replay(whole: list[str], storage: ObjectStorage, state: State) -> None:
    put(storage, *NEWER)
    storage.purge(EXPORT)
    close(state)
    before = keys(storage)

    for options in (["--fix"], ["--fix", "--force"]):
        with pytest.raises(CommandError, match="replay_erasures") as caught:
            told(*options)
        assert caught.value.returncode == 2

    assert keys(storage) == before
    assert reconcile(code=3)["state"] == state
    assert "run replay_erasures, and then compare again" in told()


@pytest.mark.usefixtures("everything_is_old")
def test_the_ledger_of_another_service_is_left_alone_and_told(whole: list[str], storage: ObjectStorage) -> None:
    put(storage, OTHER_LEDGER, NEWER[0])

    report = reconcile("--fix", "--force", code=3)

    assert report["other_ledgers"] == {OTHER: 1}
    assert report["fixed"] == {"orphans": 1}
    assert OTHER_LEDGER in keys(storage)
    assert f"erasure_ledger: 1 objects of another service, {OTHER}, are left alone" in told()


@pytest.mark.usefixtures("everything_is_old")
def test_the_services_own_ledger_is_kept_without_rows(whole: list[str], storage: ObjectStorage) -> None:
    """Those without a row are what a replay reads."""
    own = f"{service.current().service_id}/{timezone.now():%Y/%m/%d}/030405-{OTHER}.jsonl"
    put(storage, f"erasure_ledger/{own}")

    report = reconcile("--fix", "--force")

    assert (report["agrees"], report["other_ledgers"]) == (True, {})
