"""A machine of Citus is put back alone: its conversations are a backup's, the ledger's objects are all known."""

from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from chatbots.models import Chatbot, Variable
from compliance.ledger import service
from compliance.models import ComplianceRequest, Redaction, RetentionRun
from compliance.replay import loading
from compliance.requests import decisions
from conversations.models import Conversation, Identity, Message, Tombstone, UploadedFile
from tests.compliance.replay.conftest import gone, replay, work, write_journal
from tests.compliance.retention.runs import ago, file_run
from tests.functional.company import Company, became, document
from tests.functional.redacting import SECRET, message_of, redact, said, talk
from tests.patches import failing
from tests.restoring import Backup


def test_what_was_erased_redacted_and_expired_since_is_gone_again_and_refused(company: Company, other: Company):
    """Also what the machine has no rows of, where it is sent again."""
    alices, named, bobs = company.talk("c-1", "alice"), company.talk("c-2"), company.talk("c-3", "bob")
    old, redacted = company.talk("c-4", "dave", at=ago(1100)), talk(company, "c-5", "carol")
    theirs, their_card = other.talk("c-1", "alice", at=ago(1100)), talk(other, "c-5", "carol")
    backup = Backup()
    lost = document("c-6", "alice"), document("c-7"), document("c-8", "dave", at=ago(1100))
    card = document("c-card", "carol", messages=[said("m1", f"My card: {SECRET}")])
    company.send(*lost)
    redact(company, company.send(card)[0]["number"])
    company.delete("alice")
    company.delete(["c-2", "c-7"])
    redact(company, redacted)
    file_run(company.chatbot, 1_000)
    work()
    numbers, erased = (alices, named, bobs, old, redacted, theirs), [True, True, False, True, False, False]
    assert (gone(*numbers), message_of(redacted).kind) == (erased, "redacted")
    backup.restore_machine()
    assert (gone(*numbers), message_of(redacted).kind) == ([False] * 6, "file")

    replay("--restored")

    assert (gone(*numbers), message_of(redacted).kind) == (erased, "redacted")
    assert SECRET not in message_of(redacted).text
    assert SECRET in message_of(their_card).text
    sent = document("c-1", "alice"), document("c-2"), *lost, document("c-9", "alice")
    assert became(company.send(*sent)) == ["conversation_deleted"] * 5 + ["chatter_erased"]
    [result] = company.send(card)
    assert message_of(result["number"]).kind == "redacted"


def test_it_goes_on_after_an_interruption(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    number = company.talk("c-1", "alice")
    backup = Backup()
    company.delete("alice")
    work()
    backup.restore_machine()

    with monkeypatch.context() as patched:
        patched.setattr(loading, "read", failing(KeyboardInterrupt))
        with pytest.raises(CommandError, match="run it again"):
            call_command("replay_erasures", "--restored")

    replay()

    assert (service.is_open(), gone(number)) == (True, [True])


_TABLES = (Conversation, Message, Identity, Tombstone, UploadedFile, Chatbot, Variable, ComplianceRequest, Redaction)


def test_nothing_changes_where_nothing_was_restored(company: Company) -> None:
    company.talk("c-1", "alice", "bob", has_file=True)
    company.talk("c-2", "carol")
    card = talk(company, "c-card", "dave")
    company.talk("c-old", "erin", at=ago(1100))
    company.delete("alice")
    company.delete(["c-2", "c-unknown"])
    redact(company, card)
    file_run(company.chatbot, 1095)
    work()
    company.send(document("c-unknown", "zed"), document("c-back", "alice", at=timezone.now()))
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    held = company.delete(["c-unknown", "c-never"])
    work()
    write_journal()
    set_at = Chatbot.objects.get(pk=company.chatbot.pk).retention_set_at
    rows = [list(model.objects.order_by("pk").values()) for model in (*_TABLES, RetentionRun)]

    planned, done = replay("--restored", "--dry-run"), replay("--restored")

    assert planned["plans"] == done["plans"]
    # Staff are asked whether the period is still right.
    assert Chatbot.objects.filter(retention_set_at=None).update(retention_set_at=set_at) == 1
    assert [list(model.objects.order_by("pk").values()) for model in (*_TABLES, RetentionRun)] == rows
    decisions.approve(request_id=UUID(held), actor="user:7")
    work()
    # As in ordinary life: what comes under an id that nothing has when a deletion begins, is no part of it.
    assert became(company.send(document("c-never", "yan"))) == ["created"]


def test_a_message_that_was_sent_again_before_the_replay_is_redacted(company: Company) -> None:
    card = document(
        "c-card", "carol", messages=[said("m1", f"My card: {SECRET}"), said("m2", f"Once more: {SECRET}")]
    )
    [result] = company.send(document("c-card", "carol", messages=[said("m0", "hello")]))
    number = result["number"]
    backup = Backup()
    company.send(card)
    redact(company, number, "m1", "m2")
    work()
    backup.restore_machine()
    company.send(card | {"messages": card["messages"][:1]})
    assert SECRET in message_of(number, "m1").text

    replay("--restored")

    company.send(card)
    assert [message_of(number, each).kind for each in ("m0", "m1", "m2")] == ["text", "redacted", "redacted"]


def test_a_redaction_of_a_conversation_that_the_machine_lacks_ends(company: Company) -> None:
    backup = Backup()
    card = document("c-card", "carol", messages=[said("m1", f"My card: {SECRET}")])
    [result] = company.send(card)
    redaction = redact(company, result["number"])
    filed = ComplianceRequest.objects.get(pk=redaction)
    work()
    backup.restore_machine()
    # It is open on the coordinator, and its line says that it has redacted.
    ComplianceRequest.objects.filter(pk=redaction).update(
        status="accepted", completed_at=None, result=None, cutoff_at=None, seq=filed.seq
    )

    replay("--restored")
    work()

    assert company.status(redaction) == "completed"
    [result] = company.send(card)
    assert message_of(result["number"]).kind == "redacted"
