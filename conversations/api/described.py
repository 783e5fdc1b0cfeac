"""The calls about conversations and daily extracts, as the document of the API tells of them."""

import json
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiRequest, OpenApiResponse

from config.openapi.document import CONVERSATIONS, EXTRACTS
from config.openapi.operations import JSON, describe, link, location_header, parameters_of, problem_example
from conversations.api.bodies import JSON_LINES
from conversations.api.queries import ExtractsQuery
from conversations.api.shapes import Conversations, DocumentResults, Extracts, StoredFile

_DOCUMENT = {
    "id": "c-2001",
    "channel": "widget",
    "language": "en",
    "user_name": "Ada",
    "started_at": "2026-11-23T09:00:00Z",
    "user_channel_variables": {"plan": "gold"},
    "custom_variables": {"member_id": "42"},
    "agent_handover": False,
    "push": False,
    "score": 7.5,
    "csat": {"score": 4, "vote": "positive", "comment": "quick"},
    "messages": [{"id": "m1", "sender": "user", "kind": "text", "text": "hello", "sent_at": "2026-11-23T09:00:01Z"}],
}
_MORE = {"id": "c-2002", "channel": "whatsapp", "started_at": "2026-11-23T10:00:00Z"}
_CREATED = {"id": "c-2001", "number": 17, "outcome": "created", "error": None}
_REFUSED = {"id": "c-2002", "number": None, "outcome": "refused", "error": problem_example("chatter_erased")}

_LINES = {"type": "string", "description": "A document a line, up to 1,000. Empty lines do not count."}

store_conversations = describe(
    operation_id="storeConversations",
    summary="Store conversations",
    description="""
        Each document is stored whole or refused whole; a refused one does not hinder the others. Sent again, a
        document updates: a present field overwrites (but `started_at`, which the first document fixes), an absent one
        stays, a message whose id is known is neither changed nor stored twice. `null` is as absent. A new one needs
        `id`, `channel` and `started_at`.
        """,
    tag=CONVERSATIONS,
    request={
        JSON: OpenApiRequest(
            Conversations,
            examples=[
                OpenApiExample("one", _DOCUMENT, summary="One document"),
                OpenApiExample("list", [_DOCUMENT, _MORE], summary="A list"),
            ],
        ),
        JSON_LINES: OpenApiRequest(
            _LINES,
            examples=[
                OpenApiExample(
                    "two", "".join(f"{json.dumps(one)}\n" for one in (_DOCUMENT, _MORE)), summary="Two documents"
                )
            ],
        ),
    },
    responses={
        200: OpenApiResponse(
            DocumentResults,
            "What became of each document, in order; also when all were refused.",
            examples=[
                OpenApiExample("created", {"results": [_CREATED]}, summary="One was stored"),
                OpenApiExample("refused", {"results": [_CREATED, _REFUSED]}, summary="One was stored, one refused"),
            ],
        )
    },
    links={
        "file": link(
            "storeFile", "Store a file of the first conversation.", number="$response.body#/results/0/number"
        ),
        "conversation": link(
            "getConversation", "Look at the first conversation.", number="$response.body#/results/0/number"
        ),
        "messages": link("listMessages", "Read the first conversation.", number="$response.body#/results/0/number"),
    },
)

_FILE_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "message_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 200,
            "description": "The platform's id of the message that the file came with, which must be stored already. "
            "It must come before `file`.",
        },
        "file": {
            "type": "string",
            "format": "binary",
            "description": "With its file name and its `Content-Type`; once, and last. 25 MiB at most, unless the "
            "operator says otherwise.",
        },
    },
}

store_file = describe(
    operation_id="storeFile",
    summary="Store a file of a conversation",
    description="""
        Takes one file that was uploaded in a conversation. After any answer but 201 nothing of it is kept. Sent again
        it is stored a second time, since two equal files can be meant.
        """,
    tag=CONVERSATIONS,
    request={
        "multipart/form-data": OpenApiRequest(
            _FILE_FORM,
            examples=[
                OpenApiExample(
                    "picture",
                    {"message_id": "m1", "file": "(the bytes of photo.jpg)"},
                    summary="A picture of a message",
                )
            ],
            encoding={"file": {"contentType": ", ".join(settings.UPLOAD_TYPES)}},
        )
    },
    responses={
        201: OpenApiResponse(
            StoredFile,
            "The file is stored, whole.",
            examples=[
                OpenApiExample(
                    "picture",
                    {
                        "file_id": 5,
                        "number": 17,
                        "name": "photo.jpg",
                        "content_type": "image/jpeg",
                        "bytes": 48213,
                        "sha256": "9f2c5a0c2b0b7d9a4f3f0c0d8f0a8b8f6a1f4f1d3b0f0c2f5a7e9d1c3b5a7f90",
                        "message_id": "m1",
                    },
                    summary="A picture of a message",
                )
            ],
        )
    },
    refuses=["conversation_deleted"],
)

list_extracts = describe(
    operation_id="listExtracts",
    summary="List daily extracts",
    description="The days from `from` to `to`, newest first; without them the last 31.",
    tag=EXTRACTS,
    parameters=parameters_of(ExtractsQuery),
    responses={
        200: OpenApiResponse(
            Extracts,
            "The extracts.",
            examples=[
                OpenApiExample(
                    "one",
                    {
                        "extracts": [
                            {
                                "day": "2026-11-23",
                                "state": "done",
                                "starts_at": "2026-11-22T23:00:00.000000Z",
                                "ends_at": "2026-11-23T23:00:00.000000Z",
                                "rows": 1843,
                                "bytes": 402117,
                                "sha256": "4b7a1c0f0e6a4e0d5d6cbe1c9b4b4a7f9a4bd7d7a6a94a35c2d30b9cf1a2f3e8",
                                "hosting": "hosted",
                                "bucket": "data-compliance",
                                "key": "acme/daily_conversations_extracts/2026-11-23_conversations_extract.csv",
                                "finished_at": "2026-11-23T23:10:04.120000Z",
                                "expires_at": "2027-01-02T23:10:04.120000Z",
                                "error": None,
                            }
                        ]
                    },
                    summary="A day whose file lies in the operator's bucket",
                )
            ],
        )
    },
    refuses=["invalid"],
    links={"download": link("downloadExtract", "Fetch the newest.", day="$response.body#/extracts/0/day")},
)

download_extract = describe(
    operation_id="downloadExtract",
    summary="Fetch a daily extract",
    description="Leads to a hosted file by a link that works for 5 minutes and needs no key.",
    tag=EXTRACTS,
    responses={302: OpenApiResponse(None, "Follow `Location`.")},
    refuses=["invalid", "in_client_bucket", "not_ready", "extract_expired"],
    parameters=[
        location_header(
            "The link.",
            example="https://s3.example.com/data-compliance/acme/daily_conversations_extracts/"
            "2026-11-23_conversations_extract.csv?X-Amz-Signature=...",
        )
    ],
)
