"""The text of a mail to an officer. It names requests by their ids, and no person."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.mail import EmailMessage

from compliance.deadlines import DUE_SOON_WITHIN
from compliance.models import ComplianceRequest, Notice
from compliance.notifications.outbox import MOST_COUNTED, MOST_ITEMS, MailItem, OfficerMail

_TITLES = {
    Notice.Event.OVERDUE: "Overdue",
    Notice.Event.FAILED: "Failed",
    Notice.Event.ON_HOLD: "On hold: needs a decision",
    Notice.Event.DUE_SOON: f"Due within {DUE_SOON_WITHIN.days} days",
}


def compose(mail: OfficerMail) -> EmailMessage:
    """Return the mail with an officer's new notices. Plain text; no link without CONSOLE_URL."""
    return EmailMessage(
        subject=_subject(mail.items),
        body="\n".join(_lines(mail.items)),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[mail.address],
        # Keeps auto-responders from replying.
        headers={"Auto-Submitted": "auto-generated"},
    )


def _subject(items: Sequence[MailItem]) -> str:
    number = len({item.request_id for item in items})
    many = f"More than {MOST_COUNTED:,} requests need you" if len(items) > MOST_COUNTED else _counted(number)
    events = Counter(item.event for item in items[:MOST_COUNTED])
    events_text = ", ".join(f"{count:,} {event.label.lower()}" for event in _TITLES if (count := events[event]))
    return f"[Data Compliance] {many}: {events_text}"


def _counted(number: int) -> str:
    return "1 request needs you" if number == 1 else f"{number:,} requests need you"


def _lines(items: Sequence[MailItem]) -> Iterator[str]:
    for event, group in groupby(items[:MOST_ITEMS], key=lambda item: Notice.Event(item.event)):
        yield _TITLES[event]
        yield ""
        for item in group:
            yield from _about(item)
    if left := len(items) - MOST_ITEMS if len(items) > MOST_ITEMS else 0:
        counted = f"and {left:,} more" if len(items) <= MOST_COUNTED else f"and more than {left - 1:,} more"
        yield f"{counted}." + _link("/admin/requests/", " All of them: ")
        yield ""
    yield "You get this as an officer of these chatbots, at most once an hour."
    yield "Switch such mails off in the console, under Mails." + _link("/admin/mails/", " ")


def _about(item: MailItem) -> Iterator[str]:
    kind = ComplianceRequest.Kind(item.kind).label
    due = item.due_at.astimezone(ZoneInfo(item.timezone))
    yield f"* {kind} {item.request_id}, chatbot {' '.join(item.chatbot.split())}"
    yield f"  {_state(item)}"
    yield f"  Due {due:%Y-%m-%d %H:%M} ({item.timezone})"
    if link := _link(f"/admin/requests/{item.request_id}/", ""):
        yield f"  {link}"
    yield ""


def _state(item: MailItem) -> str:
    state = ComplianceRequest.Status(item.status).label
    if item.status == ComplianceRequest.Status.ON_HOLD and item.hold_reason:
        return f"{state}: {ComplianceRequest.HoldReason(item.hold_reason).label}"
    return f"{state}: {item.error_code}" if item.status == ComplianceRequest.Status.FAILED else state


def _link(path: str, before: str) -> str:
    return f"{before}{settings.CONSOLE_URL}{path}" if settings.CONSOLE_URL else ""
