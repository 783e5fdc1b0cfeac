"""Counts of conversations: by month and channel for billing, by day for charts, by UCI variable for the settings."""

from collections import Counter
from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import NamedTuple

from django.db.models import Count, Q
from django.db.models.functions import TruncMonth
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from chatbots.models import Chatbot
from common.db import array, fetch
from common.times import midnight
from conversations.models import Conversation
from conversations.placement import by_place

# Counted by the log's index alone. Beyond this number, days are counted from the newest on.
MAX_OF_DAYS = 1_000_000
# Bounds the cost at any size: 100,000 entries of an index take 10 ms after a VACUUM, and 90 ms before it.
MAX_PER_UCI = 100_000

_PER_DAY = """
SELECT (began.started_at AT TIME ZONE %(zone)s)::date AS day, count(*)
  FROM (
    SELECT newest.started_at
      FROM unnest(%(chatbots)s::bigint[]) AS c(id)
     CROSS JOIN LATERAL (
        SELECT v.started_at FROM conversations_conversation v
         WHERE v.chatbot_id = c.id AND v.chatbot_id = ANY(%(chatbots)s)
           AND v.started_at >= %(since)s AND v.started_at < %(until)s
         ORDER BY v.started_at DESC LIMIT %(most)s
     ) AS newest
     LIMIT %(most)s
  ) AS began
 GROUP BY 1
"""

# In the order of the index on (chatbot, variable, digest), so that only this index is used: by the statistics of an
# average variable, reading the whole table could look cheaper. It counts identities, since the index does not contain
# the conversation.
_PER_UCI = """
SELECT variable.id, counted.identities
  FROM chatbots_variable AS variable
 CROSS JOIN LATERAL (
       SELECT count(*) AS identities
         FROM (SELECT 1
                 FROM conversations_identity
                WHERE chatbot_id = %(chatbot)s AND variable_id = variable.id AND variable_id > 0
                ORDER BY chatbot_id, variable_id, digest
                LIMIT %(most)s + 1) AS carried
       ) AS counted
 WHERE variable.chatbot_id = %(chatbot)s AND (variable.is_uci OR variable.was_uci)
"""


_described = with_config(ConfigDict(use_attribute_docstrings=True))


@_described
class ChannelUsage(TypedDict):
    """The number of conversations that began on a channel."""

    channel: Conversation.Channel
    conversations: int
    """Including deleted ones."""
    deleted: int
    """The number of them that are deleted now."""


@_described
class MonthUsage(TypedDict):
    """The number of conversations that began in a month, in UTC."""

    month: str
    channels: list[ChannelUsage]
    """Every channel, in a fixed order."""
    conversations: int
    deleted: int


class DailyCounts(NamedTuple):
    """Days without conversations are left out. `is_whole` is False if only the newest MAX_OF_DAYS were counted."""

    counts: dict[date, int]
    is_whole: bool


class UciCount(NamedTuple):
    """A number of conversations, or MAX_PER_UCI if there are more."""

    conversations: int
    is_more: bool


def by_month(*, chatbot: Chatbot, first: date, last: date) -> list[MonthUsage]:
    """Count the conversations that began in each UTC month from that of `first` to that of `last`.

    Deleted ones count, from their mark on, and are also counted separately. Erasing keeps the day a conversation
    began and its channel, so it changes no number but `deleted`. One statement, by the index on (chatbot,
    started_at): a million conversations take about a second.
    """
    starts, ends = (midnight(day, UTC) for day in (first.replace(day=1), next_month(last)))
    rows = (
        Conversation.objects.filter(chatbot=chatbot, started_at__gte=starts, started_at__lt=ends)
        .values_list(TruncMonth("started_at", tzinfo=UTC), "channel")
        .annotate(conversations=Count("id"), deleted=Count("id", filter=Q(deletion_request_id__isnull=False)))
    )
    counts = {(month.date(), channel): numbers for month, channel, *numbers in rows}
    usage: list[MonthUsage] = []
    month = first.replace(day=1)
    while month <= last:
        channels: list[ChannelUsage] = []
        for channel in Conversation.Channel:
            conversations, deleted = counts.get((month, channel), (0, 0))
            channels.append({"channel": channel, "conversations": conversations, "deleted": deleted})
        usage.append(
            {
                "month": f"{month:%Y-%m}",
                "channels": channels,
                "conversations": sum(one["conversations"] for one in channels),
                "deleted": sum(one["deleted"] for one in channels),
            }
        )
        month = next_month(month)
    return usage


def next_month(day: date) -> date:
    """Return the first day of the month after that of `day`."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def months_before(day: date, count: int) -> date:
    """Return the first day of the month `count` months before that of `day`, at the earliest of the year 1."""
    months = max(day.year * 12 + day.month - 1 - count, 12)
    return date(months // 12, months % 12 + 1, 1)


def conversations_per_day(chatbots: Collection[int], *, zone: str, since: datetime, until: datetime) -> DailyCounts:
    """Count conversations by the day, in a time zone, on which they began, including deleted ones.

    A deleted one keeps its UTC day alone, and counts at that day's first instant.
    """
    counts: Counter[date] = Counter()
    for together in by_place({chatbot: chatbot for chatbot in chatbots}):
        values = {"zone": zone, "since": since, "until": until, "most": MAX_OF_DAYS - counts.total()}
        counts.update(dict(fetch(_PER_DAY, {**values, "chatbots": array(together)})))
    return DailyCounts(dict(counts), counts.total() < MAX_OF_DAYS)


def conversations_by_uci(*, chatbot: Chatbot) -> dict[int, UciCount]:
    """Count the conversations of each present or former UCI, by the variable's id, in one bounded statement.

    A conversation of two people counts twice.
    """
    counts = fetch(_PER_UCI, {"chatbot": chatbot.pk, "most": MAX_PER_UCI})
    return {variable: UciCount(min(count, MAX_PER_UCI), count > MAX_PER_UCI) for variable, count in counts}
