"""The digest: one mail a day to each officer, about the requests that are overdue or due soon.

An officer's day begins at BEGINS_AT in the time zone of their first chatbot by name, among those for which they get
mails. The first turn of that day takes the mailbox, and records the day with the outcome: no worker takes it again
before the next one. If the mail cannot be sent, it is tried again until the next day begins.
"""

from collections import defaultdict
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from chatbots.models import Chatbot
from common import leases
from compliance.models import Mailbox, Notice
from compliance.notifications.outbox import MailItem, OfficerMail, officers
from compliance.work.due import by_deadline

BEGINS_AT = time(7)


def without_digest() -> QuerySet[Mailbox]:
    """Return the mailboxes of officers who have not got the digest of their day."""
    return _without_digest(_days())


def take() -> OfficerMail | None:
    """Lease the mailbox of the next officer without the digest of the day; None if there is none.

    Its `items` are empty if nothing is due.
    """
    days = _days()
    # Not after the pause between two mails, but after the wait that a failed attempt demands.
    is_ready = Q(attempts=0) | Q(next_attempt_at__lte=Now())
    mailbox = leases.take(_without_digest(days).filter(is_ready).order_by("user_id"), at_any_time=True)
    if mailbox is None:
        return None
    memberships = list(officers().filter(user=mailbox.user_id).values_list("user__email", "chatbot"))
    return OfficerMail(
        mailbox=mailbox,
        address=memberships[0][0] if memberships else "",
        items=_items([chatbot for _, chatbot in memberships]),
        digest_on=days[mailbox.user_id],
    )


def day_of(now: datetime, zone: str) -> date:
    """Return the day of digests, which begins at BEGINS_AT by the clocks of the zone."""
    local = now.astimezone(ZoneInfo(zone))
    return local.date() if local.time() >= BEGINS_AT else local.date() - timedelta(days=1)


def _days() -> dict[int, date]:
    """Return the present day of each officer. Not in SQL: PostgreSQL may lack some of our time zones."""
    days: dict[int, date] = {}
    by_name = officers().order_by("chatbot__name", "pk").values_list("user", "chatbot__timezone", Now())
    for user, zone, now in by_name:
        days.setdefault(user, day_of(now, zone))
    return days


def _without_digest(days: dict[int, date]) -> QuerySet[Mailbox]:
    users: dict[date, list[int]] = defaultdict(list)
    for user, day in days.items():
        users[day].append(user)
    is_missing = Q(pk__in=[])
    for day, of_day in users.items():
        is_missing |= Q(user__in=of_day) & (Q(digest_on=None) | Q(digest_on__lt=day))
    return Mailbox.objects.filter(is_missing)


def _items(chatbots: list[int]) -> list[MailItem]:
    """Return what is overdue or due soon, by chatbot, and in each by deadline: the overdue ones come first."""
    # Those that wait for an operator's decision after a restore are not shown in the console either.
    found = Chatbot.objects.filter(pk__in=chatbots, closed_at=None).order_by("name", "slug")
    places = {chatbot.pk: (place, chatbot) for place, chatbot in enumerate(found)}
    due = [one for one in by_deadline(list(places)).requests if one.is_overdue or one.is_soon]
    return [
        MailItem(
            event=Notice.Event.OVERDUE if one.is_overdue else Notice.Event.DUE_SOON,
            request_id=one.id,
            kind=one.kind,
            status=one.status,
            hold_reason=one.hold_reason,
            error_code=one.error_code,
            due_at=one.due_at,
            chatbot=chatbot.name,
            timezone=chatbot.timezone,
            slug=chatbot.slug,
        )
        for one in sorted(due, key=lambda one: places[one.chatbot_id][0])
        for chatbot in [places[one.chatbot_id][1]]
    ]
