"""What clients send again after a restore is refused, or stored as redacted, exactly as before the restore."""

from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from chatbots.models import Chatbot, Variable
from chatbots.operations.chatbots import NewVariable, change_chatbot
from compliance.ledger import lines
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from compliance.requests.submit import CONSOLE_GRACE
from conversations.models import Conversation, Message
from tests.compliance.replay.conftest import became_of, gone, replay, work, write_journal
from tests.compliance.replay.test_whole_replays import told
from tests.compliance.retention.runs import ago, file_run
from tests.functional.company import Company, became, document, words_in
from tests.functional.redacting import KEPT, SECRET, message_of, redact, said
from tests.functional.support import dump
from tests.functional.test_identify import named
from tests.functional.test_redacted_comments import ALONE, is_redacted, rated
from tests.patches import Killed, failing
from tests.restoring import Backup, restored

# Sent after the backup, so that the restored database has never had it.
LOST = document("c-1", "alice")
OLD = document("c-old", "dave", at=ago(1100))
CARD = document("c-card", "carol", messages=[said("m1", f"My card: {SECRET}"), said("m2", KEPT)])


def number_of(company: Company, conversation_id: str) -> int:
    return Conversation.objects.get(chatbot=company.chatbot, external_id=conversation_id).pk


def redact_card(company: Company) -> str:
    """Store the conversation with the card's number, and file the redaction of that message."""
    company.send(CARD)
    return redact(company, number_of(company, "c-card"))


def require_four_eyes(company: Company) -> None:
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)


def test_a_conversation_that_was_erased_by_its_id_is_refused_and_no_id_that_never_existed(company: Company) -> None:
    """docs/clients/name-conversations.md: a document for an id that was unknown to the deletion is stored."""
    with restored():
        company.send(LOST)
        company.delete(["c-1", "c-unknown"])
        work()

    replay()

    sent = LOST, document("c-unknown"), document("c-2", "alice")
    assert became(company.send(*sent)) == ["conversation_deleted", "created", "created"]
    assert named(company.caller, "c-1", "bob") == "conversation_deleted"
    assert words_in("c-1") not in dump()


def test_under_four_eyes_it_is_stored_until_that_is_approved_and_stays_if_it_is_rejected(company: Company) -> None:
    require_four_eyes(company)
    bobs, carols = document("c-2", "bob"), document("c-3", "carol")
    with restored():
        company.send(LOST, bobs, carols)
        alices, rejected, approved = company.delete("alice"), company.delete(["c-2"]), company.delete(["c-3"])
        redaction = redact_card(company)
        write_journal()

    text = told()
    work()

    assert f"redaction {redaction} of acme" in text
    assert "redaction" in text.splitlines()[-1]
    holds = [company.request_object(one)["hold_reason"] for one in (alices, rejected, approved)]
    assert holds == ["restored"] * 3
    assert became(company.send(LOST, bobs)) == ["created"] * 2
    [result] = company.send(CARD)
    assert SECRET in message_of(result["number"]).text
    decisions.reject(request_id=UUID(rejected), actor="user:7", reason="other")
    decisions.approve(request_id=UUID(approved), actor="user:7")
    work()
    assert gone(number_of(company, "c-2")) == [False]
    assert became(company.send(bobs, carols)) == ["unchanged", "conversation_deleted"]


def test_a_redacted_message_or_comment_stays_redacted(company: Company) -> None:
    """Whether the backup has the conversation or not, or it without the comment, and whether it was carried out."""
    company.send(*(CARD | {"id": one, "messages": [said("m2", KEPT)]} for one in ("c-0", "c-1")))
    company.send(*(rated(one) for one in ("r-0", "r-3")), *(rated(one) | {"csat": None} for one in ("r-1", "r-4")))
    redactions = []
    with restored():
        for cards, comments, then in (
            (("c-0", "c-2"), ("r-0", "r-1", "r-2"), work),
            (("c-1", "c-3"), ("r-3", "r-4", "r-5"), write_journal),
        ):
            company.send(*(CARD | {"id": one} for one in cards), *(rated(one) for one in comments))
            redactions += [redact(company, number_of(company, one)) for one in cards]
            redactions += [redact(company, number_of(company, one), **ALONE) for one in comments]
            then()

    report = replay()
    work()
    again = company.send(*(CARD | {"id": f"c-{one}"} for one in range(4)))
    rated_again = company.send(*(rated(f"r-{one}") for one in range(6)))

    assert became(again) == ["updated", "updated", "created", "created"]
    assert became(rated_again) == ["unchanged", "updated", "created"] * 2
    for number in (result["number"] for result in again):
        assert (message_of(number).kind, message_of(number).text) == ("redacted", "")
        assert (message_of(number, "m2").kind, message_of(number, "m2").text) == ("text", KEPT)
    assert {is_redacted(company, result["number"]) for result in rated_again} == {True}
    assert SECRET not in dump()
    assert {(one["request_id"], one["kind"]) for one in report["requests"]} == {
        (one, "redaction") for one in redactions
    }
    assert {company.status(one) for one in redactions} == {"completed"}


def test_another_chatbot_with_the_same_ids_is_untouched(company: Company, other: Company) -> None:
    both = document("c-both", "alice"), document("c-both", "bob")
    with restored():
        for one in (company, other):
            one.send(LOST, *both, OLD)
        redact_card(company)
        company.delete(["c-1"])
        company.delete("alice")
        file_run(company.chatbot, 1095)
        work()

    replay()

    again = [LOST, both[1], OLD, CARD]
    assert became(company.send(*again)) == [*["conversation_deleted"] * 3, "created"]
    assert became(other.send(*again)) == ["created"] * 4
    # Neither of them is erased: what one shared with Alice is, and what was old of the other.
    assert became(company.send(document("c-2", "bob"), document("c-3", "dave"))) == ["created"] * 2
    assert message_of(number_of(company, "c-card")).kind == "redacted"
    assert SECRET in message_of(number_of(other, "c-card")).text


def test_a_chatter_by_a_uci_that_was_designated_since_is_refused(company: Company, other: Company) -> None:
    def designate() -> None:
        change_chatbot(
            chatbot=company.chatbot, actor="user:7", variables=[NewVariable("custom", "email")], uci="email"
        )

    def by_email(conversation_id: str) -> dict[str, Any]:
        return document(conversation_id, custom_variables={"email": "a@example.com"})

    theirs = list(Variable.objects.filter(chatbot=other.chatbot).order_by("pk").values())
    with restored():
        designate()
        company.send(by_email("c-1"))
        selector = {"unique_chatter_identifier_key": "email", "unique_chatter_identifier_value": "a@example.com"}
        assert company.caller.post("data-deletion", selector).status_code == 200
        work()
        assert became(company.send(by_email("c-1"), by_email("c-2"))) == ["conversation_deleted", "chatter_erased"]

    replay()
    change_chatbot(chatbot=company.chatbot, actor="user:7", uci="email")

    assert became(company.send(by_email("c-1"), by_email("c-2"))) == ["conversation_deleted", "chatter_erased"]
    assert list(Variable.objects.filter(chatbot=other.chatbot).order_by("pk").values()) == theirs


def test_what_a_replay_has_remembered_outlives_the_next_restore_of_the_same_backup(company: Company) -> None:
    kept = document("c-kept", "alice")
    card = document("c-card", "carol", messages=[said("m1", KEPT)])
    [number] = [number_of(company, "c-card") for _ in [company.send(kept, card)]]
    backup = Backup()
    company.send(LOST, card | {"messages": [said("m1", KEPT), said("m3", f"My card: {SECRET}")]})
    company.delete(["c-kept", "c-1"])
    redact(company, number, "m1", "m3")
    write_journal()

    for _ in range(2):
        backup.restore()
        replay()
        work()

        assert became(company.send(kept, LOST)) == ["conversation_deleted"] * 2
        company.send(card | {"messages": [said("m3", f"My card: {SECRET}")]})
        assert SECRET not in dump()


def test_a_message_stays_redacted_that_a_deletion_had_erased_before_the_ledger_named_it(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion was killed before its end. So the restored service stores the document until it erases again."""
    company.talk("c-0", "carol")
    with restored():
        redaction = redact_card(company)
        ComplianceRequest.objects.filter(pk=redaction).update(not_before=timezone.now() + CONSOLE_GRACE)
        deletion = company.delete("carol")
        with monkeypatch.context() as patched:
            patched.setattr(lines, "exact", failing(Killed()))
            with pytest.raises(Killed):
                work()
        assert not Message.objects.exists()
        write_journal()

    assert became_of(replay()) == {redaction: "nothing_found", deletion: "filed_again"}

    [result] = company.send(CARD)
    assert message_of(result["number"]).kind == "redacted"
    assert SECRET not in dump()
