"""The daily extracts: which there are, and a link to a hosted one."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpResponseRedirect
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import ChatbotView
from chatbots.authentication import caller_of
from chatbots.buckets import hosted_storage
from chatbots.models import ApiKey, Bucket
from common.problems import FieldError, Problem
from common.query import parse_day, read_query
from common.storage import StorageError
from common.times import rfc3339
from conversations.api import described
from conversations.api.queries import ExtractsQuery
from conversations.models import DailyExtract

State = DailyExtract.State

# So many days are listed, counted back from the last.
DEFAULT_DAYS = timedelta(days=31)
MOST_DAYS = timedelta(days=366)


class ExtractsView(ChatbotView):
    """Answers with the days from `from` to `to`, newest first; without them with the last 31."""

    scope = ApiKey.Scope.CONVERSATIONS_READ

    @described.list_extracts
    def get(self, request: Request, **_path: str) -> Response:
        query = read_query(request, ExtractsQuery)
        # A day ahead: the chatbot's time zone may be, too.
        last = query.last or datetime.now(UTC).date() + timedelta(days=1)
        first = query.first or max(last, date.min + DEFAULT_DAYS) - DEFAULT_DAYS
        if last - first > MOST_DAYS:
            raise _invalid("from", "too_long", f"Ask for {MOST_DAYS.days} days at most.")
        found = DailyExtract.objects.filter(chatbot=caller_of(request).chatbot, day__range=(first, last))
        return Response({"extracts": [represent(extract) for extract in found.order_by("-day")]})


class ExtractDownloadView(ChatbotView):
    """Redirects to a link that opens a hosted file for some minutes."""

    scope = ApiKey.Scope.CONVERSATIONS_READ

    @described.download_extract
    def get(self, request: Request, *, day: str, **_path: str) -> HttpResponseRedirect:
        extract = DailyExtract.objects.filter(chatbot=caller_of(request).chatbot, day=_parsed(day)).first()
        if extract is None:
            raise Problem("not_found", "This chatbot has no extract of that day.")
        if extract.hosting != Bucket.Hosting.HOSTED:
            raise Problem("in_client_bucket", "This extract was delivered into your own bucket.")
        if extract.state == State.EXPIRED:
            raise Problem("extract_expired", "The file's days are over.")
        # A stale file holds what has to go, and is not handed out any more.
        if extract.state != State.DONE:
            raise Problem("not_ready", "The file is being made, or made again. Ask again later.")
        try:
            link = hosted_storage().link(str(extract.key), filename=f"{extract.day}_conversations_extract.csv")
        except StorageError:
            raise Problem("unavailable", "The storage cannot be used for now.") from None
        return HttpResponseRedirect(link, headers=self.default_response_headers)


def represent(extract: DailyExtract) -> dict[str, Any]:
    """Return an extract in the words of the contract; of its file what lies in the bucket now."""
    is_hosted = extract.hosting == Bucket.Hosting.HOSTED
    return {
        "day": extract.day.isoformat(),
        "state": extract.state,
        "starts_at": rfc3339(extract.starts_at),
        "ends_at": rfc3339(extract.ends_at),
        "rows": extract.rows,
        "bytes": extract.bytes,
        "sha256": extract.sha256,
        "hosting": extract.hosting,
        "bucket": settings.S3_BUCKET if is_hosted else extract.bucket,
        "key": extract.key,
        "finished_at": rfc3339(extract.finished_at),
        "expires_at": rfc3339(extract.expires_at),
        "error": {"code": extract.error_code, "detail": extract.error_detail} if extract.error_code else None,
    }


def _parsed(text: str) -> date:
    try:
        return parse_day(text)
    except ValueError:
        raise _invalid("day", "invalid", "Must be a day such as 2026-11-24.") from None


def _invalid(name: str, code: str, detail: str) -> Problem:
    return Problem("invalid", detail, errors=[FieldError(pointer=f"/{name}", code=code, detail=detail)])
