"""The calls that read conversations, as the document of the API tells of them."""

from drf_spectacular.utils import OpenApiExample, OpenApiRequest, OpenApiResponse

from common.pagination import PageQuery
from config.openapi.document import CONVERSATIONS
from config.openapi.operations import describe, link, location_header, parameters_of
from conversations.api.bodies import LookUpBody
from conversations.api.queries import LogQuery, MessagesQuery, UsageQuery
from conversations.api.shapes import ConversationLog, Files, FoundConversations, LoggedConversation, Transcript, Usage
from conversations.models import Conversation

_CONVERSATION = {
    "number": 17,
    "id": "c-2001",
    "deleted": False,
    "label": None,
    "deletion_request_id": None,
    "channel": "widget",
    "language": "en",
    "user_name": "Ada",
    "started_at": "2026-11-23T09:00:00.000000Z",
    "last_message_at": "2026-11-23T09:00:01.000000Z",
    "message_count": 1,
    "file_upload": True,
    "agent_handover": False,
    "push": False,
    "score": 7.5,
    "csat": {"score": 4, "vote": "positive", "comment": "quick"},
    "unique_chatter_identifiers": [{"key": "member_id", "value": "42"}],
}
_DELETED = _CONVERSATION | {
    "number": 16,
    "id": None,
    "deleted": True,
    "label": "Deleted conversation",
    "deletion_request_id": "01a20e4f-2ccd-727b-ad28-e544e31ea60e",
    "language": None,
    "user_name": None,
    "started_at": "2026-11-23T00:00:00.000000Z",
    "last_message_at": None,
    "message_count": None,
    "csat": {"score": 4, "vote": "positive", "comment": None},
    "unique_chatter_identifiers": [],
}
_LAST_PAGE = {"next": None, "previous": None}

list_conversations = describe(
    operation_id="listConversations",
    summary="List conversations",
    description="""
        The conversations log, newest first, in pages: follow `next` until it is null. A deleted conversation stays in
        the log with what is kept of it.

        One that is deleted while you page moves to the midnight of its day, and can so come a second time, as
        deleted; `number` tells. None is left out.
        """,
    tag=CONVERSATIONS,
    parameters=parameters_of(LogQuery),
    responses={
        200: OpenApiResponse(
            ConversationLog,
            "A page of the log.",
            examples=[
                OpenApiExample(
                    "two",
                    {"results": [_CONVERSATION, _DELETED], **_LAST_PAGE},
                    summary="One that is open, one deleted",
                )
            ],
        )
    },
    refuses=["invalid"],
    links={"messages": link("listMessages", "Read the newest.", number="$response.body#/results/0/number")},
)

get_conversation = describe(
    operation_id="getConversation",
    summary="Look at a conversation",
    description="What the log has of one conversation. A deleted one answers with what is kept of it.",
    tag=CONVERSATIONS,
    responses={
        200: OpenApiResponse(
            LoggedConversation,
            "The conversation.",
            examples=[
                OpenApiExample("open", _CONVERSATION, summary="An open one"),
                OpenApiExample("deleted", _DELETED, summary="A deleted one"),
            ],
        )
    },
    refuses=["invalid"],
)

look_up_conversations = describe(
    operation_id="lookUpConversations",
    summary="Find conversations by the platform's ids",
    description="""
        Up to 1,000 ids, each answered in order. A deleted conversation is found by its id for as long as a keyed
        digest of it is kept, 90 days unless the operator says otherwise. Where comments are very long, 413
        `too_large` asks for fewer ids at once.
        """,
    tag=CONVERSATIONS,
    request=OpenApiRequest(
        LookUpBody, examples=[OpenApiExample("two", {"ids": ["c-2001", "c-1999"]}, summary="Two ids")]
    ),
    responses={
        200: OpenApiResponse(
            FoundConversations,
            "What was found under each id.",
            examples=[
                OpenApiExample(
                    "two",
                    {
                        "results": [
                            {"id": "c-2001", "conversation": _CONVERSATION},
                            {"id": "c-1999", "conversation": None},
                        ]
                    },
                    summary="One is stored, one is not",
                )
            ],
        )
    },
)

_FILE = {
    "file_id": 5,
    "name": "photo.jpg",
    "content_type": "image/jpeg",
    "bytes": 48213,
    "sha256": "9f2c5a0c2b0b7d9a4f3f0c0d8f0a8b8f6a1f4f1d3b0f0c2f5a7e9d1c3b5a7f90",
}
_SAID = {
    "id": "m1",
    "sender": "user",
    "kind": "text",
    "text": "hello",
    "sent_at": "2026-11-23T09:00:01.000000Z",
    "files": [_FILE],
}

list_messages = describe(
    operation_id="listMessages",
    summary="Read a transcript",
    description="""
        What was said in a conversation, in order, in pages: follow `next` until it is null. A page ends early where
        messages are long. Of a conversation that is deleted, or marked to be, there is no transcript.
        """,
    tag=CONVERSATIONS,
    parameters=parameters_of(MessagesQuery),
    responses={
        200: OpenApiResponse(
            Transcript,
            "A page of the transcript.",
            examples=[OpenApiExample("one", {"results": [_SAID], **_LAST_PAGE}, summary="One message, with a file")],
        )
    },
    refuses=["invalid", "conversation_deleted"],
)

list_files = describe(
    operation_id="listFiles",
    summary="List the files of a conversation",
    description="The stored files of a conversation, also those that came with no message, in the order of coming.",
    tag=CONVERSATIONS,
    parameters=parameters_of(PageQuery),
    responses={
        200: OpenApiResponse(
            Files,
            "A page of the files.",
            examples=[
                OpenApiExample("one", {"results": [_FILE | {"message_id": "m1"}], **_LAST_PAGE}, summary="One file")
            ],
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

download_file = describe(
    operation_id="downloadFile",
    summary="Fetch a file of a conversation",
    description="Leads to the file by a link that works for 5 minutes and needs no key. The change log tells of it.",
    tag=CONVERSATIONS,
    responses={302: OpenApiResponse(None, "Follow `Location`.")},
    refuses=["invalid", "conversation_deleted"],
    parameters=[
        location_header(
            "The link. Neither a name nor a value stands in it.",
            example="https://s3.example.com/data-compliance/uploads/3/0b9f...?X-Amz-Signature=...",
        )
    ],
)

_WIDGET = {"channel": "widget", "conversations": 120, "deleted": 3}
_OTHERS = [
    {"channel": channel, "conversations": 0, "deleted": 0}
    for channel in Conversation.Channel.values
    if channel != "widget"
]

count_usage = describe(
    operation_id="countUsage",
    summary="Count conversations",
    description="""
        How many conversations began in each UTC month, by channel, from `from` to `to`, both included: the last 12
        months without them, 60 at most. Deleted ones count, and are told apart: a deletion changes `deleted` alone.
        """,
    tag=CONVERSATIONS,
    parameters=parameters_of(UsageQuery),
    responses={
        200: OpenApiResponse(
            Usage,
            "The counts.",
            examples=[
                OpenApiExample(
                    "month",
                    {
                        "from": "2026-11",
                        "to": "2026-11",
                        "months": [
                            {
                                "month": "2026-11",
                                "channels": [_WIDGET, *_OTHERS],
                                "conversations": 120,
                                "deleted": 3,
                            }
                        ],
                    },
                    summary="A month with one channel in use",
                )
            ],
        )
    },
    refuses=["invalid"],
)
