"""Decide on a request that is filed: withdraw it, or let one that is held go on or end."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from compliance.api import described_lists
from compliance.api.bodies import ApproveBody, CancelBody, RejectBody, read_reason
from compliance.api.calls import WRITE_SCOPES, ComplianceView, WritingView, answer_with, find_request
from compliance.models import ComplianceRequest
from compliance.requests import operations


class CancelView(WritingView):
    @described_lists.cancel_request
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        reason = read_reason(request, CancelBody)
        caller, found = caller_of(request), find_request(request, request_id)
        caller.require_scope(WRITE_SCOPES[ComplianceRequest.Kind(found.kind)])
        return answer_with(request, operations.cancel(request_id=found.pk, actor=caller.actor, reason=reason))


class ApproveView(ComplianceView):
    scope = ApiKey.Scope.REQUESTS_APPROVE

    @described_lists.approve_request
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        reason = read_reason(request, ApproveBody)
        found = find_request(request, request_id)
        return answer_with(
            request, operations.approve(request_id=found.pk, actor=caller_of(request).actor, reason=reason)
        )


class RejectView(ComplianceView):
    scope = ApiKey.Scope.REQUESTS_APPROVE

    @described_lists.reject_request
    def post(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        reason = read_reason(request, RejectBody)
        found = find_request(request, request_id)
        return answer_with(
            request, operations.reject(request_id=found.pk, actor=caller_of(request).actor, reason=reason)
        )
