"""The page of one request: each state, the actions of each role, and their results."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots import changelog
from chatbots.models import ChangeLogEntry, Chatbot
from compliance.deadlines import OPEN
from compliance.models import ComplianceRequest, RequestNote
from compliance.requests.reasons import REASONS, Decision
from console.requests import labels
from console.requests.history import EVENTS
from tests import factories
from tests.console.made import VALUE, Status, completed, failed, held, status_of, waiting
from tests.console.request_pages import address, decide, offered, text_of
from tests.factories import conversation_of, deletion_of, export_of, of_conversations
from tests.people import Role, client_of, member, staff

Make = Callable[..., ComplianceRequest]


def test_each_state_shows_what_it_waits_for_and_the_possible_actions(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    now = timezone.now()
    begun = {"started_at": now, "cutoff_at": now}
    pages: list[tuple[ComplianceRequest, str, set[str]]] = [
        (waiting(chatbot), "It waits in the queue for a worker", {"cancel"}),
        (waiting(chatbot, not_before=now + timedelta(hours=1)), "It can be cancelled until then.", {"cancel"}),
        (
            waiting(chatbot, error_code="storage_unavailable", error_detail="It was away.", attempts=1),
            "An attempt failed (1 of 5): It was away.",
            {"cancel"},
        ),
        (
            waiting(chatbot, error_code="storage_resting", not_before=now + timedelta(minutes=1)),
            "not used for a while. It is tried again at",
            {"cancel"},
        ),
        (waiting(chatbot, error_code="storage_unavailable", attempts=1), "If it fails in the end:", {"cancel"}),
        (waiting(chatbot, cutoff_at=now), "It waits in the queue for a worker", set()),
        (
            held(chatbot),
            "more conversations than the chatbot&#x27;s guard allows (1,000)",
            {"approve", "reject", "cancel"},
        ),
        (
            held(chatbot, "awaiting_approval"),
            "each deletion needs the approval of a second person",
            {"approve", "reject", "cancel"},
        ),
        (held(chatbot, "export_pending"), "An earlier export of the same chatter", {"approve", "reject", "cancel"}),
        (waiting(chatbot, status=Status.PROCESSING, **begun), "A worker is erasing the data.", set()),
        (export_of(chatbot, VALUE, status=Status.PROCESSING, **begun), "A worker is writing the file.", set()),
        (completed(chatbot), "verification found nothing left", set()),
        (completed(chatbot, result="nothing_found"), "There was no data to erase.", set()),
        (failed(chatbot), "When it is back, retry.", {"retry"}),
        (failed(chatbot, uci_value=None), "It cannot be retried", set()),
        (failed(chatbot, error_code="of_tomorrow"), "See the detail.", {"retry"}),
        (waiting(chatbot, status=Status.CANCELLED, uci_value=None), "It was cancelled before it started", set()),
        (waiting(chatbot, status=Status.REJECTED, uci_value=None), "It was not carried out.", set()),
        (of_conversations(chatbot, "c-1"), "Conversations, by the platform&#x27;s ids", {"cancel"}),
    ]
    assert {one.status for one, _, _ in pages} == set(Status)
    for request, expected, may in pages:
        text = text_of(client, request)
        assert expected in text
        is_open = request.status in OPEN
        assert offered(text) == may | ({"extend"} if is_open else set())
        assert VALUE not in text


def test_each_role_is_offered_and_allowed_its_own_actions(chatbot: Chatbot) -> None:
    """Which roles a page refuses is tested for all pages (`test_who_may.py`)."""
    officer = member(chatbot, Role.OFFICER)
    all_of_them = {"approve", "reject", "retry", "cancel"}
    theirs: list[tuple[Client, set[str]]] = [
        (member(chatbot), set()),
        (member(chatbot, Role.SUPPORT), {"retry", "cancel"}),
        (officer, all_of_them),
        (client_of(User.objects.create_superuser("root")), all_of_them),
    ]
    requests = [held(chatbot), failed(chatbot)]
    for client, may in theirs:
        assert set().union(*(offered(text_of(client, one)) for one in requests)) - {"extend"} == may
    for request, action in zip(requests, ("approve", "retry"), strict=True):
        assert decide(theirs[0][0], request, action).status_code == 403
        assert decide(theirs[1][0], request, action).status_code == (302 if action == "retry" else 403)
    assert [status_of(one) for one in requests] == [Status.ON_HOLD, Status.ACCEPTED]

    assert officer.get("/admin/requests/018f0000-0000-7000-8000-000000000000/").status_code == 404
    assert decide(officer, held(chatbot), "erase").status_code == 404
    assert officer.get(address(held(chatbot), "approve")).status_code == 405


def test_a_held_deletion_links_to_its_blocking_exports(chatbot: Chatbot) -> None:
    owed = export_of(chatbot, VALUE, status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    noted = of_conversations(chatbot, "c-1", kind="export")
    export_of(chatbot, "another", status=Status.FAILED, failed_at=timezone.now(), error_code="storage_locked")
    text = text_of(member(chatbot), held(chatbot, "export_pending", pending_export_id=noted.pk))
    assert text.count("Export of ") == 2
    assert address(owed) in text
    assert address(noted) in text


def test_a_request_that_waits_for_an_earlier_one_links_to_it(chatbot: Chatbot) -> None:
    client = member(chatbot)
    first, second = export_of(chatbot, "42"), deletion_of(chatbot, "42")
    third, fourth = of_conversations(chatbot, "c-1"), of_conversations(chatbot, "c-1", "c-2")
    for request, ahead in ((first, None), (second, first), (third, None), (fourth, third)):
        assert client.get(address(request)).context["ahead"] == (ahead.pk if ahead else None)
    assert address(first) in text_of(client, second)


def test_a_deletion_that_was_carried_out_shows_its_counts_and_its_conversations(chatbot, drain) -> None:
    erased = [conversation_of(chatbot, VALUE, messages=3) for _ in range(2)]
    key = factories.ApiKeyFactory.create(chatbot=chatbot, label="CRM", prefix="3f9a")
    request = deletion_of(chatbot, VALUE, filed_by=f"api:{key.prefix}", reference="TICKET-7")
    drain()

    answer = member(chatbot).get(address(request))

    assert [(one.label, one.number, one.kept) for one in answer.context["counts"]][:3] == [
        ("Conversations", 2, "number, day, channel, flags and scores"),
        ("Messages", 6, ""),
        ("UCI values", 2, ""),
    ]
    assert ", ".join(str(one.pk) for one in erased) in answer.text
    for expected in (
        "API key CRM (3f9a)",
        "Worker",
        "TICKET-7",
        "2 conversations, 6 messages.",
    ):
        assert expected in answer.text
    assert VALUE not in answer.text


@pytest.mark.django_db(transaction=True)  # an export is read on its own connection
def test_an_export_is_downloaded_by_support_staff_and_officers(chatbot, drain, storage) -> None:
    conversation_of(chatbot, VALUE, messages=3)
    request = export_of(chatbot, VALUE)
    drain()
    export = ComplianceRequest.objects.get(pk=request.pk).export
    support, viewer = staff(chatbot, Role.SUPPORT), member(chatbot)

    for client, may in ((client_of(support), True), (viewer, False)):
        text = text_of(client, request)
        assert VALUE not in text
        assert str(export.sha256) in text
        assert (address(request, "download") in text) == may
    answer = client_of(support).get(address(request, "download"))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/api/downloads/")
    assert Client().get(answer["Location"])["Location"].startswith(settings.S3_ENDPOINT_URL)
    assert "no-store" in answer["Cache-Control"]
    entry = ChangeLogEntry.objects.get(event="export.downloaded")
    assert (entry.actor, entry.request_id) == (f"user:{support.pk}", request.pk)
    assert viewer.get(address(request, "download")).status_code == 403
    assert client_of(support).get(address(request, "download", "7")).status_code == 404

    deletion_of(chatbot, VALUE, erase_exports=True)
    drain()
    assert client_of(support).get(address(request, "download")).status_code == 410
    assert address(request, "download") not in text_of(client_of(support), request)
    assert client_of(support).get(address(waiting(chatbot), "download")).status_code == 404


def test_a_file_in_a_clients_bucket_is_named_without_its_key(chatbot: Chatbot) -> None:
    now = timezone.now()
    done = export_of(chatbot, VALUE)
    ComplianceRequest.objects.filter(pk=done.pk).update(
        status="completed", result="done", completed_at=now, uci_value=None
    )
    factories.ExportFactory.create(
        request=done, hosting="client", bucket="theirs", key=VALUE, rows=1, bytes=2, sha256="f" * 64, finished_at=now
    )
    client = member(chatbot, Role.SUPPORT)
    text = text_of(client, done)
    assert "theirs" in text
    assert "It is the client&#x27;s: fetch it there." in text or "Download it there." in text
    assert VALUE not in text
    assert client.get(address(done, "download")).status_code == 409


def test_callbacks_are_shown_by_their_host_and_sent_again(chatbot: Chatbot) -> None:
    Chatbot.objects.update(callback_url="https://hooks.example.com/now")
    request = waiting(chatbot)
    callback = factories.CallbackFactory.create(request=request, given_up=True)
    support = member(chatbot, Role.SUPPORT)

    text = text_of(support, request)
    assert "https://hooks.example.com" in text
    assert "privacy-5813" not in text
    assert "The receiver did not answer" in text
    assert address(request, "resend") not in text_of(member(chatbot), request)
    assert decide(member(chatbot), request, "resend").status_code == 403
    assert decide(support, request, "resend").status_code == 302
    callback.refresh_from_db()
    assert callback.state == "waiting"


def test_the_progress_can_be_requested_separately(chatbot: Chatbot) -> None:
    client = member(chatbot)
    now = timezone.now()
    request = waiting(
        chatbot, status=Status.PROCESSING, started_at=now, cutoff_at=now, conversations=3, conversations_total=10
    )
    part = client.get(address(request, "progress")).text
    assert "3 of 10 conversations erased" in part
    assert 'data-at-rest="no"' in part
    assert "<html" not in part
    assert 'data-at-rest="yes"' in client.get(address(failed(chatbot), "progress")).text
    assert f'data-progress="{address(request, "progress")}"' in text_of(client, request)
    assert "data-progress" not in text_of(client, failed(chatbot))


def test_one_conversation_is_counted_as_one(chatbot: Chatbot) -> None:
    client = member(chatbot)
    request = completed(chatbot, conversations=1, conversations_total=1)
    counts: dict[str, Any] = {"conversations": 1, "messages": 1, "files": 2, "exports": 0}
    changelog.record("request.completed", chatbot_id=chatbot.pk, request_id=request.pk, actor="worker", data=counts)
    text = text_of(client, request)
    assert "1 of 1 conversation erased" in text
    assert "1 conversation, 1 message, 2 files." in text


def test_the_number_of_queries_is_constant_and_none_reads_the_chatter(chatbot: Chatbot) -> None:
    client = member(chatbot)
    few = completed(chatbot)
    changelog.record("request.accepted", chatbot_id=chatbot.pk, request_id=few.pk, actor="user:1")
    text_of(client, few)
    with CaptureQueriesContext(connection) as by_few:
        text_of(client, few)
    many = completed(chatbot)
    for number in range(30):
        actor = f"user:{staff(chatbot).pk}"
        entry = changelog.record("request.requeued", chatbot_id=chatbot.pk, request_id=many.pk, actor=actor)
        RequestNote.objects.create(chatbot=chatbot, request=many, entry_id=entry, text=f"note {number}")
        factories.CallbackFactory.create(request=many, occurred_at=timezone.now())
        conversation_of(chatbot, f"v{number}", deletion_request_id=many.pk)
    with CaptureQueriesContext(connection) as by_many:
        assert "note 29" in text_of(client, many)
    assert len(by_many) == len(by_few) <= 16
    read = [one["sql"].partition(" FROM ")[0] for one in [*by_few, *by_many]]
    assert not [one for one in read if re.search(r'"(uci_value|uci_digest|digest)"(?! IS NOT NULL)', one)]


def test_every_event_and_every_reason_has_a_label() -> None:
    about_requests = {event for event in changelog.VOCABULARY if event.startswith(("request.", "callback."))}
    # A test callback is about no request.
    about_requests -= {"callback.tested", "callback.test_ended"}
    assert EVENTS.keys() == about_requests | {"export.downloaded"}
    assert set(labels.SHORT_HOLDS) == set(ComplianceRequest.HoldReason)
    for event, (_, _, tell) in EVENTS.items():
        sentence = tell(dict.fromkeys(changelog.VOCABULARY[event], 1))
        assert "None" not in sentence


@pytest.mark.parametrize("decision", list(Decision))
def test_a_decision_keeps_its_reason_and_its_note(chatbot: Chatbot, decision: Decision) -> None:
    user = staff(chatbot, Role.OFFICER)
    client = client_of(user)
    make: Make = {"retry": failed, "cancel": waiting}.get(decision.value, held)
    if decision is Decision.LIMIT:
        conversation_of(chatbot, VALUE)
    request = held(chatbot, "legal_hold") if decision is Decision.LIMIT else make(chatbot)
    reason = REASONS[decision].choices[0]

    answer = decide(client, request, decision.value, reason[0], f"{VALUE} rang <b>twice</b>")

    assert (answer.status_code, answer["Location"]) == (302, address(request))
    entry = ChangeLogEntry.objects.get(request_id=request.pk)
    assert (entry.actor, entry.data) == (f"user:{user.pk}", {"reason": reason[0]})
    assert RequestNote.objects.get().text == f"{VALUE} rang <b>twice</b>"
    text = text_of(client, request)
    assert user.username in text
    assert "rang &lt;b&gt;twice&lt;/b&gt;" in text
    assert reason[1].replace("'", "&#x27;") in text

    RequestNote.objects.update(text=None)
    assert "The note was erased." in text_of(client, request)


def test_a_failed_export_that_is_cancelled_has_nothing_left_to_do(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    request = failed(chatbot)
    ComplianceRequest.objects.filter(pk=request.pk).update(kind="export")
    assert decide(client, request, "cancel", "withdrawn_by_person", "").status_code == 302
    text = text_of(client, request)
    assert "It was cancelled after it had failed." in text
    assert "What to do" not in text


def test_a_decision_without_a_reason_is_returned_with_the_input(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    request = held(chatbot)
    for reason, note, expected in (
        ("", "she rang", "Choose a reason."),
        ("try_again", "", "valid choice"),
        ("other", "x" * 1_001, "1000"),
    ):
        answer = decide(client, request, "reject", reason, note)
        assert answer.status_code == 400
        assert expected in answer.text
        assert note in answer.text
        assert "data-stays" in answer.text
        assert re.search(r'<textarea name="reject-note"[^>]* autocomplete="off"', answer.text)
    assert status_of(request) == Status.ON_HOLD


def test_a_refusal_of_the_operation_is_shown(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    for request, action, expected in (
        (waiting(chatbot), "approve", "not on hold"),
        (completed(chatbot), "cancel", "The request has begun or is already final."),
        (failed(chatbot, uci_value=None), "retry", "that still names its chatter can be retried"),
        (waiting(chatbot), "resend", "no callbacks on record"),
    ):
        before = request.status
        answer = decide(client, request, action)
        assert answer.status_code == 409
        assert expected in answer.text
        assert status_of(request) == before


def test_a_request_held_for_another_reason_meanwhile_is_not_approved(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.OFFICER)
    request = held(chatbot, "export_pending")
    shown = '<input type="hidden" name="approve-held_for" value="export_pending"'
    assert shown in text_of(client, request)
    seen = {"approve-reason": "other", "approve-held_for": "export_pending"}

    ComplianceRequest.objects.filter(pk=request.pk).update(hold_reason="too_many_conversations")
    answer = client.post(address(request, "approve"), seen)
    assert (answer.status_code, status_of(request)) == (409, Status.ON_HOLD)
    assert "It is held for another reason by now." in answer.text
    assert shown not in answer.text

    seen["approve-held_for"] = "too_many_conversations"
    assert client.post(address(request, "approve"), seen).status_code == 302
    assert status_of(request) == Status.ACCEPTED


def test_the_user_who_filed_sees_that_another_must_approve(chatbot: Chatbot) -> None:
    Chatbot.objects.update(four_eyes=True)
    filer = staff(chatbot, Role.OFFICER)
    request = held(chatbot, "awaiting_approval", filed_by=f"user:{filer.pk}")

    text = text_of(client_of(filer), request)
    assert "You filed this request." in text
    assert "An officer who did not file it must approve or reject it." in text
    assert offered(text) == {"reject", "cancel", "extend"}
    assert decide(client_of(filer), request, "approve").status_code == 409
    assert status_of(request) == Status.ON_HOLD

    another = member(chatbot, Role.OFFICER)
    assert "You filed this request." not in text_of(another, request)
    assert decide(another, request, "approve").status_code == 302
    assert status_of(request) == Status.ACCEPTED


def test_an_approver_sees_the_counts_and_not_the_chatter(chatbot: Chatbot) -> None:
    conversation_of(chatbot, VALUE, "another", messages=3)
    conversation_of(chatbot, VALUE, messages=4)
    by_ids = of_conversations(chatbot, "c-1", status="on_hold", hold_reason="export_pending", held_at=timezone.now())
    conversation_of(chatbot, "43", external_id="c-1", messages=1)
    for request, expected in (
        (
            held(chatbot),
            "2 conversations with 7 messages and 0 files would be erased now; other people took part in 1",
        ),
        (by_ids, "1 conversation with 1 message and 0 files would be erased now."),
    ):
        text = text_of(member(chatbot, Role.OFFICER), request)
        assert expected in text
        assert VALUE not in text
        assert "would be erased now" not in text_of(member(chatbot, Role.SUPPORT), request)
