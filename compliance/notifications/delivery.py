"""Write mails to officers and send them: outside transactions, with time limits.

Notices that cannot be sent are in a later mail. A mail contains ids of requests, and no person.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date
from email.utils import parseaddr
from itertools import chain, groupby
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend

from common import crypto, outbound
from common.texts import counted
from compliance.deadlines import DUE_SOON_WITHIN
from compliance.models import ComplianceRequest, Notice
from compliance.notifications import digest, outbox
from compliance.notifications.outbox import MOST_COUNTED, MOST_ITEMS, HoldItem, MailItem, OfficerMail
from compliance.work.due import describe_state
from compliance.work.sql import is_open

logger = logging.getLogger(__name__)

_SWITCHED_OFF = "Switch such mails off in the console, under Notifications."
# No further mail is begun later in a turn.
TURN_SECONDS = 20.0
_BYE_SECONDS = 2.0

_TITLES = {
    Notice.Event.FAILED: "Failed",
    Notice.Event.ON_HOLD: "On hold: needs a decision",
}
_DIGEST_TITLES = {
    Notice.Event.OVERDUE: "overdue",
    Notice.Event.DUE_SOON: f"due within {DUE_SOON_WITHIN.days} days",
}
# Of a digest: chatbots, and requests of each. Others are counted.
MOST_CHATBOTS = 20
MOST_OF_CHATBOT = 10


def deliver(*, seconds: float = TURN_SECONDS) -> bool:
    """Create notices, and send the mails of notices and the digests that are due; return whether some may be left.

    Does nothing without a mail server. A mail is sent twice only if its worker is killed before it records that.
    """
    if not settings.MAILS:
        return False
    outbox.create_notices()
    end = time.monotonic() + seconds
    server = get_connection()
    try:
        while time.monotonic() < end and is_open():
            mail = outbox.take() or digest.take()
            if mail is None:
                return False
            if not _send(mail, server):
                # The server is down, or as slow for others: they are tried in the next turn.
                return False
    finally:
        _close(server)
    return True


def _send(mail: OfficerMail, server: BaseEmailBackend) -> bool:
    """Send one mail; return whether the server can be used for others."""
    if not ((mail.items or mail.holds) and mail.address):
        outbox.record_delivered(mail, mailed=False)
        return True
    try:
        with outbound.within(outbound.MAIL_SECONDS, answer_bytes=outbound.MAIL_ANSWER_BYTES):
            server.open()
            server.send_messages([_compose(mail)])
    except (OSError, ValueError) as error:  # those of smtplib are OSError
        code = outbound.mail_failure(error)
        # Without the text and the arguments: both contain addresses.
        logger.warning(
            "mail.failed user=%s code=%s status=%s", mail.mailbox.pk, code, getattr(error, "smtp_code", "")
        )
        outbox.record_failure(mail, error=code)
        _close(server)
        return code in {"recipient_refused", "mail_refused"}
    outbox.record_delivered(mail, mailed=True)
    logger.info("mail.sent user=%s requests=%s holds=%s", mail.mailbox.pk, len(mail.items), len(mail.holds))
    return True


def _close(server: BaseEmailBackend) -> None:
    with suppress(OSError), outbound.within(_BYE_SECONDS):
        server.close()


def _compose(mail: OfficerMail) -> EmailMessage:
    """Return the mail with an officer's new notices, or the digest. Plain text; no link without CONSOLE_URL."""
    # Keeps auto-responders from replying.
    headers = {"Auto-Submitted": "auto-generated"}
    if mail.digest_on is not None:
        headers["Message-ID"] = _message_id(mail.mailbox.pk, mail.digest_on)
        subject, lines = f"[Data Compliance] Due: {_digest_counts(mail.items)}", _digest_lines(mail.items)
    else:
        subject, lines = _subject(mail), _lines(mail)
    return EmailMessage(
        subject=subject,
        body="\n".join(lines),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[mail.address],
        headers=headers,
    )


def _message_id(user: int, day: date) -> str:
    """Return the same id for each attempt of a digest, so that a mail system can drop a repeated one."""
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    return f"<{crypto.digest('staff', user, f'digest:{day}').hex()}@{domain or 'localhost'}>"


def _digest_counts(items: Iterable[MailItem]) -> str:
    events = Counter(item.event for item in items)
    return ", ".join(f"{events[event]:,} {words}" for event, words in _DIGEST_TITLES.items() if events[event])


def _digest_lines(items: Sequence[MailItem]) -> Iterator[str]:
    by_chatbot = [list(group) for _, group in groupby(items, key=lambda item: item.slug)]
    for group in by_chatbot[:MOST_CHATBOTS]:
        yield f"{' '.join(group[0].chatbot.split())}: {_digest_counts(group)}"
        yield ""
        for item in group[:MOST_OF_CHATBOT]:
            yield from _about(item)
        if len(group) > MOST_OF_CHATBOT:
            yield f"and {len(group) - MOST_OF_CHATBOT:,} more." + _link(f"/admin/due/?chatbot={group[0].slug}", " ")
            yield ""
    if left := by_chatbot[MOST_CHATBOTS:]:
        yield f"and {counted(len(left), 'more chatbot')}: {_digest_counts(chain.from_iterable(left))}."
        yield ""
    if settings.CONSOLE_URL:
        yield _link("/admin/due/", "All of them, by week: ")
        yield ""
    yield f"You get this once a day, after {digest.BEGINS_AT:%H:%M}, as an officer of these chatbots."
    yield _SWITCHED_OFF + _link("/admin/mails/", " ")


def _subject(mail: OfficerMail) -> str:
    parts = [_about_requests(mail.items)] if mail.items else []
    if mail.holds:
        parts.append(f"{counted(len(mail.holds), 'legal hold')} to review")
    return f"[Data Compliance] {'; '.join(parts)}"


def _about_requests(items: Sequence[MailItem]) -> str:
    number = len({item.request_id for item in items})
    need = "1 request needs you" if number == 1 else f"{number:,} requests need you"
    many = f"More than {MOST_COUNTED:,} requests need you" if len(items) > MOST_COUNTED else need
    events = Counter(item.event for item in items[:MOST_COUNTED])
    events_text = ", ".join(f"{count:,} {event.label.lower()}" for event in _TITLES if (count := events[event]))
    return f"{many}: {events_text}"


def _lines(mail: OfficerMail) -> Iterator[str]:
    items = mail.items
    for event, group in groupby(items[:MOST_ITEMS], key=lambda item: Notice.Event(item.event)):
        yield _TITLES[event]
        yield ""
        for item in group:
            yield from _about(item)
    left = len(items) - MOST_ITEMS
    if left > 0:
        rest = f"and {left:,} more" if len(items) <= MOST_COUNTED else f"and more than {left - 1:,} more"
        yield f"{rest}." + _link("/admin/requests/", " All of them: ")
        yield ""
    if mail.holds:
        yield from ("Legal holds to review: each stays in force until it is released", "")
        for hold in mail.holds:
            yield from _about_hold(hold)
    yield "You get this as an officer of these chatbots, at most once an hour."
    yield _SWITCHED_OFF + _link("/admin/mails/", " ")


def _about(item: MailItem) -> Iterator[str]:
    kind = ComplianceRequest.Kind(item.kind).label
    due = item.due_at.astimezone(ZoneInfo(item.timezone))
    yield f"* {kind} {item.request_id}, chatbot {' '.join(item.chatbot.split())}"
    yield f"  {describe_state(item.status, item.hold_reason, item.error_code)}"
    is_late = "Overdue since" if item.event == Notice.Event.OVERDUE else "Due"
    yield f"  {is_late} {due:%a %Y-%m-%d %H:%M} ({item.timezone})"
    if link := _link(f"/admin/requests/{item.request_id}/", ""):
        yield f"  {link}"
    yield ""


def _about_hold(item: HoldItem) -> Iterator[str]:
    at = item.review_at.astimezone(ZoneInfo(item.timezone))
    yield f"* Legal hold {item.hold_id}, chatbot {' '.join(item.chatbot.split())}"
    yield f"  Review due {at:%Y-%m-%d %H:%M} ({item.timezone})"
    if link := _link(f"/admin/holds/{item.hold_id}/", ""):
        yield f"  {link}"
    yield ""


def _link(path: str, before: str) -> str:
    return f"{before}{settings.CONSOLE_URL}{path}" if settings.CONSOLE_URL else ""
