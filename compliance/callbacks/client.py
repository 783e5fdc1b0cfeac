"""Make one call to a client's receiver: signed, and guarded (`common.guarded_calls`). Only its status counts."""

import json
import logging
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus

from chatbots.callback_secrets import Signers
from common import outbound
from common.guarded_calls import Answer, CallFailure, GuardedPost
from common.times import rfc3339
from compliance.models import Callback

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


class Call:
    """One call, which a thread makes (`run`). Nothing of it happens after its deadline."""

    def __init__(self, callback: Callback, *, signers: Signers, tls: ssl.SSLContext) -> None:
        self.callback = callback
        self._signers = signers
        self._post = GuardedPost(
            callback.url,
            seconds=outbound.CALLBACK_SECONDS,
            answer_bytes=outbound.CALLBACK_ANSWER_BYTES,
            body_bytes=_READ_BYTES,
            is_whole=False,
            tls=tls,
        )

    @property
    def deadline(self) -> float:
        return self._post.deadline

    def run(self) -> Outcome:
        """Make the call and return what became of it. Raises nothing."""
        body = body_of(self.callback)
        timestamp = str(int(time.time()))
        headers = self._signers.headers(message_id=self.callback.id, timestamp=timestamp, body=body)
        answer = self._post.run(body=body, headers={"User-Agent": "data-compliance-callbacks/1", **headers})
        if answer.status is None and answer.kind:
            logger.warning("callback.failed callback=%s kind=%s", self.callback.id, answer.kind)
        return _outcome_of(answer)

    def so_far(self) -> Outcome:
        """Return the outcome as it is now: also of a call that is not over, since a name is still looked up."""
        return _outcome_of(self._post.so_far())


def _outcome_of(answer: Answer) -> Outcome:
    # An answer that breaks off after its status is one.
    if answer.status is not None:
        is_success = HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES
        return Outcome(answer.status, None if is_success else Failure.BAD_STATUS)
    failure = answer.failure or CallFailure.NO_ANSWER
    return Outcome(error=Failure.BAD_ANSWER if failure is CallFailure.TOO_LONG else Failure(failure))
