"""Base classes of the views, and how they find and return requests."""

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.pagination import CursorPages
from common.problems import FieldError, Problem
from compliance.api.schemas import RequestObject
from compliance.errors import Refused
from compliance.models import ComplianceRequest

Scope = ApiKey.Scope

Shape = TypeVar("Shape", bound=RequestObject)

# The scope that a key needs to file, preview or withdraw a request of the kind.
WRITE_SCOPES = {
    ComplianceRequest.Kind.DELETION: Scope.DELETIONS_WRITE,
    ComplianceRequest.Kind.EXPORT: Scope.EXPORTS_WRITE,
}
# For every kind: the scope that a key needs to change a request, or to send its callbacks again.
_SCOPES_OF_KINDS = {
    **WRITE_SCOPES,
    ComplianceRequest.Kind.RETENTION: Scope.DELETIONS_WRITE,
    ComplianceRequest.Kind.REDACTION: Scope.MESSAGES_REDACT,
}


class ComplianceView(ChatbotView):
    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(as_problem(exc) if isinstance(exc, Refused) else exc)


def find_request(call: Request, request_id: UUID) -> ComplianceRequest:
    """Return a request of the caller's chatbot. Raises Problem(`not_found`)."""
    requests = ComplianceRequest.objects.filter(chatbot=caller_of(call).chatbot, pk=request_id)
    found = requests.select_related("export").first()
    if found is None:
        raise Problem("not_found", "This chatbot has no such request.")
    return found


def find_writable(call: Request, request_id: UUID) -> ComplianceRequest:
    """Return a request as `find_request`, if the key may file its kind. A retention run needs the scope of deletions.

    Raises Problem (`scope_missing`).
    """
    found = find_request(call, request_id)
    caller_of(call).require_scope(_SCOPES_OF_KINDS[ComplianceRequest.Kind(found.kind)])
    return found


def find_cancellable(call: Request, request_id: UUID) -> ComplianceRequest:
    """Return a request as `find_writable`.

    Raises Problem (`scope_missing`; `not_cancellable` for a retention run, which staff set up).
    """
    found = find_writable(call, request_id)
    if found.kind == ComplianceRequest.Kind.RETENTION:
        raise Problem("not_cancellable", "A retention run is cancelled in the console, with its period.")
    return found


class NewestFirst(CursorPages):
    ordering = ("-id",)
    in_index_order = True


class WritingView(ComplianceView):
    """A view for deletions and exports: the body determines the scope."""

    either_scope = list(WRITE_SCOPES.values())


class ChangingView(ComplianceView):
    """A view for every kind of request: the request in the path determines the scope."""

    either_scope = list(dict.fromkeys(_SCOPES_OF_KINDS.values()))


def request_objects(call: Request, shape: type[Shape], requests: Sequence[ComplianceRequest]) -> list[Shape]:
    """Return the request objects as this caller may see them, in order."""
    caller = caller_of(call)
    below = call.build_absolute_uri(reverse("compliance-api:requests", args=[caller.chatbot.slug]))
    return shape.all_of(
        requests,
        status_url=lambda request: f"{below}/{request.pk}",
        shows_key=caller.has_scope(Scope.REQUESTS_READ),
    )


def respond_with(call: Request, request: ComplianceRequest, shape: type[RequestObject] = RequestObject) -> Response:
    return Response(request_objects(call, shape, [request])[0])


def as_problem(refused: Refused) -> Problem:
    fault = FieldError(pointer=refused.pointer, code="invalid", detail=refused.detail)
    return Problem(refused.code, refused.detail, errors=[fault] if refused.pointer else [])
