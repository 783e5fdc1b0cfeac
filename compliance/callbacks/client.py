"""Make one call to a client's receiver: signed, and guarded (`common.guarded_calls`). Only its status counts."""

import json
import logging
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from uuid import UUID

from chatbots.callback_secrets import Signers
from common import outbound
from common.guarded_calls import Answer, CallFailure, GuardedPost
from common.times import rfc3339
from compliance.models import Callback
from compliance.work.call_queue import Call

logger = logging.getLogger(__name__)

Failure = Callback.Failure


@dataclass(frozen=True)
class Outcome:
    """The outcome of a call. `error` is empty when it was delivered; `status` is that of the answer, if one came."""

    status: int | None = None
    error: Failure | None = None


# Of the answer's body, so that the receiver meets no broken connection. It is thrown away.
_READ_BYTES = 4096


def body_of(callback: Callback) -> bytes:
    """Return the body: ids, codes and the client's own reference. Nothing about the chatter."""
    return json.dumps(
        {
            "callback_id": str(callback.id),
            "event": callback.event,
            "chatbot": callback.chatbot.slug,
            "request_id": str(callback.request_id),
            "kind": callback.request.kind,
            "reference": callback.request.reference,
            "status": callback.status,
            "hold_reason": callback.hold_reason,
            "result": callback.result,
            "error_code": callback.error_code or None,
            "occurred_at": rfc3339(callback.occurred_at),
        }
    ).encode()


def call_to(
    url: str, *, callback_id: UUID, body: bytes, seconds: float, signers: Signers, tls: ssl.SSLContext
) -> Call[Outcome]:
    """Return the call that delivers a callback's body to an address, not begun."""

    def read(answer: Answer) -> Outcome:
        if answer.status is None and answer.kind:
            logger.warning("callback.failed callback=%s kind=%s", callback_id, answer.kind)
        return outcome_of(answer)

    post = GuardedPost(
        url,
        seconds=seconds,
        answer_bytes=outbound.CALLBACK_ANSWER_BYTES,
        body_bytes=_READ_BYTES,
        is_whole=False,
        tls=tls,
    )
    agent = "data-compliance-callbacks/1"
    return Call(post, agent=agent, message_id=callback_id, body=body, signers=signers, read=read)


def outcome_of(answer: Answer) -> Outcome:
    # An answer that breaks off after its status counts as an answer.
    if answer.status is not None:
        is_success = HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES
        return Outcome(answer.status, None if is_success else Failure.BAD_STATUS)
    failure = answer.failure or CallFailure.NO_ANSWER
    return Outcome(error=Failure.BAD_ANSWER if failure is CallFailure.TOO_LONG else Failure(failure))
