"""Counts of conversations by month and channel."""

from datetime import UTC, date, datetime

from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.problems import invalid_field
from common.query import Month, Query, read_query
from config.openapi.document import CONVERSATIONS
from config.openapi.operations import answer, describe, parameters_of
from conversations import usage
from conversations.api import examples, shapes

DEFAULT_MONTHS = 12
MAX_MONTHS = 60


class UsageQuery(Query):
    """Both months are included."""

    first: Month | None = Field(None, alias="from", examples=["2026-01"])
    """The first month; without it the twelfth, counted back from the last."""
    last: Month | None = Field(None, alias="to", examples=["2026-11"])
    """The last month; without it the present one."""


class UsageView(ChatbotView):
    scope = ApiKey.Scope.CONVERSATIONS_READ
    takes_long = ["GET", "HEAD"]

    @describe(
        operation_id="countUsage",
        summary="Count conversations",
        description="""
            The number of conversations that began in each UTC month, by channel, from `from` to `to`, both
            included: the last 12 months by default, 60 at most. Deleted ones count, and are also counted
            separately: a deletion changes only `deleted`.
            """,
        tag=CONVERSATIONS,
        parameters=parameters_of(UsageQuery),
        responses={
            200: answer(shapes.Usage, "The counts.", ("month", examples.USAGE, "A month with one channel in use"))
        },
        refuses=["invalid"],
    )
    def get(self, request: Request, **_path: str) -> Response:
        query = read_query(request, UsageQuery)
        last = query.last or datetime.now(UTC).date().replace(day=1)
        first = query.first or usage.months_before(last, DEFAULT_MONTHS - 1)
        _check_months(first, last)
        months = usage.by_month(chatbot=caller_of(request).chatbot, first=first, last=last)
        return Response({"from": f"{first:%Y-%m}", "to": f"{last:%Y-%m}", "months": months})


def _check_months(first: date, last: date) -> None:
    if first > last:
        detail = "Must not be later than the month in to (the present one, if left out)."
        raise invalid_field("/from", "out_of_range", detail)
    if usage.months_before(last, MAX_MONTHS - 1) > first:
        raise invalid_field("/from", "too_long", f"Ask for {MAX_MONTHS} months at most.")
