"""Send mails to officers: outside transactions, with time limits. What cannot be sent is in a later mail."""

import logging
import smtplib
import ssl
import time
from contextlib import suppress

from django.conf import settings
from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend

from common import outbound
from compliance.notifications import detect, outbox
from compliance.notifications.message import compose
from compliance.notifications.outbox import OfficerMail

logger = logging.getLogger(__name__)

# No further mail is begun later in a turn.
TURN_SECONDS = 20.0
_BYE_SECONDS = 2.0


def deliver(*, seconds: float = TURN_SECONDS) -> bool:
    """Create notices and mail them to the officers who may get one now; return whether some may be left.

    Does nothing without a mail server. A mail is sent twice only if its worker is killed before it records that.
    """
    if not settings.MAILS:
        return False
    detect.create_notices()
    end = time.monotonic() + seconds
    server = get_connection()
    try:
        while time.monotonic() < end:
            mail = outbox.take()
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
    if not (mail.items and mail.address):
        outbox.record_delivered(mail, mailed=False)
        return True
    try:
        with outbound.within(outbound.MAIL_SECONDS, answer_bytes=outbound.MAIL_ANSWER_BYTES):
            server.open()
            server.send_messages([compose(mail)])
    except (OSError, ValueError) as error:  # those of smtplib are OSError
        code = _code(error)
        # Neither the text nor the arguments: both name addresses.
        logger.warning("mail.failed user=%s code=%s status=%s", mail.user_id, code, getattr(error, "smtp_code", ""))
        outbox.record_failure(mail, error=code)
        _close(server)
        return code in {"recipient_refused", "mail_refused"}
    outbox.record_delivered(mail, mailed=True)
    logger.info("mail.sent user=%s requests=%s", mail.user_id, len(mail.items))
    return True


def _code(error: OSError | ValueError) -> str:
    match error:
        case smtplib.SMTPRecipientsRefused() | ValueError():
            return "recipient_refused"
        case smtplib.SMTPSenderRefused() | smtplib.SMTPDataError():
            return "mail_refused"
        case smtplib.SMTPAuthenticationError():
            return "login_refused"
        case ssl.SSLError():
            return "tls_failed"
        case smtplib.SMTPResponseException() | smtplib.SMTPNotSupportedError():
            return "bad_answer"
    return "no_answer"


def _close(server: BaseEmailBackend) -> None:
    with suppress(OSError), outbound.within(_BYE_SECONDS):
        server.close()
