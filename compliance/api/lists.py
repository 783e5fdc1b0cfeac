"""Find requests again: the chatbot's newest by filter, and those about one chatter or certain conversations."""

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.pagination import CursorPages, PageQuery
from common.query import read_query
from compliance.api import described_lists
from compliance.api.bodies import SelectorBody, parse_as
from compliance.api.calls import ComplianceView, request_objects
from compliance.api.queries import RequestsQuery
from compliance.requests import queries

Scope = ApiKey.Scope


class RequestPages(CursorPages):
    ordering = ("-id",)


class RequestsView(ComplianceView):
    """Pages of the chatbot's requests, the newest first."""

    scope = Scope.REQUESTS_READ

    @described_lists.list_requests
    def get(self, request: Request, **_path: str) -> Response:
        query = read_query(request, RequestsQuery)
        pages = RequestPages(query)
        filters = query.model_dump(exclude=set(PageQuery.model_fields))
        found = pages.paginate_queryset(queries.newest(caller_of(request).chatbot, **filters), request)
        return pages.get_paginated_response(request_objects(request, found))


class LookupView(ComplianceView):
    """The requests about one chatter or certain conversations. A POST: what names them stands in no address."""

    scope = Scope.REQUESTS_READ

    @described_lists.look_up_requests
    def post(self, request: Request, **_path: str) -> Response:
        body = parse_as(SelectorBody, json_body(request))
        found = queries.about(caller_of(request).chatbot, body.about)
        return Response({"results": request_objects(request, found.requests), "left_out": found.left_out})
