"""A redaction and a deletion of a chatter who has a copy of the message: no copy is lost, and none comes back."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import marking
from compliance.models import ComplianceRequest, Export
from compliance.redaction import engine as redaction
from compliance.work import claims
from tests.functional.company import Company, document
from tests.functional.elsewhere import Elsewhere
from tests.functional.redacting import KEPT, SECRET, found, redact, talk

pytestmark = pytest.mark.django_db(transaction=True)

EXPORTS = "/chatter_data_exports/"


def work() -> None:
    """Let a worker do what does not wait."""
    worker.sweep()
    assert not worker.drain(seconds=60)


def let_wait(request_id: str, *, days: float = 1) -> None:
    ComplianceRequest.objects.filter(pk=request_id).update(not_before=timezone.now() + timedelta(days=days))


def carry_out_redaction() -> None:
    held = claims.take(ComplianceRequest.Kind.REDACTION, ComplianceRequest.Lane.NORMAL)
    assert held
    redaction.run(held, deadline=time.monotonic() + 60)


def copies(storage: ObjectStorage) -> list[str]:
    """Return the contents of the hosted exports."""
    return [storage.read(key).decode() for key in storage.keys("") if EXPORTS in key]


@pytest.mark.parametrize("options", [{}, {"erase_exports": True}])
@pytest.mark.parametrize("by_ids", [False, True])
def test_a_deletion_that_waits_comes_after_the_new_copy(
    company: Company, storage: ObjectStorage, options: dict[str, bool], *, by_ids: bool
) -> None:
    number = talk(company, "c-1", "alice")
    about: list[str] | str = ["c-1"] if by_ids else "alice"
    company.export(about)
    work()
    deletion = company.delete(about, **options)
    let_wait(deletion)
    redact(company, number)
    work()
    [copy] = copies(storage)
    assert (SECRET in copy, KEPT in copy) == (False, True)

    let_wait(deletion, days=-1)
    work()

    assert company.status(deletion) == "completed"
    assert copies(storage) == ([] if options else [copy])
    assert not ComplianceRequest.objects.exclude(status="completed").exists()
    assert not found(storage)


def test_a_deletion_that_was_admitted_already_lets_the_new_copy_pass(
    company: Company, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = talk(company, "c-1", "alice")
    company.export("alice")
    work()
    deletion = company.delete("alice")
    admit, admitted = marking.admit, []

    def admit_before_a_redaction(*args: Any, **options: Any) -> Any:
        admitted.append(admit(*args, **options))
        if len(admitted) == 1:
            redact(company, number)
            # The redaction alone: its repeat is not taken yet.
            Elsewhere(carry_out_redaction).end()
        return admitted[-1]

    monkeypatch.setattr(marking, "admit", admit_before_a_redaction)
    work()
    ComplianceRequest.objects.update(not_before=None)
    work()

    assert company.status(deletion) == "completed"
    [copy] = copies(storage)
    assert (SECRET in copy, KEPT in copy) == (False, True)


def test_the_last_copy_of_an_erased_chatter_stays_until_its_grace_ends_and_is_named(
    company: Company, storage: ObjectStorage
) -> None:
    number = talk(company, "c-1", "alice")
    export = company.export("alice")
    work()
    redacting = redact(company, number)
    let_wait(redacting)
    company.delete("alice")
    work()
    [copy] = copies(storage)

    let_wait(redacting, days=-1)
    work()

    assert company.status(redacting) == "completed"
    assert copies(storage) == [copy]
    assert [one["request_id"] for one in company.request_object(redacting)["kept_exports"]] == [export]
    Export.objects.update(expires_at=timezone.now())
    work()
    assert not found(storage)


def test_another_persons_clean_copy_stays(company: Company, storage: ObjectStorage) -> None:
    """The message was redacted before, and is erased when the second redaction begins."""
    number = talk(company, "c-1", "alice")
    company.send(document("c-1", "bob"))
    redact(company, number)
    work()
    company.export("bob", include_shared=True)
    work()
    [copy] = copies(storage)
    assert (SECRET in copy, KEPT in copy) == (False, True)
    second = redact(company, number)
    let_wait(second)
    company.delete("alice")
    work()

    let_wait(second, days=-1)
    work()

    assert company.status(second) == "completed"
    assert copies(storage) == [copy]
