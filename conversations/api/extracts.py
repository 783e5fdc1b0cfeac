"""The daily extracts of a chatbot, and links to hosted ones."""

from datetime import UTC, date, datetime, timedelta

from django.http import HttpResponseRedirect
from drf_spectacular.utils import OpenApiResponse
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView
from chatbots.authentication import caller_of
from chatbots.buckets import hosted_storage
from chatbots.models import ApiKey, Bucket
from common.problems import Problem, invalid_field
from common.query import Day, Query, parse_day, read_query
from common.storage import StorageError
from config.openapi.document import EXTRACTS
from config.openapi.operations import answer, describe, link, location_header, parameters_of
from conversations.api import examples, shapes
from conversations.models import DailyExtract

State = DailyExtract.State

DEFAULT_DAYS = timedelta(days=31)
MAX_DAYS = timedelta(days=366)


class ExtractsQuery(Query):
    first: Day | None = Field(None, alias="from", examples=["2026-11-01"])
    """The first day; at most 366 before `to`."""
    last: Day | None = Field(None, alias="to", examples=["2026-11-30"])
    """The last day."""


class ExtractsView(ChatbotView):
    scope = ApiKey.Scope.CONVERSATIONS_READ

    @describe(
        operation_id="listExtracts",
        summary="List daily extracts",
        description="The days from `from` to `to`, newest first; the last 31 by default.",
        tag=EXTRACTS,
        parameters=parameters_of(ExtractsQuery),
        responses={
            200: answer(
                shapes.Extracts,
                "The extracts.",
                ("one", {"extracts": [examples.EXTRACT]}, "A day with a file in the operator's bucket"),
            )
        },
        refuses=["invalid"],
        links={"download": link("downloadExtract", "Fetch the newest.", day="$response.body#/extracts/0/day")},
    )
    def get(self, request: Request, **_path: str) -> Response:
        query = read_query(request, ExtractsQuery)
        # One day ahead, since the chatbot's time zone can be ahead of UTC.
        last = query.last or datetime.now(UTC).date() + timedelta(days=1)
        first = query.first or max(last, date.min + DEFAULT_DAYS) - DEFAULT_DAYS
        if last - first > MAX_DAYS:
            raise invalid_field("/from", "too_long", f"Ask for {MAX_DAYS.days} days at most.")
        found = DailyExtract.objects.filter(chatbot=caller_of(request).chatbot, day__range=(first, last))
        return Response({"extracts": [shapes.Extract.of(one) for one in found.order_by("-day")]})


class ExtractDownloadView(ChatbotView):
    """Redirects to a link to a hosted file, valid for some minutes."""

    scope = ApiKey.Scope.CONVERSATIONS_READ

    @describe(
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
    def get(self, request: Request, *, day: str, **_path: str) -> HttpResponseRedirect:
        extract = DailyExtract.objects.filter(chatbot=caller_of(request).chatbot, day=_parse_day(day)).first()
        if extract is None:
            raise Problem("not_found", "This chatbot has no extract of that day.")
        if extract.hosting != Bucket.Hosting.HOSTED:
            raise Problem("in_client_bucket", "This extract was delivered into your own bucket.")
        if extract.state == State.EXPIRED:
            raise Problem("extract_expired", "The file has expired.")
        # A stale file contains what has to be erased, so it is no longer available.
        if extract.state != State.DONE:
            raise Problem("not_ready", "The file is being built. Ask again later.")
        try:
            link = hosted_storage().link(str(extract.key), filename=f"{extract.day}_conversations_extract.csv")
        except StorageError:
            raise Problem("unavailable", "The storage cannot be used for now.") from None
        return HttpResponseRedirect(link, headers=self.default_response_headers)


def _parse_day(text: str) -> date:
    try:
        return parse_day(text)
    except ValueError:
        raise invalid_field("/day", "invalid", "Must be a day such as 2026-11-24.") from None
