"""What the calls about requests have in common: how they refuse, find a request, and answer with it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.problems import FieldError, Problem
from compliance.api.representation import represent_all
from compliance.errors import Refused
from compliance.models import ComplianceRequest

Scope = ApiKey.Scope


# The kind of request that a body's `action` names.
KINDS = {"delete": ComplianceRequest.Kind.DELETION, "export": ComplianceRequest.Kind.EXPORT}

# What a key needs to file, preview or withdraw a request of the kind.
WRITE_SCOPES = {
    ComplianceRequest.Kind.DELETION: Scope.DELETIONS_WRITE,
    ComplianceRequest.Kind.EXPORT: Scope.EXPORTS_WRITE,
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


class WritingView(ComplianceView):
    """A call that is about one kind of request or the other, as its body or the request it names tells."""

    either_scope = list(WRITE_SCOPES.values())


def answer_with(call: Request, request: ComplianceRequest) -> Response:
    """Return the answer that is the request object."""
    [shown] = request_objects(call, [request])
    return Response(shown)


def request_objects(call: Request, requests: Sequence[ComplianceRequest]) -> list[dict[str, Any]]:
    """Return the request objects as this caller may see them, in order."""
    caller = caller_of(call)
    below = call.build_absolute_uri(reverse("compliance-api:requests", args=[caller.chatbot.slug]))
    return represent_all(
        requests,
        status_url=lambda request: f"{below}/{request.pk}",
        shows_key=caller.has_scope(Scope.REQUESTS_READ),
    )


def as_filed(shown: dict[str, Any], request: ComplianceRequest) -> dict[str, Any]:
    """Return a request object as whoever files is answered with it."""
    return shown | {"existing": request.existing}


def as_problem(refused: Refused) -> Problem:
    """Return what a refusal is over HTTP."""
    errors: list[FieldError] = []
    if refused.pointer:
        errors = [FieldError(pointer=refused.pointer, code="invalid", detail=refused.detail)]
    return Problem(refused.code, refused.detail, errors=errors)
