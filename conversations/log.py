"""The conversations log as it is read through the API: by pages, one by one, or by the platform's ids.

What is shown of a conversation comes from one statement, so from one instant: either it was not marked then, or it is
shown as a deleted one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, Func, IntegerField, OuterRef, QuerySet
from django.db.models.functions import Coalesce, JSONObject

from chatbots.models import Chatbot
from common.crypto import digest
from common.db import array, fetch
from common.pagination import BoundedPages
from conversations.models import Conversation, Identity

MOST_IDS = 1_000
# Of one conversation: usually one, two where two people used one window, more where an integration is broken.
MOST_IDENTIFIERS = 100
# What a look-up may hold of comments, which are all that can be long in a conversation.
MOST_BYTES = 16 * 1024 * 1024


class TooLong(Exception):
    """The conversations that were looked up hold more than MOST_BYTES."""


class Entry(NamedTuple):
    """A conversation of the log with the chatters it names, as key and value; a closed one names none."""

    conversation: Conversation
    identifiers: list[dict[str, str]]


class LogPages(BoundedPages):
    """Newest first, by the index `conversation_log` or one of its kind."""

    ordering = ("-started_at", "-id")


# One look-up for each digest; see conversations.rows.
_FIND = """
SELECT found.id, coalesce(octet_length(found.csat_comment), 0)
  FROM unnest(%s::bytea[], %s::bigint[]) AS wanted(digest, chatbot_id)
 CROSS JOIN LATERAL (
       SELECT c.id, c.csat_comment FROM conversations_conversation c
        WHERE c.chatbot_id = wanted.chatbot_id AND c.external_id_digest = wanted.digest LIMIT 1) AS found
"""


def places(
    *,
    chatbot: Chatbot,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
    channel: str | None = None,
    deleted: bool | None = None,
) -> QuerySet[Any, Any]:
    """Return the rows for `LogPages`: begun at `started_after` or later, and earlier than `started_before`.

    By index with `channel`, or with `deleted=True`; with both, what one of them finds is read. With `deleted=False`
    the deleted ones in between are read too.
    """
    found = Conversation.objects.filter(chatbot=chatbot)
    if started_after is not None:
        found = found.filter(started_at__gte=started_after)
    if started_before is not None:
        found = found.filter(started_at__lt=started_before)
    if channel is not None:
        found = found.filter(channel=channel)
    if deleted is not None:
        found = found.filter(deletion_request_id__isnull=not deleted)
    size = Func(F("csat_comment"), function="octet_length", output_field=IntegerField())
    return found.annotate(size=Coalesce(size, 0)).values("started_at", "id", "size")


def read(numbers: Sequence[int], *, chatbot: Chatbot) -> list[Entry]:
    """Return the chatbot's conversations with these numbers, in their order, in one statement."""
    identities = (
        Identity.objects.filter(conversation=OuterRef("pk"))
        # As the index has them, so that no other looks cheaper for the first of a few.
        .order_by("variable_id", "value")
        .values(identifier=JSONObject(key="variable__name", value="value"))
    )
    found = Conversation.objects.filter(chatbot=chatbot, pk__in=numbers).annotate(
        identifiers=ArraySubquery(identities[:MOST_IDENTIFIERS])
    )
    entries = {one.pk: Entry(one, [] if one.is_closed else one.identifiers) for one in found}
    return [entries[number] for number in numbers if number in entries]


def look_up(ids: Sequence[str], *, chatbot: Chatbot) -> list[Entry | None]:
    """Return for each of the platform's ids its conversation, or None. An erased one is found while its digest lives.

    In two statements, for MOST_IDS at most. Raises TooLong.
    """
    digests = [digest("conversation", chatbot.public_id, one) for one in ids]
    found = dict(fetch(_FIND, [digests, array([chatbot.pk] * len(digests))]))
    if sum(found.values()) > MOST_BYTES:
        raise TooLong
    entries = {_digest_of(entry.conversation): entry for entry in read(list(found), chatbot=chatbot)}
    return [entries.get(one) for one in digests]


def _digest_of(conversation: Conversation) -> bytes | None:
    # It can be forgotten between the two statements.
    kept = conversation.external_id_digest
    return None if kept is None else bytes(kept)
