"""What the client was told of a request, and telling it again."""

from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.authentication import caller_of
from chatbots.callback_urls import receiver_of
from chatbots.models import ApiKey
from common.times import rfc3339
from compliance.api import described_callbacks
from compliance.api.bodies import require_no_body
from compliance.api.calls import WRITE_SCOPES, ComplianceView, WritingView, find_request
from compliance.callbacks import resend
from compliance.models import Callback, ComplianceRequest


class CallbacksView(ComplianceView):
    scope = ApiKey.Scope.REQUESTS_READ

    @described_callbacks.list_callbacks
    def get(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        return _answer_with_callbacks(find_request(request, request_id))


class ResendView(WritingView):
    @described_callbacks.resend_callbacks
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        require_no_body(request)
        caller, found = caller_of(request), find_request(request, request_id)
        caller.require_scope(WRITE_SCOPES[ComplianceRequest.Kind(found.kind)])
        resend.resend_of_request(request_id=found.pk, actor=caller.actor)
        return _answer_with_callbacks(found)


def _answer_with_callbacks(request: ComplianceRequest) -> Response:
    return Response({"callbacks": [_represent(callback) for callback in resend.callbacks_of(request.pk)]})


def _represent(callback: Callback) -> dict[str, Any]:
    """Return what is shown of a callback. Of its address scheme and host alone: a path can be a secret."""
    return {
        "callback_id": str(callback.pk),
        "event": callback.event,
        "occurred_at": rfc3339(callback.occurred_at),
        "state": callback.state,
        "receiver": receiver_of(callback.url),
        "attempts": callback.attempts,
        "next_attempt_at": rfc3339(callback.next_attempt_at),
        "last_status": callback.last_status,
        "last_error": callback.last_error or None,
        "delivered_at": rfc3339(callback.delivered_at),
    }
