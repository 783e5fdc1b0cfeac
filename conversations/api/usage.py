"""How many conversations took place."""

from datetime import UTC, date, datetime

from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView
from chatbots.authentication import caller_of
from chatbots.models import ApiKey
from common.problems import FieldError, Problem
from common.query import read_query
from conversations import usage
from conversations.api import described_log, representation
from conversations.api.queries import UsageQuery

DEFAULT_MONTHS = 12
MOST_MONTHS = 60


class UsageView(ChatbotView):
    """Counts by UTC month and channel; without `from` and `to` the last 12 months."""

    scope = ApiKey.Scope.CONVERSATIONS_READ

    @described_log.count_usage
    def get(self, request: Request, **_path: str) -> Response:
        query = read_query(request, UsageQuery)
        last = query.last or datetime.now(UTC).date().replace(day=1)
        first = query.first or usage.months_before(last, DEFAULT_MONTHS - 1)
        _check(first, last)
        months = usage.by_month(chatbot=caller_of(request).chatbot, first=first, last=last)
        return Response(
            {
                "from": f"{first:%Y-%m}",
                "to": f"{last:%Y-%m}",
                "months": [representation.usage(month) for month in months],
            }
        )


def _check(first: date, last: date) -> None:
    if first > last:
        raise _refused("out_of_range", "Must not be later than the month in to (the present one, if left out).")
    if usage.months_before(last, MOST_MONTHS - 1) > first:
        raise _refused("too_long", f"Ask for {MOST_MONTHS} months at most.")


def _refused(code: str, detail: str) -> Problem:
    return Problem("invalid", detail, errors=[FieldError(pointer="/from", code=code, detail=detail)])
