"""The calls that read conversations, as the document of the API tells of them."""

from common.pagination import PageQuery
from config.openapi.describing import Answer, Body, Example, Link, describe, parameters_of
from config.openapi.document import CONVERSATIONS
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
    id="listConversations",
    summary="List conversations",
    description="""
        The conversations log, newest first, in pages: follow `next` until it is null. A deleted conversation stays in
        the log with what is kept of it.

        One that is deleted while you page moves to the midnight of its day, and can so come a second time, as
        deleted; `number` tells. None is left out.
        """,
    tag=CONVERSATIONS,
    parameters=parameters_of(LogQuery),
    answers={
        200: Answer(
            "A page of the log.",
            ConversationLog,
            {"two": Example("One that is open, one deleted", {"results": [_CONVERSATION, _DELETED], **_LAST_PAGE})},
            links={
                "messages": Link(
                    operation_id="listMessages",
                    parameters={"number": "$response.body#/results/0/number"},
                    description="Read the newest.",
                )
            },
        )
    },
    refuses=["invalid"],
)

get_conversation = describe(
    id="getConversation",
    summary="Look at a conversation",
    description="What the log has of one conversation. A deleted one answers with what is kept of it.",
    tag=CONVERSATIONS,
    answers={
        200: Answer(
            "The conversation.",
            LoggedConversation,
            {"open": Example("An open one", _CONVERSATION), "deleted": Example("A deleted one", _DELETED)},
        )
    },
    refuses=["invalid"],
)

look_up_conversations = describe(
    id="lookUpConversations",
    summary="Find conversations by the platform's ids",
    description="""
        Up to 1,000 ids, each answered in order. A deleted conversation is found by its id for as long as a keyed
        digest of it is kept, 90 days unless the operator says otherwise. Where comments are very long, 413
        `too_large` asks for fewer ids at once.
        """,
    tag=CONVERSATIONS,
    bodies=[Body(LookUpBody, {"two": Example("Two ids", {"ids": ["c-2001", "c-1999"]})})],
    answers={
        200: Answer(
            "What was found under each id.",
            FoundConversations,
            {
                "two": Example(
                    "One is stored, one is not",
                    {
                        "results": [
                            {"id": "c-2001", "conversation": _CONVERSATION},
                            {"id": "c-1999", "conversation": None},
                        ]
                    },
                )
            },
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
    id="listMessages",
    summary="Read a transcript",
    description="""
        What was said in a conversation, in order, in pages: follow `next` until it is null. A page ends early where
        messages are long. Of a conversation that is deleted, or marked to be, there is no transcript.
        """,
    tag=CONVERSATIONS,
    parameters=parameters_of(MessagesQuery),
    answers={
        200: Answer(
            "A page of the transcript.",
            Transcript,
            {"one": Example("One message, with a file", {"results": [_SAID], **_LAST_PAGE})},
        )
    },
    refuses=["invalid", "conversation_deleted"],
)

list_files = describe(
    id="listFiles",
    summary="List the files of a conversation",
    description="The stored files of a conversation, also those that came with no message, in the order of coming.",
    tag=CONVERSATIONS,
    parameters=parameters_of(PageQuery),
    answers={
        200: Answer(
            "A page of the files.",
            Files,
            {"one": Example("One file", {"results": [_FILE | {"message_id": "m1"}], **_LAST_PAGE})},
            links={
                "download": Link(
                    operation_id="downloadFile",
                    parameters={
                        "number": "$request.path.number",
                        "file_id": "$response.body#/results/0/file_id",
                    },
                    description="Fetch the first.",
                )
            },
        )
    },
    refuses=["invalid", "conversation_deleted"],
)

download_file = describe(
    id="downloadFile",
    summary="Fetch a file of a conversation",
    description="Leads to the file by a link that works for 5 minutes and needs no key. The change log tells of it.",
    tag=CONVERSATIONS,
    answers={
        302: Answer(
            "Follow `Location`.",
            headers={
                "Location": {
                    "description": "The link. Neither a name nor a value stands in it.",
                    "required": True,
                    "schema": {"type": "string", "format": "uri"},
                    "example": "https://s3.example.com/data-compliance/uploads/3/0b9f...?X-Amz-Signature=...",
                }
            },
        )
    },
    refuses=["invalid", "conversation_deleted"],
)

_WIDGET = {"channel": "widget", "conversations": 120, "deleted": 3}
_OTHERS = [
    {"channel": channel, "conversations": 0, "deleted": 0}
    for channel in Conversation.Channel.values
    if channel != "widget"
]

count_usage = describe(
    id="countUsage",
    summary="Count conversations",
    description="""
        How many conversations began in each UTC month, by channel, from `from` to `to`, both included: the last 12
        months without them, 60 at most. Deleted ones count, and are told apart: a deletion changes `deleted` alone.
        """,
    tag=CONVERSATIONS,
    parameters=parameters_of(UsageQuery),
    answers={
        200: Answer(
            "The counts.",
            Usage,
            {
                "month": Example(
                    "A month with one channel in use",
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
                )
            },
        )
    },
    refuses=["invalid"],
)
