"""File requests and follow them: each view reads the call, makes one call into operations and answers."""

import re
from http import HTTPStatus
from uuid import UUID

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView, json_body
from chatbots.authentication import (
    SIGNATURE_HEADER,
    SignatureAuthentication,
    TokenAuthentication,
    caller_of,
)
from chatbots.models import ApiKey
from compliance import operations
from compliance.api.bodies import DeletionBody, ExportBody, parse_body
from compliance.api.representation import represent
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.replays import ReplayKey, replay_key
from config.problems import FieldError, Problem

Scope = ApiKey.Scope
Kind = ComplianceRequest.Kind

_IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,200}")


class ComplianceView(ChatbotView):
    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(_as_problem(exc) if isinstance(exc, Refused) else exc)


class FilingView(ComplianceView):
    """Takes a signature or a token, and may be sent again: the same call has the same answer."""

    authentication_classes = [SignatureAuthentication, TokenAuthentication]


class DataDeletionView(FilingView):
    scope = Scope.DELETIONS_WRITE

    def post(self, request: Request, **_path: str) -> Response:
        raw = json_body(request)
        body = parse_body(DeletionBody, raw, chatbot=caller_of(request).chatbot)
        return _file(request, raw, body, kind=Kind.DELETION, erase_exports=body.erase_exports or False)


class DataExportView(FilingView):
    scope = Scope.EXPORTS_WRITE

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
        )


class RequestView(ComplianceView):
    scope = Scope.REQUESTS_READ

    def get(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        return _answer(request, _find(request, request_id))


class DownloadView(ComplianceView):
    """Leads to the file of a hosted export, or with `file` to the copy of an uploaded file beside it."""

    scope = Scope.REQUESTS_READ

    def get(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        link = operations.download_link(_find(request, request_id), file_id=_file_id(request))
        return Response(status=HTTPStatus.FOUND, headers={"Location": link, "Cache-Control": "no-store"})


def _find(call: Request, request_id: UUID) -> ComplianceRequest:
    requests = ComplianceRequest.objects.filter(chatbot=caller_of(call).chatbot, pk=request_id)
    found = requests.select_related("export").first()
    if found is None:
        raise Problem("not_found", "This chatbot has no such request.")
    return found


def _file_id(call: Request) -> int | None:
    given = call.query_params.get("file")
    if given is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", given):
        raise Problem("invalid", "The parameter file must be a file's number, as in the CSV's file_id.")
    return int(given)


def _file(call: Request, raw: bytes, body: DeletionBody | ExportBody, *, kind: Kind, **options: bool) -> Response:
    caller = caller_of(call)
    filed = operations.submit(
        chatbot=caller.chatbot,
        kind=kind,
        uci_key=body.unique_chatter_identifier_key,
        uci_value=body.unique_chatter_identifier_value,
        origin=ComplianceRequest.Origin.API,
        actor=caller.actor,
        reference=body.reference or "",
        replay=_replay(call, raw),
        **options,
    )
    return _answer(call, filed)


def _replay(call: Request, raw: bytes) -> ReplayKey | None:
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
    )


def _answer(call: Request, request: ComplianceRequest) -> Response:
    caller = caller_of(call)
    path = reverse("compliance-api:request", args=[caller.chatbot.slug, request.pk])
    return Response(
        represent(
            request,
            status_url=call.build_absolute_uri(path),
            shows_key=caller.has_scope(Scope.REQUESTS_READ),
        )
    )


def _as_problem(refused: Refused) -> Problem:
    errors: list[FieldError] = []
    if refused.pointer:
        errors = [FieldError(pointer=refused.pointer, code="invalid", detail=refused.detail)]
    return Problem(refused.code, refused.detail, errors=errors)
