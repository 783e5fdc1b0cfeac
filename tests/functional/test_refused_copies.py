"""Copies of files that the storage refuses to remove: their rows are kept until they are removed."""

from datetime import timedelta

from django.conf import settings

from compliance.models import Export, ExportFile
from tests.compliance.retention.test_purge_expired import purge_expired
from tests.functional.company import Company, found_anywhere, settle, work

COPIES = "_files/"
EXPIRED = settings.HOSTED_FILE_DAYS + timedelta(days=1)


def exported_with_copy(company: Company, conversation_id: str, person: str, age: timedelta = timedelta()) -> Export:
    company.talk(conversation_id, person, has_file=True)
    export = company.exported(person, age=age, include_files=True)
    assert COPIES in export.copies.get().key
    return export


def test_a_deletion_fails_while_a_copy_is_refused_and_removes_it_when_it_is_retried(company, storage, refusals):
    export = exported_with_copy(company, "c-1", "alice")
    neighbours = exported_with_copy(company, "c-2", "bob")
    refusals.locked.add(COPIES)
    deletion = company.delete("alice", erase_exports=True)
    work()
    assert company.failure(deletion) == "storage_locked"
    assert storage.exists(str(export.key))

    refusals.end()
    company.retry(deletion)
    settle()
    assert company.status(deletion) == "completed"
    assert company.request_object(deletion)["counts"]["exports"] == 1
    assert found_anywhere(storage, ["c-1", "c-2"]) == {"c-2"}
    assert storage.exists(str(neighbours.key))
    assert ExportFile.objects.get().export_id == neighbours.pk


def test_an_expired_export_is_kept_and_not_counted_while_a_copy_is_refused(company, storage, refusals) -> None:
    export = exported_with_copy(company, "c-1", "alice", EXPIRED)
    copy = export.copies.get().key
    refusals.locked.add(COPIES)
    outcome = purge_expired(code=3)
    assert (outcome["removed"]["exports"], outcome["refused"]) == (0, {"storage_locked": 1})
    assert storage.exists(str(export.key))

    refusals.end()
    assert purge_expired()["removed"]["exports"] == 1
    assert not storage.exists(str(export.key))
    assert not storage.exists(copy)
