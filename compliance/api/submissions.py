"""File requests: one, or up to a thousand with one call."""

import re
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import (
    SIGNATURE_HEADER,
    Caller,
    SignatureAuthentication,
    TokenAuthentication,
    caller_of,
)
from chatbots.models import ApiKey
from common.problems import MOST_ERRORS, FieldError, Problem
from compliance.api.base import WRITE_SCOPES, ComplianceView, WritingView, as_problem, request_objects, respond_with
from compliance.api.bodies import (
    BODIES,
    Batch,
    BatchBody,
    DeletionBody,
    ExportBody,
    invalid_body,
    parse,
    validate,
)
from compliance.api.callbacks import REQUEST_CHANGED
from compliance.api.examples import BOTH_SELECTORS, CHATTER, OTHER_CHATTER, links, submitted
from compliance.api.schemas import BatchResponse, SubmittedRequest
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.idempotency import ReplayKey, replay_key
from compliance.requests.inputs import RequestInput
from compliance.requests.submit import submit, submit_many
from config.openapi.document import REQUESTS
from config.openapi.operations import answer, describe, problem_example, takes

_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,200}")

# Errors listed for each item of a large batch.
_LEAST_ERRORS = 10

_IDEMPOTENCY_KEY_HEADER = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"},
    OpenApiParameter.HEADER,
    description="Chosen by you. For 24 hours the same key with the same body on the same path returns the same "
    "request; with another body 409 `idempotency_conflict`.",
    examples=[OpenApiExample("Idempotency-Key", "erase-ticket-7")],
)
_RETURNED = "The request. The same call sent again returns the same request, as it is then."
_REFUSES = [
    "unknown_uci_key",
    "compliance_disabled",
    "uci_not_designated",
    "signing_key_missing",
    "idempotency_conflict",
]


class DataDeletionView(ComplianceView):
    authentication_classes = [SignatureAuthentication, TokenAuthentication]
    scope = ApiKey.Scope.DELETIONS_WRITE

    @describe(
        operation_id="fileDeletion",
        summary="File a deletion",
        description="""
            Erases the chatter's conversations, or the conversations with these ids, no matter who took part in them.
            The response comes at once, with `"status": "accepted"`: the request is stored, not done. It is not an
            error if a request finds nothing: it completes with `"result": "nothing_found"`. Conversations in
            which another chatter took part are erased too.
            """,
        tag=REQUESTS,
        parameters=[_IDEMPOTENCY_KEY_HEADER],
        request=takes(
            DeletionBody,
            *BOTH_SELECTORS,
            (
                "all_fields",
                CHATTER | {"action": "delete", "reference": "TICKET-7", "erase_exports": True},
                "With your ticket's number, and the chatter's exports too",
            ),
        ),
        responses={200: answer(SubmittedRequest, _RETURNED, ("accepted", submitted("deletion"), "Just filed"))},
        refuses=_REFUSES,
        callbacks=[REQUEST_CHANGED],
        links=links("follow", "cancel", "callbacks"),
    )
    def post(self, request: Request, **_path: str) -> Response:
        return _submit(request, DeletionBody)


class DataExportView(ComplianceView):
    authentication_classes = [SignatureAuthentication, TokenAuthentication]
    scope = ApiKey.Scope.EXPORTS_WRITE

    @describe(
        operation_id="fileExport",
        summary="File an export",
        description="""
            Writes the chatter's conversations, or those with these ids, into a CSV file in the operator's bucket or
            in yours. The response comes at once; once the request is completed, its `export` has the file's place.
            If nothing is found, the file has the header alone.

            An equal export that waits and has not started is returned instead, as `existing`: for the same chatter or
            conversations, with the same options, `reference` and `callback_url`. With `"again": true` another is
            filed.
            """,
        tag=REQUESTS,
        parameters=[_IDEMPOTENCY_KEY_HEADER],
        request=takes(
            ExportBody,
            *BOTH_SELECTORS,
            (
                "all_fields",
                CHATTER
                | {"action": "export", "reference": "TICKET-7", "include_shared": True, "include_files": True}
                | {"csv_dialect": "excel_semicolon"},
                "With shared conversations and uploaded files, for Excel",
            ),
        ),
        responses={
            200: answer(
                SubmittedRequest,
                _RETURNED,
                ("accepted", submitted("export"), "Just filed"),
                ("existing", submitted("export", existing=True), "An equal one waits"),
            )
        },
        refuses=[*_REFUSES, "export_destination_missing"],
        callbacks=[REQUEST_CHANGED],
        links=links("follow", "download", "cancel", "callbacks"),
    )
    def post(self, request: Request, **_path: str) -> Response:
        return _submit(request, ExportBody)


class BatchView(WritingView):
    authentication_classes = [SignatureAuthentication, TokenAuthentication]
    takes_long = ["POST"]

    def max_body_bytes(self) -> int:
        return settings.MAX_BODY_BYTES

    @describe(
        operation_id="fileBatch",
        summary="File many requests",
        description="""
            Up to 1,000 deletions and exports, each with its `action`, filed in the order of the list. Each item has
            its own result in the same place: a request object, or an object with `error` alone. A refused item does
            not prevent the others, which are stored all together. Two equal deletions are two requests; of two equal
            exports the first answers for the second, as `existing`.

            Each item needs the write scope of its kind. Pointers in an item's problem begin at the item. The same
            call sent again, known by its signature or its `Idempotency-Key`, returns the same requests; refused items
            are tried again.
            """,
        tag=REQUESTS,
        parameters=[_IDEMPOTENCY_KEY_HEADER],
        request=takes(
            Batch,
            (
                "two",
                {
                    "requests": [
                        {"action": "export", **CHATTER},
                        {"action": "delete", **CHATTER, "reference": "TICKET-7"},
                        {"action": "delete", **OTHER_CHATTER},
                    ]
                },
                "An export and a deletion of one chatter, and a deletion of another",
            ),
        ),
        responses={
            200: answer(
                BatchResponse,
                "The result of each item, in order; also when all were refused.",
                (
                    "mixed",
                    {"results": [submitted("deletion"), {"error": problem_example("unknown_uci_key")}]},
                    "One was filed, one refused",
                ),
            )
        },
        refuses=["compliance_disabled", "idempotency_conflict"],
        links=links("follow", "cancel", at="/results/0"),
    )
    def post(self, request: Request, **_path: str) -> Response:
        raw, caller = json_body(request), caller_of(request)
        items = [_item(item, caller) for item in parse(BatchBody, raw).requests]
        outcomes = submit_many(
            chatbot=caller.chatbot,
            inputs={place: item for place, item in enumerate(items) if isinstance(item, RequestInput)},
            origin=ComplianceRequest.Origin.API,
            actor=caller.actor,
            replay=_replay_key(request, raw, has_items=True),
        )
        filed = [outcome for outcome in outcomes.values() if isinstance(outcome, ComplianceRequest)]
        objects = dict(zip((one.pk for one in filed), request_objects(request, SubmittedRequest, filed), strict=True))
        most_errors = max(_LEAST_ERRORS, MOST_ERRORS // len(items))
        results: list[SubmittedRequest | dict[str, Any]] = []
        for place, item in enumerate(items):
            match outcomes.get(place, item):
                case ComplianceRequest() as outcome:
                    # Of two equal exports the first answers for the second.
                    results.append(objects[outcome.pk].model_copy(update={"existing": outcome.existing}))
                case Refused() as refused:
                    results.append({"error": as_problem(refused).as_dict(most_errors=most_errors)})
                case Problem() as problem:
                    results.append({"error": problem.as_dict(most_errors=most_errors)})
        return Response({"results": results})


def _submit(call: Request, model: type[DeletionBody | ExportBody]) -> Response:
    raw, caller = json_body(call), caller_of(call)
    body = parse(model, raw)
    # So that a captured call cannot be sent to the other path.
    if caller.chatbot.require_action and not body.action:
        raise invalid_body([FieldError(pointer="/action", code="missing", detail="This chatbot requires the field.")])
    filed = submit(
        chatbot=caller.chatbot,
        origin=ComplianceRequest.Origin.API,
        actor=caller.actor,
        replay=_replay_key(call, raw),
        **vars(body.as_input()),
    )
    return respond_with(call, filed, SubmittedRequest)


def _item(item: Any, caller: Caller) -> RequestInput | Problem:
    """Return the request of an item, or its error. Pointers begin at the item."""
    try:
        return _item_input(item, caller)
    except Problem as problem:
        # Without its traceback, which would contain the body.
        return problem.with_traceback(None)


def _item_input(item: Any, caller: Caller) -> RequestInput:
    action = item.get("action") if isinstance(item, dict) else "delete"
    if action is None:
        raise invalid_body([FieldError(pointer="/action", code="missing", detail="This field is required.")])
    if not isinstance(action, str) or action not in BODIES:
        known = " or ".join(f"'{name}'" for name in BODIES)
        raise invalid_body([FieldError(pointer="/action", code="unknown_value", detail=f"Must be {known}.")])
    asked = validate(BODIES[action], item).as_input()
    caller.require_scope(WRITE_SCOPES[asked.kind])
    return asked


def _replay_key(call: Request, raw: bytes, *, has_items: bool = False) -> ReplayKey | None:
    """Return the key by which a repeated call is recognised. Raises Problem(`invalid`)."""
    caller = caller_of(call)
    idempotency_key = call.headers.get("Idempotency-Key")
    if idempotency_key is not None and not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        raise Problem("invalid", "The Idempotency-Key must be 1 to 200 printable ASCII characters.")
    return replay_key(
        chatbot=caller.chatbot,
        path=call.path_info,
        body=raw,
        signature=call.headers[SIGNATURE_HEADER] if caller.method == "signature" else "",
        idempotency_key=idempotency_key or "",
        has_items=has_items,
    )
