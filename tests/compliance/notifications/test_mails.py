"""Mails to officers: events are notified once, and failed mails are sent again."""

import logging
import socket
import time

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from django_q.models import OrmQ
from pytest_django import Settings

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from chatbots.operations.chatbots import set_mails
from compliance import holds as legal_holds
from compliance import tasks
from compliance.models import ComplianceRequest, LegalHold, Mailbox, Notice
from compliance.notifications import delivery, outbox
from compliance.requests import decisions
from tests import hostile
from tests.compliance.notifications.officers import DAY, VALUE, Role, an_hour_passes, failed, held, member
from tests.factories import deletion_of
from tests.holding import place, release
from tests.hostile import Behaviour, Hostile, behaving
from tests.mail_server import MailServer


def drips_after_starttls(server: Hostile, connection: socket.socket) -> None:
    for answer in (b"220 test\r\n", b"250-test\r\n250 STARTTLS\r\n", b"220 go on\r\n"):
        connection.sendall(answer)
        connection.recv(1000)
    hostile.drips_a_handshake(server, connection)


def test_an_officer_is_notified_of_each_event_once_without_personal_data(server, officer, chatbot) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(name="Acme\nsupport", timezone="Europe/Paris")
    late = deletion_of(chatbot, VALUE, due_at=timezone.now() - DAY)  # in the digest
    found = [failed(chatbot, reference="T-1"), held(chatbot)]

    assert not delivery.deliver()
    an_hour_passes()
    assert not delivery.deliver()

    [mail, _] = server.mails
    text = mail.get_content()
    places = [text.index(str(request.pk)) for request in found]
    assert places == sorted(places), "the worst first"
    assert str(late.pk) not in text
    assert mail["To"] == "ada@example.com"
    assert mail["Subject"] == "[Data Compliance] 2 requests need you: 1 failed, 1 on hold"
    assert "Failed: storage_unavailable" in text
    assert "On hold: More conversations than the chatbot's guard allows" in text
    assert "chatbot Acme support" in text
    assert "(Europe/Paris)" in text
    assert f"https://console.example.com/admin/requests/{found[0].pk}/" in text
    assert VALUE not in mail.as_string()
    assert "T-1" not in mail.as_string()
    assert Notice.objects.count() == 2


def test_notices_of_an_older_version_about_deadlines_are_passed_over(server, officer, chatbot) -> None:
    due = timezone.now() + 20 * DAY
    request = deletion_of(chatbot, VALUE, due_at=due)
    for event in (Notice.Event.DUE_SOON, Notice.Event.OVERDUE):
        Notice.objects.create(chatbot=chatbot, request=request, event=event, occurred_at=due)

    assert not delivery.deliver()

    assert server.mails == []
    assert Mailbox.objects.get().last_notified_id == Notice.objects.latest("pk").pk


def test_a_second_failure_after_a_retry_is_notified_again(server, officer, chatbot) -> None:
    request = failed(chatbot)
    delivery.deliver()
    decisions.retry(request_id=request.pk, actor="command")
    ComplianceRequest.objects.filter(pk=request.pk).update(
        status="failed", failed_at=timezone.now(), error_code="internal_error"
    )

    an_hour_passes()
    delivery.deliver()

    assert ["internal_error" in mail.get_content() for mail in server.mails] == [False, True]


def test_an_event_resolved_before_the_mail_is_not_notified(server, officer, chatbot) -> None:
    request = held(chatbot)
    outbox.create_notices()
    decisions.approve(request_id=request.pk, actor="command")

    delivery.deliver()

    assert server.mails == []
    assert Mailbox.objects.get().last_notified_id == Notice.objects.get().pk


def test_a_mail_lists_fifty_events_counts_the_rest_and_the_next_waits_an_hour(server, officer, chatbot, settings):
    settings.CONSOLE_URL = ""
    requests = [held(chatbot) for _ in range(53)]
    delivery.deliver()
    held(chatbot)
    delivery.deliver()

    [mail] = server.mails
    text = mail.get_content()
    assert text.count("* Deletion ") == 50
    assert "and 3 more." in text
    assert "http" not in text
    assert str(requests[0].pk) in text

    an_hour_passes()
    delivery.deliver()
    assert server.mails[1]["Subject"].startswith("[Data Compliance] 1 request needs you: 1 on hold")


def test_mails_go_to_active_officers_who_want_them(server: MailServer, chatbot: Chatbot, neighbour: Chatbot) -> None:
    both = member(chatbot, "both")
    Membership.objects.create(chatbot=neighbour, user=both, role=Role.OFFICER)
    member(chatbot, "viewer", Role.VIEWER)
    member(chatbot, "support", Role.SUPPORT)
    member(chatbot, "gone", is_active=False)
    member(chatbot, "former", is_staff=False)
    member(chatbot, "silent", email="")
    theirs = member(neighbour, "theirs")
    quiet = member(chatbot, "quiet")
    set_mails(user=quiet, wanted={chatbot.pk: False, neighbour.pk: False}, actor="user:1")
    set_mails(user=both, wanted={neighbour.pk: False}, actor="user:1")
    ours, other = failed(chatbot), failed(neighbour)

    while delivery.deliver():
        pass

    assert {mail["To"] for mail in server.mails} == {"both@example.com", "theirs@example.com"}
    [to_both] = server.to("both@example.com")
    assert str(ours.pk) in to_both.get_content()
    assert str(other.pk) not in to_both.get_content()
    set_mails(user=theirs, wanted={neighbour.pk: True}, actor="user:1")  # as it was
    entries = ChangeLogEntry.objects.filter(event="membership.mails_set").order_by("id")
    assert [(one.chatbot_id, one.data) for one in entries] == [
        (chatbot.pk, {"user": quiet.pk, "wanted": False}),
        (neighbour.pk, {"user": both.pk, "wanted": False}),
    ]


def test_a_refused_address_does_not_stop_others_and_is_not_logged(server, chatbot, caplog) -> None:
    refused, taken = member(chatbot, "refused"), member(chatbot, "taken")
    server.refuses.add("refused@example.com")
    failed(chatbot)

    with caplog.at_level(logging.INFO):
        delivery.deliver()
        delivery.deliver()

    assert [mail["To"] for mail in server.mails] == ["taken@example.com"]
    box = Mailbox.objects.get(user=refused)
    assert (box.last_error, box.attempts, box.last_notified_id, box.token) == ("recipient_refused", 1, 0, None)
    assert Mailbox.objects.get(user=taken).attempts == 0
    assert f"mail.failed user={refused.pk} code=recipient_refused" in caplog.text
    assert "@" not in caplog.text

    server.refuses.clear()
    an_hour_passes()
    delivery.deliver()
    assert len(server.to("refused@example.com")) == 1
    assert Mailbox.objects.get(user=refused).last_error == ""


def test_a_silent_mail_server_costs_one_timeout(server, chatbot, monkeypatch) -> None:
    server.silent = True
    monkeypatch.setattr("common.outbound.MAIL_SECONDS", 0.5)
    member(chatbot, "ada")
    member(chatbot, "grace")
    failed(chatbot)

    assert not delivery.deliver()

    assert server.connections == 1
    assert sorted(Mailbox.objects.values_list("last_error", flat=True)) == ["", "no_answer"]


@pytest.mark.long(reason="waits for the limit of time with each behaviour", beyond=1)
@pytest.mark.parametrize(
    ("behave", "tls", "error"),
    [
        (lambda server, connection: server.drip(connection, b"220-wait\r\n"), None, "no_answer"),
        (lambda server, connection: server.drip(connection, b"2"), None, "no_answer"),
        (lambda server, connection: server.flood(connection, b"220-wait\r\n" * 1000), None, "bad_answer"),
        (hostile.drips_a_handshake, "ssl", "no_answer"),
        (drips_after_starttls, "tls", "no_answer"),
    ],
)
def test_sending_a_mail_ends_in_time_whatever_the_server_does(
    *,
    server: MailServer,
    officer: User,
    chatbot: Chatbot,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    behave: Behaviour,
    tls: str | None,
    error: str,
) -> None:
    monkeypatch.setattr("common.outbound.MAIL_SECONDS", 0.5)
    settings.EMAIL_USE_SSL, settings.EMAIL_USE_TLS = tls == "ssl", tls == "tls"
    failed(chatbot)
    with behaving(behave) as theirs:
        settings.EMAIL_PORT = theirs.port
        began = time.monotonic()
        assert not delivery.deliver()
        assert time.monotonic() - began < 8
    assert Mailbox.objects.get().last_error == error


def test_an_officer_whose_mail_is_being_sent_gets_no_second_one(server, officer, chatbot) -> None:
    failed(chatbot)
    outbox.create_notices()

    mail = outbox.take()

    assert outbox.take() is None
    Mailbox.objects.update(next_attempt_at=timezone.now())  # as when the worker was killed
    again = outbox.take()
    outbox.record_delivered(mail, mailed=True)
    assert Mailbox.objects.get().last_notified_id == 0, "it has another's token"
    outbox.record_delivered(again, mailed=True)
    assert Mailbox.objects.get().last_notified_id == again.last_notice_id


def test_each_review_of_a_legal_hold_is_notified_once_until_the_hold_is_released(server, officer, chatbot) -> None:
    now = timezone.now()
    ages = {"due": 1, "long ago": 8, "later": -5, "released": 2, "reviewed": 1}
    holds = {name: place(chatbot, VALUE, matter=f"M-{days}-{name[0]}")[0] for name, days in ages.items()}
    for name, days in ages.items():
        LegalHold.objects.filter(pk=holds[name].pk).update(review_at=now - days * DAY)
    outbox.create_notices()
    release(holds["released"])
    review = {"chatbot": chatbot, "hold_id": holds["reviewed"].pk, "review_at": now + 5 * DAY, "actor": "user:1"}
    legal_holds.review(**review)

    delivery.deliver()
    an_hour_passes()
    delivery.deliver()

    [mail] = server.mails
    text = mail.get_content()
    assert mail["Subject"] == "[Data Compliance] 1 legal hold to review"
    assert [name for name, hold in holds.items() if str(hold.pk) in text] == ["due"]
    assert f"https://console.example.com/admin/holds/{holds['due'].pk}/" in text
    assert VALUE not in mail.as_string()
    assert "M-1" not in mail.as_string()

    LegalHold.objects.filter(pk=holds["reviewed"].pk).update(review_at=now - DAY / 2)
    failed(chatbot)
    an_hour_passes()
    delivery.deliver()
    assert server.mails[1]["Subject"] == "[Data Compliance] 1 request needs you: 1 failed; 1 legal hold to review"


def test_the_sweep_enqueues_mails_if_a_server_is_configured(server, officer, chatbot, settings, storage) -> None:
    held(chatbot)
    settings.MAILS = False
    tasks.sweep()
    assert not OrmQ.objects.filter(payload="send_mails").exists()
    tasks.send_mails()
    assert not Notice.objects.exists()

    settings.MAILS = True
    tasks.sweep()
    tasks.sweep()

    # A thread of the sweep may have enqueued a task, too.
    assert OrmQ.objects.filter(payload="send_mails").count() == 1
    tasks.send_mails()
    assert len(server.mails) == 1
    Notice.objects.update(created_at=timezone.now() - 31 * DAY)
    ComplianceRequest.objects.update(held_at=timezone.now() - 31 * DAY)
    outbox.create_notices()
    assert not Notice.objects.exists(), "old notices go"
