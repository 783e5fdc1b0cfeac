"""The floor of accepting a request: a DRF view that authenticates as the product does and inserts one row."""

from functools import cache
from typing import Any

from django.contrib import admin
from django.urls import path
from django.utils import timezone
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from uuid_utils.compat import uuid7

from chatbots.authentication import SignatureAuthentication, TokenAuthentication, caller_of
from chatbots.models import Variable
from common.crypto import digest
from compliance.models import ComplianceRequest


class FloorView(APIView):
    authentication_classes = [SignatureAuthentication, TokenAuthentication]
    permission_classes = []
    parser_classes = [JSONParser]

    def post(self, request: Request, **_path: str) -> Response:
        """Insert the request as a row and nothing else: no check, replay, change log, nudge or second read."""
        body: Any = request.data
        chatbot = caller_of(request).chatbot
        variable = _variable(chatbot.pk, body["unique_chatter_identifier_key"])
        value = body["unique_chatter_identifier_value"]
        filed = ComplianceRequest.objects.create(
            id=uuid7(),
            chatbot=chatbot,
            variable=variable,
            kind=ComplianceRequest.Kind.DELETION,
            origin=ComplianceRequest.Origin.API,
            filed_by="floor",
            uci_value=value,
            uci_digest=digest("chatter", variable.public_id, value),
            due_at=timezone.now(),
        )
        return Response({"request_id": str(filed.pk), "status": filed.status})


@cache
def _variable(chatbot: int, name: str) -> Variable:
    return Variable.objects.get(chatbot=chatbot, name=name)


urlpatterns = [
    path("api/v1/chatbots/<slug:slug>/data-deletion", FloorView.as_view()),
    # A middleware looks for the page of log-ins there.
    path("admin/", admin.site.urls),
]
