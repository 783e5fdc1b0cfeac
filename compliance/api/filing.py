"""File requests: each view reads the call, makes one call into operations and answers."""

import re

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import SIGNATURE_HEADER, SignatureAuthentication, TokenAuthentication, caller_of
from chatbots.models import ApiKey
from common.problems import Problem
from compliance.api import described
from compliance.api.bodies import DeletionBody, ExportBody, parse_body
from compliance.api.calls import ComplianceView, as_filed, request_objects
from compliance.models import ComplianceRequest
from compliance.requests import operations
from compliance.requests.idempotency import ReplayKey, replay_key

Scope = ApiKey.Scope
Kind = ComplianceRequest.Kind

_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,200}")


class FilingView(ComplianceView):
    """Takes a signature or a token, and may be sent again: the same call has the same answer."""

    authentication_classes = [SignatureAuthentication, TokenAuthentication]


class DataDeletionView(FilingView):
    scope = Scope.DELETIONS_WRITE

    @described.file_deletion
    def post(self, request: Request, **_path: str) -> Response:
        raw = json_body(request)
        body = parse_body(DeletionBody, raw, chatbot=caller_of(request).chatbot)
        return _file(request, raw, body, kind=Kind.DELETION, erase_exports=body.erase_exports or False)


class DataExportView(FilingView):
    scope = Scope.EXPORTS_WRITE

    @described.file_export
    def post(self, request: Request, **_path: str) -> Response:
        raw = json_body(request)
        body = parse_body(ExportBody, raw, chatbot=caller_of(request).chatbot)
        return _file(
            request,
            raw,
            body,
            kind=Kind.EXPORT,
            include_shared=body.include_shared or False,
            include_files=body.include_files or False,
            again=body.again or False,
        )


def _file(call: Request, raw: bytes, body: DeletionBody | ExportBody, *, kind: Kind, **options: bool) -> Response:
    caller = caller_of(call)
    filed = operations.submit(
        chatbot=caller.chatbot,
        kind=kind,
        about=body.about,
        origin=ComplianceRequest.Origin.API,
        actor=caller.actor,
        reference=body.reference or "",
        callback_url=body.callback_url or "",
        replay=replay_of(call, raw),
        **options,
    )
    [shown] = request_objects(call, [filed])
    return Response(as_filed(shown, filed))


def replay_of(call: Request, raw: bytes, *, has_items: bool = False) -> ReplayKey | None:
    """Return what makes this call the same as another. Raises Problem(`invalid`)."""
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
