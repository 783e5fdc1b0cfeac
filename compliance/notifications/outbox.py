"""Create notices for officers, lease the next officer with unsent ones, and record the outcome of the mail."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from chatbots.models import Membership
from common import leases
from common.db import execute, lock_until_commit
from compliance.models import Mailbox, Notice
from compliance.models.requests import ComplianceRequest

Event = Notice.Event
Status = ComplianceRequest.Status

# The number of items in one mail; further ones are counted, up to a limit.
MOST_ITEMS = 50
MOST_COUNTED = 1_000

# The interval between two mails to one officer.
_PAUSE = timedelta(hours=1)
_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)

# Notices of a request that has not been retried, approved or completed since.
_IS_CURRENT = Q(event=Event.FAILED, request__status=Status.FAILED, request__failed_at=F("occurred_at")) | Q(
    event=Event.ON_HOLD, request__status=Status.ON_HOLD, request__held_at=F("occurred_at")
)


# Older events get no notice.
_NEW_FOR = timedelta(days=7)
# Longer than that: a deleted notice must not be created again.
_KEPT_FOR = timedelta(days=30)
_MOST_AT_ONCE = 1_000

# By the index of requests that are not completed, whose condition is in each part. Searched anew each time, so that
# late commits are not missed.
_CREATE = """
INSERT INTO compliance_notice (chatbot_id, request_id, event, occurred_at)
SELECT chatbot.id, new.id, new.event, new.occurred_at
  FROM unnest(%(chatbots)s::bigint[]) AS chatbot(id)
 CROSS JOIN LATERAL (
    SELECT r.id, r.event, r.occurred_at
      FROM unnest(ARRAY['failed', 'on_hold']) AS open(status)
     CROSS JOIN LATERAL (
        SELECT id, status AS event, CASE status WHEN 'failed' THEN failed_at ELSE held_at END AS occurred_at
          FROM compliance_compliancerequest
         WHERE chatbot_id = chatbot.id AND chatbot_id > 0 AND NOT (status = 'completed') AND status = open.status
     ) AS r
     WHERE r.occurred_at > statement_timestamp() - make_interval(secs => %(new)s)
       AND NOT EXISTS (
           SELECT FROM compliance_notice n
            WHERE n.request_id = r.id AND n.event = r.event AND n.occurred_at = r.occurred_at)
     LIMIT %(most)s
 ) AS new
 ORDER BY new.occurred_at, new.id
ON CONFLICT DO NOTHING
"""

# One for each review of a hold.
_CREATE_FOR_HOLDS = """
INSERT INTO compliance_notice (chatbot_id, hold_id, event, occurred_at)
SELECT h.chatbot_id, h.id, 'review', h.review_at
  FROM compliance_legalhold h
 WHERE h.chatbot_id = ANY(%(chatbots)s::bigint[]) AND h.released_at IS NULL
   AND h.review_at <= statement_timestamp()
   AND h.review_at > statement_timestamp() - make_interval(secs => %(new)s)
   AND NOT EXISTS (SELECT FROM compliance_notice n WHERE n.hold_id = h.id AND n.occurred_at = h.review_at)
 ORDER BY h.review_at, h.id LIMIT %(most)s
ON CONFLICT DO NOTHING
"""

# One worker at a time, so that notices become visible in their order.
_LOCK = 0x6463_6D66  # "dcmf"


@dataclass(frozen=True)
class MailItem:
    """An event of a request, and the request as it is now."""

    event: str
    request_id: UUID
    kind: str
    status: str
    hold_reason: str | None
    error_code: str
    due_at: datetime
    chatbot: str
    timezone: str
    slug: str


@dataclass(frozen=True)
class HoldItem:
    """A legal hold whose review is due."""

    hold_id: UUID
    review_at: datetime
    chatbot: str
    timezone: str


@dataclass(frozen=True)
class OfficerMail:
    """A mail to be sent: of notices up to `last_notice_id`, or the digest of the day `digest_on`.

    `items` of notices are at most MOST_COUNTED + 1, the worst first. `holds`: those whose review is due, at most
    MOST_ITEMS. There are none of both if no mail is needed.
    """

    mailbox: Mailbox
    address: str
    items: Sequence[MailItem]
    last_notice_id: int | None = None
    digest_on: date | None = None
    holds: Sequence[HoldItem] = ()


def officers() -> QuerySet[Membership]:
    """Return the memberships of officers who get mails."""
    return Membership.objects.filter(
        role=Membership.Role.OFFICER, mails=True, user__is_active=True, user__is_staff=True
    ).exclude(user__email="")


def with_unsent_notices() -> QuerySet[Mailbox]:
    """Return the mailboxes of officers who have notices that were not mailed yet."""
    of_mailbox = officers().filter(user=OuterRef(OuterRef("user_id"))).values("chatbot")
    unsent = Notice.objects.filter(chatbot__in=of_mailbox, pk__gt=OuterRef("last_notified_id"))
    return Mailbox.objects.filter(Exists(unsent))


def create_notices() -> int:
    """Create the notices that are missing, and return how many. Bounded, and safe to repeat. Deletes old ones."""
    with transaction.atomic():
        lock_until_commit(_LOCK)
        oldest = Notice.objects.order_by("pk").values_list("pk", "created_at")[:_MOST_AT_ONCE]
        Notice.objects.filter(pk__in=[pk for pk, _ in oldest], created_at__lt=Now() - _KEPT_FOR).delete()
        Mailbox.objects.bulk_create(
            [Mailbox(user_id=user) for user in officers().values_list("user", flat=True).distinct()],
            ignore_conflicts=True,
        )
        chatbots = list(officers().values_list("chatbot", flat=True).distinct())
        values = {"chatbots": chatbots, "new": _NEW_FOR.total_seconds(), "most": _MOST_AT_ONCE}
        return execute(_CREATE, values) + execute(_CREATE_FOR_HOLDS, values)


def take() -> OfficerMail | None:
    """Lease the mail to the next officer who has unsent notices; None if there is none."""
    mailbox = leases.take(with_unsent_notices().order_by("next_attempt_at", "user_id"))
    if mailbox is None:
        return None
    memberships = list(officers().filter(user=mailbox.user_id).values_list("user__email", "chatbot"))
    notices = Notice.objects.filter(chatbot__in=[chatbot for _, chatbot in memberships])
    last = notices.aggregate(last=Max("pk"))["last"] or 0
    unsent = notices.filter(pk__gt=mailbox.last_notified_id, pk__lte=last)
    return OfficerMail(
        mailbox=mailbox,
        address=memberships[0][0] if memberships else "",
        last_notice_id=last,
        items=_current_items(unsent),
        holds=_current_holds(unsent),
    )


def record_delivered(mail: OfficerMail, *, mailed: bool) -> None:
    """Record that a mail was sent, or was not needed. After a mail, the next one about notices waits for an hour."""
    recorded: dict[str, Any] = {"last_error": "", "attempts": 0} | ({"mailed_at": Now()} if mailed else {})
    if mail.digest_on is not None:
        # It neither waited for the end of such an hour nor begins one.
        left = max(timedelta(), mail.mailbox.next_attempt_at - timezone.now())
        mail.mailbox.release(wait=left, digest_on=mail.digest_on, **recorded)
    else:
        pause = _PAUSE if mailed else timedelta()
        mail.mailbox.release(wait=pause, last_notified_id=mail.last_notice_id, **recorded)


def record_failure(mail: OfficerMail, *, error: str) -> None:
    """Record that a mail could not be sent: its notices are in a later one."""
    wait = leases.back_off(mail.mailbox.attempts, first=_FIRST_WAIT, longest=_LONGEST_WAIT)
    mail.mailbox.release(wait=wait, last_error=error, attempts=F("attempts") + 1)


def _current_items(notices: QuerySet[Notice]) -> list[MailItem]:
    # The worst first: by name, those that failed come before those on hold.
    rows = (
        notices.filter(_IS_CURRENT)
        .order_by("event", "pk")
        .values_list(
            *("event", "request_id", "request__kind", "request__status", "request__hold_reason"),
            *("request__error_code", "request__due_at"),
            *("chatbot__name", "chatbot__timezone", "chatbot__slug"),
        )
    )
    return [MailItem(*row) for row in rows[: MOST_COUNTED + 1]]


def _current_holds(notices: QuerySet[Notice]) -> list[HoldItem]:
    rows = (
        notices.filter(event=Event.REVIEW, hold__released_at=None, hold__review_at=F("occurred_at"))
        .order_by("pk")
        .values_list("hold_id", "hold__review_at", "chatbot__name", "chatbot__timezone")
    )
    return [HoldItem(*row) for row in rows[:MOST_ITEMS]]
