"""Legal holds against everything that erases: in both orders, and what continues after the release."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from django.db.models import F
from django.utils import timezone

from compliance import worker
from compliance.erasure import uci_values
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from compliance.retention import due, expiry
from compliance.work import legal_holds
from conversations.models import Conversation, Message, RefusedIdentity, VariableValue
from tests.compliance.retention.runs import file_run
from tests.factories import export_of
from tests.functional.company import NOON, Company, became, document, found_anywhere, is_erased, key_of_file, words_in
from tests.functional.redacting import redact, talk
from tests.functional.support import dump
from tests.holding import guarded, place, release


@pytest.fixture(autouse=True)
def _guarded(db) -> Iterator[None]:
    with guarded():
        yield


def test_the_guard_of_these_tests_notices_a_missing_check(company, monkeypatch) -> None:
    company.talk("c-1", "42")
    place(company.chatbot)
    request_id = company.delete("42")
    monkeypatch.setattr(legal_holds, "find_held_by_request", lambda *_: {})
    worker.drain(seconds=5)
    assert ComplianceRequest.objects.get(pk=request_id).error_code == "internal_error"
    assert words_in("c-1") in dump()


def work() -> None:
    assert not worker.drain(seconds=60)


def reason(company: Company, request_id: str) -> str | None:
    found: str | None = company.request_object(request_id)["hold_reason"]
    return found


@pytest.mark.parametrize(("subject", "about"), [("42", ["c-1", "c-2"]), (["c-1"], ["c-1", "c-2"]), (None, "42")])
def test_a_held_deletion_waits_and_continues_after_the_release(company, subject, about) -> None:
    company.talk("c-1", "42", has_file=True)
    company.talk("c-2", "42")
    hold, covered = place(company.chatbot, subject)
    assert covered.already_marked == covered.already_erased == 0
    request_id = company.delete(about)
    work()
    worker.sweep()
    assert (company.status(request_id), reason(company, request_id)) == ("on_hold", "legal_hold")
    assert words_in("c-1") in dump()
    assert words_in("c-2") in dump()

    assert release(hold) == [request_id]
    work()
    assert company.status(request_id) == "completed"
    assert words_in("c-1") not in dump()
    assert words_in("c-2") not in dump()
    assert company.request_object(request_id)["result"] == "done"


def test_a_hold_after_the_deletion_says_that_the_data_is_gone(company) -> None:
    company.talk("c-1", "42")
    request_id = company.delete("42")
    work()
    _, covered = place(company.chatbot, "42")
    assert covered == (0, 0, 1)
    assert company.status(request_id) == "completed"


def test_a_deletion_of_another_person_of_the_conversation_waits_too(company) -> None:
    company.talk("c-1", "41", "42")
    company.talk("c-2", "41")
    hold, covered = place(company.chatbot, "42")
    assert covered.held == 1
    request_id = company.delete("41")
    work()
    assert reason(company, request_id) == "legal_hold"
    release(hold)
    work()
    assert company.status(request_id) == "completed"


def test_another_hold_keeps_it(company) -> None:
    company.talk("c-1", "42")
    hold, _ = place(company.chatbot, "42")
    other, _ = place(company.chatbot, ["c-1"], matter="other")
    request_id = company.delete("42")
    work()
    assert release(hold) == []
    work()
    assert reason(company, request_id) == "legal_hold"
    assert release(other) == [request_id]
    work()
    assert company.status(request_id) == "completed"


def test_a_hold_covers_conversations_of_its_window(company) -> None:
    company.talk("c-1", "42", at=NOON - timedelta(days=30))
    company.talk("c-2", "42", at=NOON)
    hold, covered = place(
        company.chatbot, "42", began_from=NOON - timedelta(days=1), began_before=NOON + timedelta(1)
    )
    assert covered.held == 1
    one, other = company.delete(["c-1"]), company.delete(["c-2"])
    work()
    assert (company.status(one), company.status(other)) == ("completed", "on_hold")
    release(hold)
    work()
    assert company.status(other) == "completed"


def test_a_hold_covers_what_is_stored_later(company) -> None:
    _, covered = place(company.chatbot, "42")
    assert covered.held == 0
    company.talk("c-1", "42")
    request_id = company.delete("42")
    work()
    assert reason(company, request_id) == "legal_hold"


@pytest.mark.parametrize(("about", "held"), [("42", "42"), (["c-1", "c-9"], ["c-9"])])
def test_a_hold_on_what_came_later_does_not_stop_a_deletion_half_way(company, storage, refusals, about, held) -> None:
    number = company.talk("c-1", "42", has_file=True)
    refusals.locked.add(key_of_file(number))
    request_id = company.delete(about)
    work()
    assert company.failure(request_id) == "storage_locked"
    place(company.chatbot, held)
    assert became(company.send(document("c-9", "42", at=timezone.now()))) == ["created"]

    refusals.end()
    company.retry(request_id)
    work()
    assert company.status(request_id) == "completed"
    assert found_anywhere(storage, ["c-1", "c-9"]) == {"c-9"}


@pytest.mark.parametrize("about", ["42", ["c-1", "c-2", "c-3"]])
def test_an_officer_lets_it_erase_the_rest_and_a_successor_waits(company, about) -> None:
    company.talk("c-1", "42", has_file=True)
    company.talk("c-2", "42", has_file=True)
    company.talk("c-3", "42", "43")
    hold, _ = place(company.chatbot, ["c-1"])
    requested_at = (timezone.now() - timedelta(days=3)).isoformat()
    request_id = company.delete(about, requested_at=requested_at, reference="T-1")
    work()
    with pytest.raises(Refused, match="legal hold"):
        decisions.approve(request_id=UUID(request_id), actor="user:71")
    decisions.erase_unheld(request_id=UUID(request_id), actor="user:71", reason="answer_due")
    work()

    first = company.request_object(request_id)
    assert (first["status"], first["result"]) == ("completed", "partial")
    assert ComplianceRequest.objects.get(pk=request_id).withheld == 1
    assert words_in("c-1") in dump()
    assert words_in("c-2") not in dump()
    assert words_in("c-3") not in dump()
    rest = ComplianceRequest.objects.get(continues=request_id)
    found = company.request_object(str(rest.pk))
    assert (found["status"], found["hold_reason"]) == ("on_hold", "legal_hold")
    assert (found["requested_at"], found["due_at"]) == (first["requested_at"], first["due_at"])
    assert found["reference"] == "T-1"

    # What is sent again of the held conversation is refused, and does not destroy it.
    sent = company.send(document("c-1", "42", user_name="again"), document("c-2", "42"))
    assert became(sent)[1] == "conversation_deleted"
    worker.sweep()
    assert words_in("c-1") in dump()

    release(hold)
    work()
    assert company.status(str(rest.pk)) == "completed"
    assert company.request_object(str(rest.pk))["result"] == "done"
    assert words_in("c-1") not in dump()


def test_the_rest_waits_for_an_export_that_was_filed_before_it(company) -> None:
    """The first part was approved in spite of an earlier one, and of no other."""
    export_of(company.chatbot, "42", status="failed", failed_at=NOON, error_code="worker_lost")
    company.talk("c-1", "42")
    company.talk("c-2", "42")
    hold, _ = place(company.chatbot, ["c-1"])
    request_id = company.delete("42")
    work()
    assert reason(company, request_id) == "export_pending"
    decisions.approve(request_id=UUID(request_id), actor="user:71")
    work()
    decisions.erase_unheld(request_id=UUID(request_id), actor="user:71")
    later = export_of(company.chatbot, "42", not_before=timezone.now() + timedelta(hours=1))
    work()
    assert company.request_object(request_id)["result"] == "partial"
    ComplianceRequest.objects.filter(pk=later.pk).update(
        status="failed", failed_at=NOON, error_code="worker_lost", not_before=None
    )

    release(hold)
    work()
    rest = str(ComplianceRequest.objects.get(continues=request_id).pk)
    assert reason(company, rest) == "export_pending"
    assert words_in("c-1") in dump()
    company.retry(str(later.pk))
    work()
    assert company.request_object(str(later.pk))["counts"]["conversations"] == 1
    worker.sweep()
    work()
    assert company.request_object(rest)["result"] == "done"


def test_a_hold_released_before_the_rest_is_left_out_leaves_nothing_out(company, storage, refusals) -> None:
    company.talk("c-1", "42")
    refusals.locked.add(key_of_file(company.talk("c-2", "42", has_file=True)))
    hold, _ = place(company.chatbot, ["c-1"])
    request_id = company.delete("42")
    work()
    decisions.record_answer(request_id=UUID(request_id), actor="user:71", letter="held")
    decisions.erase_unheld(request_id=UUID(request_id), actor="user:71")
    release(hold)
    work()
    # It is not held any more, so it can be overdue again.
    assert company.failure(request_id) == "storage_locked"
    assert ComplianceRequest.objects.get(pk=request_id).answered_at is None
    refusals.end()
    company.retry(request_id)
    work()
    assert company.request_object(request_id)["result"] == "done"
    assert not ComplianceRequest.objects.filter(continues__isnull=False).exists()


@pytest.mark.parametrize("is_released", [False, True])
def test_late_data_is_refused_of_all_but_what_was_left_out(company, is_released) -> None:
    """Nothing is left out if the hold is released before the deletion marks."""
    company.talk("c-1", "42")
    company.talk("c-2", "42")
    numbers = [company.talk("c-3")]
    hold, _ = place(company.chatbot, ["c-1"])
    deletion = company.delete("42")
    work()
    decisions.erase_unheld(request_id=UUID(deletion), actor="user:71")
    if is_released:
        release(hold)
    work()
    assert company.request_object(deletion)["result"] == ("done" if is_released else "partial")
    assert ComplianceRequest.objects.get(pk=deletion).withholds is not is_released

    # The first has named nobody so far, the second was not stored before.
    numbers.append(company.talk("c-4"))
    assert became(company.send(document("c-3", "42"))) == ["chatter_erased"]
    named = {"id": "c-4", "unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "42"}
    [answer] = company.caller.post("conversations/identify", {"identities": [named]}).json()["results"]
    assert answer["error"]["code"] == "chatter_erased"
    worker.sweep()
    assert [is_erased(number) for number in numbers] == [True, True]
    assert (words_in("c-1") in dump()) is not is_released


def test_a_redaction_waits(company) -> None:
    number = talk(company, "c-1", "42")
    hold, _ = place(company.chatbot, "42")
    request_id = redact(company, number)
    work()
    assert (company.status(request_id), reason(company, request_id)) == ("on_hold", "legal_hold")
    assert release(hold) == [request_id]
    work()
    assert company.status(request_id) == "completed"
    assert Message.objects.filter(kind="redacted").count() == 1


def test_a_retention_run_leaves_it_out_and_counts_it(company) -> None:
    old = timezone.now() - timedelta(days=400)
    company.talk("c-1", "42", at=old)
    company.talk("c-2", "43", at=old)
    hold, _ = place(company.chatbot, "42")
    before = timezone.now() - timedelta(days=90)
    assert due.count(company.chatbot, before).number == 1
    run = file_run(company.chatbot)
    work()
    assert not due.any_due(company.chatbot.pk, before)
    run.refresh_from_db()
    assert (run.status, run.withheld) == ("completed", 1)
    assert words_in("c-1") in dump()
    assert words_in("c-2") not in dump()
    release(hold)
    assert due.any_due(company.chatbot.pk, before)


def test_late_data_does_not_close_it(company) -> None:
    number = company.talk("c-1", "43")
    company.talk("c-2", "42")
    deletion = company.delete("42")
    work()
    assert company.status(deletion) == "completed"
    hold, _ = place(company.chatbot, "43")
    # c-1 began before the erasure of 42, who is said to have taken part in it.
    assert became(company.send(document("c-1", "42"))) == ["chatter_erased"]
    worker.sweep()
    assert words_in("c-1") in dump()
    # An officer decides after the release: the client may never send it again.
    [listed] = RefusedIdentity.objects.values_list("conversation_id", "request_id", "way")
    assert listed == (number, UUID(deletion), "custom")
    release(hold)
    assert became(company.send(document("c-1", "42"))) == ["chatter_erased"]
    worker.sweep()
    assert words_in("c-1") not in dump()


@pytest.mark.parametrize(("subject", "people"), [(None, []), (["c-9"], ["43"]), ("43", ["43"])])
@pytest.mark.parametrize("is_stored", [False, True])
def test_late_data_does_not_close_what_earlier_documents_of_the_call_put_under_it(
    company, is_stored, subject, people
) -> None:
    company.talk("c-1", "42")
    if is_stored:
        company.talk("c-9")
    deletion = company.delete("42")
    work()
    assert company.status(deletion) == "completed"
    place(company.chatbot, subject)
    later = {"id": "m2", "sender": "user", "kind": "text", "text": "later words", "sent_at": NOON.isoformat()}
    sent = company.send(
        document("c-9", *people), document("c-9", "42"), document("c-8", "44"), document("c-9", messages=[later])
    )
    assert became(sent)[1:] == ["chatter_erased", "created", "updated"]
    worker.sweep()
    assert words_in("c-9") in dump()
    assert "later words" in dump()


def test_late_data_closes_what_earlier_documents_of_the_call_have_stored(company) -> None:
    company.talk("c-1", "42")
    company.delete("42")
    work()
    place(company.chatbot, "43")
    sent = company.send(document("c-9"), document("c-9", "42"), document("c-9"))
    assert became(sent) == ["created", "chatter_erased", "conversation_deleted"]
    worker.sweep()
    assert words_in("c-9") not in dump()


def test_late_data_closes_nothing_while_the_rest_is_refused(company) -> None:
    company.talk("c-1", "42")
    company.talk("c-2", "42")
    hold, _ = place(company.chatbot, ["c-1"])
    deletion = company.delete("42")
    work()
    decisions.erase_unheld(request_id=UUID(deletion), actor="user:71")
    work()
    rest = ComplianceRequest.objects.get(continues=deletion)
    decisions.reject(request_id=rest.pk, actor="user:71", reason="legal_obligation")
    release(hold)
    company.send(document("c-1", "42", user_name="again"))
    worker.sweep()
    assert words_in("c-1") in dump()


def test_values_of_variables_stay(company) -> None:
    number = company.talk("c-1", "42")
    uci = company.chatbot.variables.get(is_uci=True)
    plan = company.chatbot.variables.get(name="plan")
    over = timezone.now() - timedelta(days=1)
    for variable in (plan, uci):
        VariableValue.objects.create(
            chatbot=company.chatbot, conversation_id=number, variable=variable, value="gold", expires_at=over
        )
    hold, _ = place(company.chatbot, ["c-1"])
    expiry.remove_expired()
    uci_values.erase()
    assert VariableValue.objects.count() == 2
    assert expiry.count_expired()["variable_values"] == 0
    release(hold)
    # They are looked at again in a day.
    VariableValue.objects.update(expires_at=F("expires_at") - timedelta(days=1))
    expiry.remove_expired()
    assert VariableValue.objects.count() == 0
    assert Conversation.objects.get().deletion_request_id is None
