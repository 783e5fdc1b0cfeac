"""One callback without a request, to test a receiver.

It is signed and guarded as any other. The process that gets the request makes it: it is not queued and not tried
again, and stored only in the change log.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from uuid import UUID

from django.utils.timezone import now
from uuid_utils.compat import uuid7

from chatbots import changelog
from chatbots.callback_secrets import signers_of
from chatbots.callback_urls import receiver_of
from chatbots.models import Chatbot
from common import outbound
from common.times import rfc3339
from compliance.callbacks.client import Failure, Outcome, call_to
from compliance.errors import Refused

EVENT = "callback.test"
MOST_A_MINUTE = 10


@dataclass(frozen=True)
class Sent:
    """A test callback and its outcome. Without an `error` it was delivered; `receiver` is scheme and host."""

    callback_id: UUID
    receiver: str | None
    status: int | None
    error: Failure | None
    milliseconds: int


def send(*, chatbot: Chatbot, actor: str, url: str = "") -> Sent:
    """Send a test callback to a URL in canonical form, or to the chatbot's, and return the outcome.

    Takes up to some seconds: call it outside any transaction. Raises Refused (`callback_url_missing`,
    `signing_key_missing`; `rate_limited` after MOST_A_MINUTE of the chatbot in a minute).
    """
    url = url or chatbot.callback_url
    if not url:
        raise Refused("callback_url_missing", "The chatbot has no callback URL. Have it set, or give callback_url.")
    signers = signers_of([chatbot.pk])[chatbot.pk]
    if signers.is_nothing:
        raise Refused("signing_key_missing", "Callbacks are signed. Have a callback secret created first.")
    period = timedelta(minutes=1)
    if not changelog.record_if_few(
        "callback.tested", chatbot=chatbot, actor=actor, most=MOST_A_MINUTE, period=period
    ):
        raise Refused("rate_limited", f"A chatbot can send {MOST_A_MINUTE} test callbacks a minute. Wait a while.")
    callback_id, began = uuid7(), monotonic()
    if signers.is_readable:
        call = call_to(
            url,
            callback_id=callback_id,
            body=_body(callback_id, chatbot),
            seconds=outbound.TEST_CALLBACK_SECONDS,
            signers=signers,
            tls=outbound.tls_context(),
        )
        outcome = call.run_in_time()
    else:
        outcome = Outcome(error=Failure.SIGNING_KEY_UNREADABLE)
    milliseconds = round((monotonic() - began) * 1000)
    data = {"outcome": str(outcome.error or "delivered")}
    changelog.record("callback.test_ended", chatbot_id=chatbot.pk, actor=actor, data=data)
    return Sent(callback_id, receiver_of(url), outcome.status, outcome.error, milliseconds)


def _body(callback_id: UUID, chatbot: Chatbot) -> bytes:
    """Return a body with the fields of every callback; those about a request are empty."""
    sent = {
        "callback_id": str(callback_id),
        "event": EVENT,
        "chatbot": chatbot.slug,
        "reference": "",
        "occurred_at": rfc3339(now()),
    }
    about = dict.fromkeys(("request_id", "kind", "status", "hold_reason", "result", "error_code"))
    return json.dumps(sent | about).encode()
