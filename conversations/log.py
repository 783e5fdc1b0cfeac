"""The conversations log of the API: in pages, by number, or by the platform's ids.

One statement reads a conversation, so the result is of one instant: either not yet marked, or deleted.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, Func, IntegerField, OuterRef, QuerySet
from django.db.models.functions import Coalesce, JSONObject
from typing_extensions import TypedDict

from chatbots.models import Chatbot
from common.crypto import digest
from common.db import fetch
from common.pagination import BoundedPages
from conversations.models import Conversation, Identity
from conversations.models.conversations import EARLIEST
from conversations.protection import find_restricted

MAX_IDS = 1_000
# Identities of a conversation: usually one, two if two people used one window, more if an integration is broken.
MAX_IDENTIFIERS = 100
# Bytes of the comments of a look-up. Only comments can be long.
MAX_BYTES = 16 * 1024 * 1024


class TooLarge(Exception):
    """The comments of the conversations that were looked up exceed MAX_BYTES."""


class Identifier(TypedDict):
    """A chatter's Unique Chatter Identifier, its value, and the source of the value."""

    key: str
    value: str
    established_by: str


class LogEntry(NamedTuple):
    """A conversation and its chatters. A closed conversation has none, and neither has a restricted one."""

    conversation: Conversation
    identifiers: list[Identifier]
    is_restricted: bool


class LogPages(BoundedPages):
    """Newest first, by the index `conversation_log` or a similar one."""

    ordering = ("-started_at", "-id")


# One index look-up per digest; see conversations.rows.
_FIND = """
SELECT found.id, coalesce(octet_length(found.csat_comment), 0)
  FROM unnest(%(digests)s::bytea[]) AS wanted(digest)
 CROSS JOIN LATERAL (
       SELECT c.id, c.csat_comment FROM conversations_conversation c
        WHERE c.chatbot_id = %(chatbot)s AND c.external_id_digest = wanted.digest LIMIT 1) AS found
"""


def positions(
    *,
    chatbot: Chatbot,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
    channel: str | None = None,
    deleted: bool | None = None,
) -> QuerySet[Any, Any]:
    """Return the rows for `LogPages`; `started_after` is included, `started_before` excluded.

    There is an index for `channel`, and one for `deleted=True`. With both, one filters the results of the other. With
    `deleted=False`, the deleted ones in between are read too.
    """
    filters = {
        "started_at__gte": started_after,
        "started_at__lt": started_before,
        "channel": channel,
        "deletion_request_id__isnull": None if deleted is None else not deleted,
    }
    found = Conversation.objects.filter(
        chatbot=chatbot,
        started_at__gt=EARLIEST,
        **{name: value for name, value in filters.items() if value is not None},
    )
    size = Func(F("csat_comment"), function="octet_length", output_field=IntegerField())
    return found.annotate(size=Coalesce(size, 0)).values("started_at", "id", "size")


def read(numbers: Sequence[int], *, chatbot: Chatbot) -> list[LogEntry]:
    """Return the chatbot's conversations with these numbers, in their order, in one statement.

    It follows the one that finds restricted ones (`protection`).
    """
    restricted = find_restricted(chatbot.pk, numbers)
    identities = (
        Identity.objects.filter(chatbot=chatbot, conversation=OuterRef("pk"))
        # In the order of the index, so that PostgreSQL does not prefer another one for a few rows.
        .order_by("variable_id", "value")
        .values(identifier=JSONObject(key="variable__name", value="value", established_by="established_by"))
    )
    found = Conversation.objects.filter(chatbot=chatbot, pk__in=numbers).annotate(
        identifiers=ArraySubquery(identities[:MAX_IDENTIFIERS])
    )
    entries = {}
    for one in found:
        is_restricted = one.pk in restricted and not one.is_closed
        identifiers = [] if one.is_closed or is_restricted else one.identifiers
        entries[one.pk] = LogEntry(one, identifiers, is_restricted)
    return [entries[number] for number in numbers if number in entries]


def look_up(ids: Sequence[str], *, chatbot: Chatbot) -> list[LogEntry | None]:
    """Return the conversation of each of the platform's ids, or None. Erased ones are found while their digest is
    kept.

    Three statements, for MAX_IDS at most. Raises TooLarge.
    """
    digests = [digest("conversation", chatbot.public_id, one) for one in ids]
    found = dict(fetch(_FIND, {"digests": digests, "chatbot": chatbot.pk}))
    if sum(found.values()) > MAX_BYTES:
        raise TooLarge
    entries = {
        bytes(entry.conversation.external_id_digest): entry
        for entry in read(list(found), chatbot=chatbot)
        if entry.conversation.external_id_digest is not None  # removed between the two statements
    }
    return [entries.get(one) for one in digests]
