"""Send mails: outside transactions, with time limits. What cannot be sent is told later."""

import logging
import smtplib
import ssl
import time
from contextlib import suppress

from django.conf import settings
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend

from common import outbound
from compliance.notifications import detect, outbox
from compliance.notifications.message import compose
from compliance.notifications.outbox import News

logger = logging.getLogger(__name__)

# No further mail is begun later in a turn.
TURN_SECONDS = 20.0
_BYE_SECONDS = 2.0


def deliver(*, seconds: float = TURN_SECONDS) -> bool:
    """Find what is new and tell the officers who may be told now; return whether some may be left for the next turn.

    Does nothing where no server for mail is named. A mail goes out twice only if its worker is killed between sending
    it and writing that down.
    """
    if not settings.MAILS:
        return False
    detect.find_news()
    end = time.monotonic() + seconds
    server = mail.get_connection()
    try:
        while time.monotonic() < end:
            news = outbox.take()
            if news is None:
                return False
            if not _tell(news, server):
                # The server is down, or is as slow for others: they are tried in the next turn.
                return False
    finally:
        _close(server)
    return True


def _tell(news: News, server: BaseEmailBackend) -> bool:
    """Tell one officer; return whether the server can be used for others."""
    if not (news.items and news.address):
        outbox.note_delivered(news, mailed=False)
        return True
    try:
        with outbound.within(outbound.MAIL_SECONDS, answer_bytes=outbound.MAIL_ANSWER_BYTES):
            server.open()
            server.send_messages([compose(news)])
    except (OSError, ValueError) as error:  # those of smtplib are OSError
        code = _code(error)
        # Neither the text nor the arguments: both name addresses.
        logger.warning("mail.failed user=%s code=%s status=%s", news.user_id, code, getattr(error, "smtp_code", ""))
        outbox.note_failure(news, error=code)
        _close(server)
        return code in {"recipient_refused", "mail_refused"}
    outbox.note_delivered(news, mailed=True)
    logger.info("mail.sent user=%s requests=%s", news.user_id, len(news.items))
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
