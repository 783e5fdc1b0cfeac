"""The digest: one mail a day to each officer about what is overdue or due soon."""

import re
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from chatbots.models import Chatbot, Membership
from common.leases import Lease
from compliance.metrics.queries import mailboxes_failing
from compliance.models import ComplianceRequest, Mailbox
from compliance.notifications import delivery, digest, outbox
from compliance.notifications.digest import day_of
from compliance.requests import decisions
from tests.compliance.notifications.officers import DAY, VALUE, Role, an_hour_passes, failed, held, member
from tests.factories import deletion_of
from tests.mail_server import MailServer
from tests.patches import failing

pytestmark = pytest.mark.usefixtures("officer")


def due_in(chatbot: Chatbot, days: float, **fields: Any) -> ComplianceRequest:
    request = deletion_of(chatbot, VALUE, due_at=timezone.now() + days * DAY, reference="T-1", **fields)
    ComplianceRequest.objects.filter(pk=request.pk).update(received_at=timezone.now() - 30 * DAY)
    return request


def a_day_passes() -> None:
    """As if each digest were of the day before."""
    for mailbox in Mailbox.objects.exclude(digest_on=None):
        Mailbox.objects.filter(pk=mailbox.pk).update(
            digest_on=mailbox.digest_on - DAY, next_attempt_at=timezone.now()
        )


def delivered(server: MailServer) -> list[EmailMessage]:
    """Deliver all mails, and return the new ones."""
    before = len(server.mails)
    while delivery.deliver():
        pass
    return server.mails[before:]


def named(mail: EmailMessage) -> list[str]:
    return re.findall(r"\* Deletion (\S+),", mail.get_content())


def test_a_digest_lists_the_overdue_requests_first_without_personal_data(server, chatbot, neighbour) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(name="Acme\nsupport", timezone="Europe/Paris")
    soon, late, later = due_in(chatbot, 2), due_in(chatbot, -1), due_in(chatbot, -0.5)
    due_in(chatbot, 3.5)
    due_in(chatbot, -9, answered_at=timezone.now())
    deletion_of(chatbot, VALUE, due_at=timezone.now() + DAY)  # due soon from the start
    forgotten = failed(chatbot, due_at=timezone.now() - DAY)
    ComplianceRequest.objects.filter(pk=forgotten.pk).update(uci_value=None, failed_at=timezone.now() - 90 * DAY)
    decisions.cancel(request_id=due_in(chatbot, -1).pk, actor="command")
    due_in(neighbour, -1)

    [mail] = delivered(server)

    text = mail.get_content()
    assert named(mail) == [str(one.pk) for one in (late, later, soon)]
    assert mail["To"] == "ada@example.com"
    assert mail["Subject"] == "[Data Compliance] Due: 2 overdue, 1 due within 3 days"
    assert "Acme support: 2 overdue, 1 due within 3 days" in text
    assert f"https://console.example.com/admin/requests/{late.pk}/" in text
    assert "https://console.example.com/admin/due/" in text
    assert VALUE not in mail.as_string()
    assert "T-1" not in mail.as_string()


def test_there_is_one_a_day_and_none_if_nothing_is_due(server: MailServer, chatbot: Chatbot) -> None:
    assert delivered(server) == []
    request = due_in(chatbot, -1)
    assert delivered(server) == [], "Today's was not needed."
    a_day_passes()
    assert [named(mail) for mail in delivered(server)] == [[str(request.pk)]]
    an_hour_passes()
    due_in(chatbot, -2)
    assert delivered(server) == []
    a_day_passes()
    assert len(delivered(server)) == 1


def zones_of_one_date() -> tuple[str, str]:
    """Return two time zones of the same date: it is past five in the first, and past eight in the second."""
    ahead = (5 - timezone.now().hour + 12) % 24 - 12
    # In these names east is negative.
    return f"Etc/GMT{-ahead:+d}", f"Etc/GMT{-ahead - 3:+d}"


def test_it_is_sent_after_seven_in_the_zone_of_the_officers_first_chatbot(server, chatbot, neighbour) -> None:
    Membership.objects.create(chatbot=neighbour, user=User.objects.get(), role=Role.OFFICER)
    before_seven, after_seven = zones_of_one_date()
    Chatbot.objects.filter(pk=chatbot.pk).update(name="B", timezone=after_seven)
    Chatbot.objects.filter(pk=neighbour.pk).update(name="A", timezone=before_seven)
    ours, theirs = due_in(chatbot, -1), due_in(neighbour, -1)
    assert len(delivered(server)) == 1, "of the day that began yesterday"
    # It was sent yesterday, and it is not yet seven there.
    assert delivered(server) == []

    Chatbot.objects.filter(pk=neighbour.pk).update(timezone=after_seven)
    [mail] = delivered(server)

    assert named(mail) == [str(theirs.pk), str(ours.pk)], "by the chatbots' names"
    Membership.objects.filter(chatbot=neighbour).update(mails=False)
    a_day_passes()
    [mail] = delivered(server)
    assert named(mail) == [str(ours.pk)]


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (datetime(2027, 3, 28, 4, 59, 59, tzinfo=UTC), date(2027, 3, 27)),  # clocks went from 02:00 to 03:00
        (datetime(2027, 3, 28, 5, 0, tzinfo=UTC), date(2027, 3, 28)),
        (datetime(2027, 10, 31, 5, 59, 59, tzinfo=UTC), date(2027, 10, 30)),  # and from 03:00 to 02:00
        (datetime(2027, 10, 31, 6, 0, tzinfo=UTC), date(2027, 10, 31)),
    ],
)
def test_its_day_begins_at_seven_by_the_clocks(now: datetime, day: date) -> None:
    assert day_of(now, "Europe/Paris") == day


def test_each_officer_has_the_digest_of_their_chatbots(server, chatbot, neighbour) -> None:
    both = member(chatbot, "both")
    Membership.objects.create(chatbot=neighbour, user=both, role=Role.OFFICER)
    member(neighbour, "theirs")
    member(chatbot, "viewer", Role.VIEWER)
    ours, other = due_in(chatbot, -1), due_in(neighbour, 1)

    to = {mail["To"]: set(named(mail)) for mail in delivered(server)}

    assert to == {
        "ada@example.com": {str(ours.pk)},
        "both@example.com": {str(ours.pk), str(other.pk)},
        "theirs@example.com": {str(other.pk)},
    }


def test_a_long_digest_counts_the_rest(server: MailServer, chatbot: Chatbot, neighbour, monkeypatch) -> None:
    Membership.objects.create(chatbot=neighbour, user=User.objects.get(), role=Role.OFFICER)
    for _ in range(13):
        due_in(chatbot, -1)
    for days in (-1, 1):
        due_in(neighbour, days)
    monkeypatch.setattr(delivery, "MOST_CHATBOTS", 1)

    [mail] = delivered(server)

    text = mail.get_content()
    assert len(named(mail)) == 10
    assert "and 3 more. https://console.example.com/admin/due/?chatbot=acme" in text
    assert "and 1 more chatbot: 1 overdue, 1 due within 3 days." in text


def test_mails_about_failed_and_held_requests_stay_as_they_are(server: MailServer, chatbot: Chatbot) -> None:
    """The digest neither waits for the hour after such a mail, nor begins one."""
    held(chatbot)
    assert len(delivered(server)) == 1
    due_in(chatbot, -1)
    Mailbox.objects.update(digest_on=None)
    [mail] = delivered(server)
    assert "Due: 1 overdue" in mail["Subject"]
    failed(chatbot)
    assert delivered(server) == []
    an_hour_passes()
    assert len(delivered(server)) == 1
    an_hour_passes()
    a_day_passes()
    assert len(delivered(server)) == 1
    held(chatbot)
    assert len(delivered(server)) == 1


def test_a_failing_server_delays_the_digest(server: MailServer, chatbot: Chatbot) -> None:
    due_in(chatbot, -1)
    server.refuses.add("ada@example.com")
    for _ in range(2):  # the second time it waits
        assert delivered(server) == []
    box = Mailbox.objects.get()
    assert (box.attempts, box.digest_on, box.last_error, mailboxes_failing()) == (1, None, "recipient_refused", 1)

    server.refuses.clear()
    an_hour_passes()
    assert len(delivered(server)) == 1
    an_hour_passes()
    assert delivered(server) == []
    assert mailboxes_failing() == 0


def test_two_workers_send_one_digest(server: MailServer, chatbot: Chatbot) -> None:
    due_in(chatbot, -1)
    outbox.create_notices()
    taken = digest.take()
    assert taken is not None
    assert delivered(server) == [], "Another worker has it."
    outbox.record_delivered(taken, mailed=True)
    an_hour_passes()
    assert delivered(server) == []


@pytest.mark.parametrize(("is_sent", "mails"), [(False, 1), (True, 2)])
def test_the_digest_of_a_killed_worker_is_sent_by_another(server, chatbot, monkeypatch, *, is_sent, mails) -> None:
    """If the server had accepted it just before, both copies have the same id."""
    due_in(chatbot, -1)
    where = (Lease, "release") if is_sent else (delivery, "_compose")
    with monkeypatch.context() as patch:
        patch.setattr(*where, failing(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            delivery.deliver()
    assert delivered(server) == [], "It has the lease."

    Mailbox.objects.update(next_attempt_at=timezone.now() - timedelta(seconds=1))
    delivered(server)
    an_hour_passes()
    delivered(server)

    assert len(server.mails) == mails
    assert len({mail["Message-ID"] for mail in server.mails}) == 1
