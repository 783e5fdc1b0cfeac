"""The parameters of the calls about conversations and daily extracts."""

from pydantic import Field

from common.pagination import PageQuery
from common.query import Day, Flag, Month, Query, Whole
from common.times import Instant
from conversations.models import Conversation


class LogQuery(PageQuery):
    """`started_after` is included, `started_before` is not: windows that follow each other share nothing."""

    started_after: Instant | None = Field(None, examples=["2026-11-01T00:00:00Z"])
    """Conversations that began then or later."""
    started_before: Instant | None = Field(None, examples=["2026-12-01T00:00:00Z"])
    """Conversations that began earlier."""
    channel: Conversation.Channel | None = Field(None, examples=["whatsapp"])
    """Conversations of this channel."""
    deleted: Flag | None = Field(None, examples=[True])
    """`true`: deleted ones alone. `false`: those that are not."""


class MessagesQuery(PageQuery):
    limit: Whole = Field(200, ge=1, le=1_000, examples=[200])
    """The most messages of a page. Where they are long a page holds fewer."""


class UsageQuery(Query):
    """Both months are included."""

    first: Month | None = Field(None, alias="from", examples=["2026-01"])
    """The first month; without it the twelfth, counted back from the last."""
    last: Month | None = Field(None, alias="to", examples=["2026-11"])
    """The last month; without it the present one."""


class ExtractsQuery(Query):
    first: Day | None = Field(None, alias="from", examples=["2026-11-01"])
    """The first day; at most 366 before `to`."""
    last: Day | None = Field(None, alias="to", examples=["2026-11-30"])
    """The last day."""
