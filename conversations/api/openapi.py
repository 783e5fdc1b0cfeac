"""The API document of the calls about conversations and daily extracts."""

import json
from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, OpenApiRequest, OpenApiResponse
from pydantic import RootModel

from common.pagination import PageQuery
from config.openapi.document import CONVERSATIONS, EXTRACTS
from config.openapi.operations import JSON, describe, link, location_header, parameters_of
from conversations.api import examples, schemas
from conversations.api.queries import ExtractsQuery, LogQuery, MessagesQuery, UsageQuery

_FIRST_NUMBER = "$response.body#/results/0/number"

store_conversations = describe(
    operation_id="storeConversations",
    summary="Store conversations",
    description="""
        Each document is stored whole or refused whole; a refused one does not affect the others. A document that is
        sent again updates: a present field overwrites (except `started_at`, which the first document fixes), an
        absent one stays, a message with a known id is neither changed nor stored twice. `null` counts as absent. A
        new conversation needs `id`, `channel` and `started_at`. """,
    tag=CONVERSATIONS,
    request={
        JSON: OpenApiRequest(
            schemas.Conversations,
            examples=[
                OpenApiExample("one", examples.DOCUMENT, summary="One document"),
                OpenApiExample("list", [examples.DOCUMENT, examples.SECOND_DOCUMENT], summary="A list"),
            ],
        ),
        schemas.JSON_LINES: OpenApiRequest(
            {"type": "string", "description": "One document per line, up to 1,000. Empty lines do not count."},
            examples=[
                OpenApiExample(
                    "two",
                    "".join(f"{json.dumps(one)}\n" for one in (examples.DOCUMENT, examples.SECOND_DOCUMENT)),
                    summary="Two documents",
                )
            ],
        ),
    },
    responses={
        200: OpenApiResponse(
            schemas.DocumentResults,
            "The result of each document, in order; also if all were refused.",
            examples=[
                OpenApiExample("created", {"results": [examples.CREATED]}, summary="One stored"),
                OpenApiExample(
                    "refused", {"results": [examples.CREATED, examples.REFUSED]}, summary="One stored, one refused"
                ),
            ],
        )
    },
    links={
        "file": link("storeFile", "Store a file of the first conversation.", number=_FIRST_NUMBER),
        "conversation": link("getConversation", "Get the first conversation.", number=_FIRST_NUMBER),
        "messages": link("listMessages", "Read the first conversation.", number=_FIRST_NUMBER),
    },
)

list_conversations = describe(
    operation_id="listConversations",
    summary="List conversations",
    description="""
        The conversations log, newest first, in pages: follow `next` until it is null. A deleted conversation stays in
        the log with the fields that are kept.

        A conversation that is deleted while you page moves to the midnight of its day, so it can appear a second
        time, as deleted, with the same `number`. None is left out. """,
    tag=CONVERSATIONS,
    parameters=parameters_of(LogQuery),
    responses={
        200: OpenApiResponse(
            schemas.ConversationLog,
            "A page of the log.",
            examples=[
                OpenApiExample(
                    "two",
                    examples.page(examples.CONVERSATION, examples.DELETED_CONVERSATION),
                    summary="One open, one deleted",
                )
            ],
        )
    },
    refuses=["invalid"],
    links={"messages": link("listMessages", "Read the newest.", number=_FIRST_NUMBER)},
)

get_conversation = describe(
    operation_id="getConversation",
    summary="Get a conversation",
    description="One conversation of the log. A deleted one has only the fields that are kept.",
    tag=CONVERSATIONS,
    responses={
        200: OpenApiResponse(
            RootModel[schemas.LoggedConversation],
            "The conversation.",
            examples=[
                OpenApiExample("open", examples.CONVERSATION, summary="An open one"),
                OpenApiExample("deleted", examples.DELETED_CONVERSATION, summary="A deleted one"),
            ],
        )
    },
    refuses=["invalid"],
)

look_up_conversations = describe(
    operation_id="lookUpConversations",
    summary="Find conversations by the platform's ids",
    description="""
        Up to 1,000 ids, with results in the same order. A deleted conversation is found by its id as long as a keyed
        digest of it is kept, 90 days unless the operator says otherwise. If comments are very long, 413 `too_large`
        asks for fewer ids at once.
        """,
    tag=CONVERSATIONS,
    request=OpenApiRequest(
        schemas.LookUpBody, examples=[OpenApiExample("two", {"ids": ["c-2001", "c-1999"]}, summary="Two ids")]
    ),
    responses={
        200: OpenApiResponse(
            schemas.FoundConversations,
            "The conversation of each id, or null.",
            examples=[OpenApiExample("two", examples.LOOKUP, summary="One is stored, one is not")],
        )
    },
)

list_messages = describe(
    operation_id="listMessages",
    summary="Read a transcript",
    description="""
        The messages of a conversation, in order, in pages: follow `next` until it is null. A page ends early if
        messages are long. A conversation that is deleted, or marked for deletion, has no transcript.
        """,
    tag=CONVERSATIONS,
    parameters=parameters_of(MessagesQuery),
    responses={
        200: OpenApiResponse(
            schemas.Transcript,
            "A page of the transcript.",
            examples=[OpenApiExample("one", examples.page(examples.MESSAGE), summary="One message, with a file")],
        )
    },
    refuses=["invalid", "conversation_deleted"],
)

list_files = describe(
    operation_id="listFiles",
    summary="List the files of a conversation",
    description="The stored files of a conversation, with or without a message, in the order in which they came.",
    tag=CONVERSATIONS,
    parameters=parameters_of(PageQuery),
    responses={
        200: OpenApiResponse(
            schemas.Files,
            "A page of the files.",
            examples=[OpenApiExample("one", examples.page(examples.FILE_OF_MESSAGE), summary="One file")],
        )
    },
    refuses=["invalid", "conversation_deleted"],
    links={
        "download": link(
            "downloadFile",
            "Fetch the first.",
            number="$request.path.number",
            file_id="$response.body#/results/0/file_id",
        )
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
        Takes one file that was uploaded in a conversation. After any response but 201 nothing of it is kept. A file
        that is sent again is stored a second time, since two equal files can be intended.
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
            RootModel[schemas.StoredFile],
            "The file is stored.",
            examples=[
                OpenApiExample("picture", examples.FILE_OF_MESSAGE | {"number": 17}, summary="A picture of a message")
            ],
        )
    },
    refuses=["conversation_deleted"],
)

download_file = describe(
    operation_id="downloadFile",
    summary="Fetch a file of a conversation",
    description="Redirects to a link that works for 5 minutes and needs no key. It is recorded in the change log.",
    tag=CONVERSATIONS,
    responses={302: OpenApiResponse(None, "Follow `Location`.")},
    refuses=["invalid", "conversation_deleted"],
    parameters=[
        location_header(
            "The link. It contains neither a name nor a value.",
            example="https://s3.example.com/data-compliance/uploads/3/0b9f...?X-Amz-Signature=...",
        )
    ],
)

count_usage = describe(
    operation_id="countUsage",
    summary="Count conversations",
    description="""
        The number of conversations that began in each UTC month, by channel, from `from` to `to`, both included: the
        last 12 months by default, 60 at most. Deleted ones count, and are also counted separately: a deletion changes
        only `deleted`.
        """,
    tag=CONVERSATIONS,
    parameters=parameters_of(UsageQuery),
    responses={
        200: OpenApiResponse(
            schemas.Usage,
            "The counts.",
            examples=[OpenApiExample("month", examples.USAGE, summary="A month with one channel in use")],
        )
    },
    refuses=["invalid"],
)

list_extracts = describe(
    operation_id="listExtracts",
    summary="List daily extracts",
    description="The days from `from` to `to`, newest first; the last 31 by default.",
    tag=EXTRACTS,
    parameters=parameters_of(ExtractsQuery),
    responses={
        200: OpenApiResponse(
            schemas.Extracts,
            "The extracts.",
            examples=[
                OpenApiExample(
                    "one", {"extracts": [examples.EXTRACT]}, summary="A day with a file in the operator's bucket"
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
    description="Redirects to a hosted file by a link that works for 5 minutes and needs no key.",
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
