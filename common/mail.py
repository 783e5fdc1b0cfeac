"""Django's SMTP backend on connections with limits (`common.outbound`)."""

import smtplib
import socket
import ssl
from functools import cached_property
from typing import Any

from django.core.mail.backends import smtp

from common import outbound


class _SMTP(smtplib.SMTP):
    def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
        return outbound.connect(outbound.resolve(host, port), timeout=timeout)

    def getreply(self) -> tuple[int, bytes]:
        try:
            return super().getreply()
        except outbound.AnswerTooLong:
            self.close()
            raise smtplib.SMTPResponseException(500, "The answer is too long.") from None


class _SMTPOverTLS(smtplib.SMTP_SSL, _SMTP):
    """It wraps what `_SMTP` connects."""


class EmailBackend(smtp.EmailBackend):
    """Use it within `common.outbound.within`, which bounds every call."""

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _SMTPOverTLS if self.use_ssl else _SMTP

    @cached_property
    def ssl_context(self) -> ssl.SSLContext:
        context: ssl.SSLContext = super().ssl_context
        context.sslsocket_class = outbound.TLSSocket
        return context
