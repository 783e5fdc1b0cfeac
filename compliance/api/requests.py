"""Follow requests and fetch what exports have made."""

import re
from http import HTTPStatus
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.problems import Problem
from compliance.api import described
from compliance.api.calls import ComplianceView, answer_with, find_request
from compliance.requests import operations

Scope = ApiKey.Scope


class RequestView(ComplianceView):
    scope = Scope.REQUESTS_READ

    @described.get_request
    def get(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        return answer_with(request, find_request(request, request_id))


class DownloadView(ComplianceView):
    """Leads to the file of a hosted export, or with `file` to the copy of an uploaded file beside it."""

    scope = Scope.REQUESTS_READ

    @described.download_export
    def get(self, request: Request, *, request_id: UUID, **_path: str) -> Response:
        found = find_request(request, request_id)
        link = operations.download_link(found, actor=caller_of(request).actor, file_id=_file_id(request))
        return Response(status=HTTPStatus.FOUND, headers={"Location": link, "Cache-Control": "no-store"})


def _file_id(call: Request) -> int | None:
    given = call.query_params.get("file")
    if given is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", given):
        raise Problem("invalid", "The parameter file must be a file's number, as in the CSV's file_id.")
    return int(given)
