"""A redaction and a deletion of a chatter who has a copy of the message: no copy is lost, and none comes back."""

import time
from datetime import timedelta
from uuid import UUID

import pytest
from django.conf import settings
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import marking
from compliance.models import ComplianceRequest, Export
from compliance.redaction import engine as redaction
from compliance.requests import decisions
from compliance.retention import policy
from compliance.work import claims
from conversations.models import Conversation
from tests.compliance.retention.runs import keep_for
from tests.functional.company import Company, Subject, document
from tests.functional.elsewhere import Elsewhere
from tests.functional.redacting import KEPT, SECRET, found, redact, talk
from tests.patches import after, once

EXPORTS = "/chatter_data_exports/"


def work() -> None:
    """Let a worker do what does not wait."""
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


@pytest.mark.parametrize(("about", "options"), [("alice", {}), (["c-1"], {"erase_exports": True})])
def test_a_deletion_that_waits_comes_after_the_new_copy(company, storage, about, options) -> None:
    number = talk(company, "c-1", "alice")
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


@pytest.mark.parametrize(("exported", "deleted"), [("alice", "alice"), (["c-1"], "alice")])
def test_a_deletion_that_was_admitted_already_lets_the_new_copy_pass(
    company: Company, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, exported: Subject, deleted: Subject
) -> None:
    number = talk(company, "c-1", "alice")
    company.export(exported)
    work()
    deletion = company.delete(deleted)

    def redact_it(*_: object) -> None:
        redact(company, number)
        # The redaction alone: its repeat is not taken yet.
        Elsewhere(carry_out_redaction).end()
        assert ComplianceRequest.objects.filter(kind="export", status="accepted").count() == 1

    after(monkeypatch, marking, "admit", once(redact_it))
    for _ in range(3):
        work()
        ComplianceRequest.objects.update(not_before=None)
    worker.sweep()

    assert company.status(deletion) == "completed"
    [copy] = copies(storage)
    assert (SECRET in copy, KEPT in copy) == (False, True)


@pytest.mark.parametrize(
    ("exported", "deleted"), [("alice", "alice"), (["c-1"], "alice"), ("alice", ["c-1"]), (["c-1"], ["c-1", "c-9"])]
)
def test_a_deletion_that_the_copy_has_overtaken_comes_after_the_new_copy(company, storage, exported, deleted) -> None:
    number = talk(company, "c-1", "alice")
    company.talk("c-9", "bob")
    Chatbot.objects.update(four_eyes=True)
    deletion, others = company.delete(deleted), company.delete("bob")
    work()
    company.export(exported)
    work()
    assert len(copies(storage)) == 1
    Chatbot.objects.update(four_eyes=False)
    places = dict(ComplianceRequest.objects.values_list("pk", "seq"))
    redact(company, number)
    carry_out_redaction()
    let_wait(str(ComplianceRequest.objects.get(kind="export", status="accepted").pk))
    work()
    decisions.approve(request_id=UUID(deletion), actor="user:2", reason="other")
    work()
    ComplianceRequest.objects.update(not_before=None)
    for _ in range(3):
        work()

    assert company.status(deletion) == "completed"
    [copy] = copies(storage)
    assert (SECRET in copy, KEPT in copy) == (False, True)
    # A deletion of other data keeps its place.
    if "c-9" not in deleted:
        assert ComplianceRequest.objects.get(pk=others).seq == places[UUID(others)]


@pytest.mark.parametrize("by_age", [False, True])
def test_a_copy_of_what_was_erased_since_stays_until_its_grace_ends_and_is_named(company, storage, *, by_age):
    number = talk(company, "c-1", "alice")
    company.talk("c-2", "alice")
    export = company.export("alice")
    work()
    redacting = redact(company, number)
    let_wait(redacting)
    if by_age:
        keep_for(company.chatbot, 1095)
        Conversation.objects.update(started_at="2000-01-01T00:00Z", last_message_at="2000-01-01T00:00Z")
        policy.file_run(company.chatbot, actor="command")
    else:
        company.delete(["c-2"])
    work()
    [copy] = copies(storage)

    let_wait(redacting, days=-1)
    work()
    worker.sweep()

    assert company.status(redacting) == "completed"
    assert copies(storage) == [copy]
    assert [one["request_id"] for one in company.request_object(redacting)["kept_exports"]] == [export]
    kept = Export.objects.get()
    assert kept.finished_at
    assert kept.expires_at == kept.finished_at + settings.EXPORT_GRACE_DAYS
    Export.objects.update(expires_at=timezone.now())
    worker.sweep()
    assert not found(storage)


def test_a_copy_goes_where_the_deletion_that_met_its_request_has_erased_nothing(company, storage) -> None:
    number = talk(company, "c-1", "alice")
    company.export(["c-1", "c-9"])
    work()
    company.delete(["c-9"])
    work()
    redact(company, number)
    work()
    [copy] = copies(storage)
    assert (SECRET in copy, KEPT in copy) == (False, True)


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
    worker.sweep()

    assert company.status(second) == "completed"
    assert copies(storage) == [copy]
