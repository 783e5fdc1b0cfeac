"""File up to a thousand requests with one call."""

from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import Caller, caller_of
from common.problems import MOST_ERRORS, FieldError, Problem
from compliance.api import described_batch
from compliance.api.bodies import BODIES, BatchBody, not_valid, parse_as, validate
from compliance.api.calls import KINDS, WRITE_SCOPES, WritingView, as_filed, as_problem, request_objects
from compliance.api.filing import FilingView, replay_of
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import operations
from compliance.requests.operations import RequestInput

# How many faults are listed of each item of a large batch.
_LEAST_ERRORS = 10


class BatchView(WritingView):
    """Answers 200 with a request or a problem for each item, in order, also when all are refused."""

    authentication_classes = FilingView.authentication_classes

    def most_body_bytes(self) -> int:
        return settings.MAX_BODY_BYTES

    @described_batch.file_batch
    def post(self, request: Request, **_path: str) -> Response:
        raw = json_body(request)
        caller = caller_of(request)
        items = [_read(item, caller) for item in parse_as(BatchBody, raw).requests]
        outcomes = operations.submit_many(
            chatbot=caller.chatbot,
            inputs={place: item for place, item in enumerate(items) if isinstance(item, RequestInput)},
            origin=ComplianceRequest.Origin.API,
            actor=caller.actor,
            replay=replay_of(request, raw, has_items=True),
        )
        filed = [outcome for outcome in outcomes.values() if isinstance(outcome, ComplianceRequest)]
        shown = dict(zip((one.pk for one in filed), request_objects(request, filed), strict=True))
        results = []
        most_errors = max(_LEAST_ERRORS, MOST_ERRORS // len(items))
        for place, item in enumerate(items):
            outcome = outcomes.get(place, item)
            if isinstance(outcome, ComplianceRequest):
                results.append(as_filed(shown[outcome.pk], outcome))
            else:
                results.append({"error": _problem(outcome).as_dict(most_errors=most_errors)})
        return Response({"results": results})


def _read(item: Any, caller: Caller) -> RequestInput | Problem:
    """Return what an item asks for, or what is wrong with it; pointers are those within the item."""
    try:
        return _asked(item, caller)
    except Problem as problem:
        # Without what led to it, which would hold what was sent.
        return problem.with_traceback(None)


def _asked(item: Any, caller: Caller) -> RequestInput:
    action = item.get("action", ...) if isinstance(item, dict) else "delete"
    if action is None or action is ...:
        raise not_valid([FieldError(pointer="/action", code="missing", detail="This field is required.")])
    if not isinstance(action, str) or action not in BODIES:
        offer = " or ".join(f"'{known}'" for known in BODIES)
        raise not_valid([FieldError(pointer="/action", code="unknown_value", detail=f"Must be {offer}.")])
    body = validate(BODIES[action], item)
    caller.require_scope(WRITE_SCOPES[KINDS[action]])
    options = ("erase_exports", "include_shared", "include_files", "again")
    return RequestInput(
        kind=KINDS[action],
        about=body.about,
        reference=body.reference or "",
        callback_url=body.callback_url or "",
        **{name: getattr(body, name, None) or False for name in options},
    )


def _problem(outcome: Refused | Problem | RequestInput) -> Problem:
    if isinstance(outcome, Refused):
        return as_problem(outcome)
    if isinstance(outcome, Problem):
        return outcome
    raise TypeError("An item that could be read has neither a request nor a refusal.")
