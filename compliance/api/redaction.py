"""Redact messages of a conversation, and its CSAT comment."""

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from compliance.api.base import ComplianceView, respond_with
from compliance.api.bodies import RedactionBody, parse
from compliance.api.callbacks import REQUEST_CHANGED
from compliance.api.examples import links
from compliance.api.examples import request as example
from compliance.api.schemas import RequestObject
from compliance.models import ComplianceRequest
from compliance.redaction.filing import redact
from config.openapi.document import CONVERSATIONS
from config.openapi.operations import answer, describe, takes

_FILED = example(
    "redaction",
    selector="messages",
    redaction={
        "number": 17,
        "messages": 1,
        "csat_comment": False,
        "reason": "payment_data",
        "removed_exports": [],
        "removed_exports_total": 0,
    },
)


class RedactView(ComplianceView):
    """Accepts tokens only: a signature does not cover the path, which identifies the conversation."""

    scope = ApiKey.Scope.MESSAGES_REDACT

    @describe(
        operation_id="redactMessages",
        summary="Redact messages",
        description="""
            Removes the text and the files of single messages, such as one with a card number. The messages stay, with
            time and sender, as `"kind": "redacted"`; sent again they stay so. With `csat_comment` also the comment of
            the conversation's CSAT, or that alone: score and vote stay, and no comment is stored in the conversation
            any more. The response comes at once; workers do the rest. Hosted exports that hold the conversation are
            removed and filed again, and hosted daily extracts are rebuilt. It is not an error if a message or the
            comment is redacted already.
            """,
        tag=CONVERSATIONS,
        request=takes(
            RedactionBody,
            ("one", {"ids": ["m1"], "reason": "payment_data"}, "A card number"),
            ("comment", {"ids": [], "csat_comment": True, "reason": "other_person"}, "The CSAT comment alone"),
            (
                "all_fields",
                {
                    "ids": ["m1", "m2"],
                    "csat_comment": True,
                    "reason": "credentials",
                    "reference": "TICKET-7",
                    "callback_url": "https://hooks.example.com/privacy",
                },
                "With your ticket's number, and callbacks to an address of its own",
            ),
        ),
        responses={200: answer(RequestObject, "The request.", ("accepted", _FILED, "Just filed"))},
        refuses=["compliance_disabled", "conversation_deleted", "signing_key_missing"],
        callbacks=[REQUEST_CHANGED],
        links=links("follow", "callbacks"),
    )
    def post(self, request: Request, *, number: int, **_path: str) -> Response:
        body = parse(RedactionBody, json_body(request))
        caller = caller_of(request)
        filed = redact(
            chatbot=caller.chatbot,
            number=number,
            ids=body.ids,
            csat_comment=body.csat_comment or False,
            reason=body.reason,
            origin=ComplianceRequest.Origin.API,
            actor=caller.actor,
            reference=body.reference or "",
            callback_url=body.callback_url or "",
            requested_at=body.requested_at or "",
        )
        return respond_with(request, filed)
