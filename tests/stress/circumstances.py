"""What happens to the service: time passes for what waits, for claims and for an export, and the storage refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.awsrequest import AWSResponse
from django.db import connection

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from tests.stress.actors import ACTING

# An hour passes for everything that waits. Locked rows are in use, and wait for nothing.
_HOUR_PASSES = """
UPDATE compliance_compliancerequest SET not_before = clock_timestamp() - interval '1 second'
 WHERE id IN (SELECT id FROM compliance_compliancerequest
               WHERE status = 'accepted' AND not_before > clock_timestamp() FOR UPDATE SKIP LOCKED);
UPDATE conversations_dailyextract
   SET next_attempt_at = clock_timestamp(), stale_at = stale_at - interval '1 hour',
       created_at = created_at - interval '1 hour'
 WHERE id IN (SELECT id FROM conversations_dailyextract
               WHERE state IN ('pending', 'stale') AND token IS NULL FOR UPDATE SKIP LOCKED)
"""
_LEASES_END = """
UPDATE compliance_claim SET expires_at = clock_timestamp() - interval '1 second'
 WHERE id IN (SELECT id FROM compliance_claim FOR UPDATE SKIP LOCKED);
UPDATE conversations_dailyextract SET next_attempt_at = clock_timestamp() - interval '1 second'
 WHERE id IN (SELECT id FROM conversations_dailyextract WHERE token IS NOT NULL FOR UPDATE SKIP LOCKED)
"""
_LOOKUPS_ARE_DUE = """
UPDATE conversations_identitylookup SET next_attempt_at = statement_timestamp() - interval '1 second'
 WHERE chatbot_id = %(chatbot)s AND id IN (
       SELECT id FROM conversations_identitylookup
        WHERE chatbot_id = %(chatbot)s AND state = 'pending' AND (token IS NOT NULL) = %(taken)s
          FOR UPDATE SKIP LOCKED)
"""
_WEEK_PASSES = """
UPDATE compliance_export
   SET finished_at = finished_at - interval '8 days', expires_at = expires_at - interval '8 days'
 WHERE request_id = %s AND finished_at IS NOT NULL
"""


def hour() -> None:
    _execute(_HOUR_PASSES)
    _make_lookups_due(taken=False)


def leases() -> None:
    _execute(_LEASES_END)
    _make_lookups_due(taken=True)


def week(request_id: str) -> None:
    """Let the export of a request be eight days old."""
    _execute(_WEEK_PASSES, request_id)


def _make_lookups_due(*, taken: bool) -> None:
    for chatbot in Chatbot.objects.order_by("pk"):
        with connection.cursor() as cursor:
            cursor.execute(_LOOKUPS_ARE_DUE, {"chatbot": chatbot.pk, "taken": taken})


def _execute(statements: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statements, values or None)


# --- A storage that refuses some calls, below some prefix, for some time: between botocore and the network ---

# Denied for good until somebody mends it, or such that trying again may help. Neither opens the breaker.
ANSWERS = {"denied": (403, "AccessDenied"), "busy": (409, "OperationAborted")}


class Refusal(NamedTuple):
    """`does` is `remove` or `write`; `how` one of ANSWERS."""

    prefix: str
    does: str
    how: str


class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self, *_args: Any, **_options: Any) -> Iterator[bytes]:
        yield self._data


class Faults:
    """The current refusals, for all actors (`ACTING`)."""

    def __init__(self, bucket: str) -> None:
        self.refusals: list[Refusal] = []
        self._root = f"/{bucket}/"

    def before_send(self, request: Any, **_options: Any) -> AWSResponse | None:
        """Answer in place of the storage, or let the call go on by returning None."""
        actor = ACTING.get()
        if actor is None:
            return None
        actor.step()
        url = urlsplit(request.url)
        query = parse_qs(url.query, keep_blank_values=True)
        key = unquote(url.path).removeprefix(self._root)
        for refusal in self.refusals:
            if self._meets(refusal, request, query, key):
                return self._answer(request, refusal.how)
        return None

    def _meets(self, refusal: Refusal, request: Any, query: dict[str, list[str]], key: str) -> bool:
        if refusal.does == "write":
            # The last call of a multipart upload among them: what is sent is then not published.
            return request.method in {"PUT", "POST"} and "delete" not in query and key.startswith(refusal.prefix)
        if "versions" in query:
            # Asked key by key, so that one key alone can be refused.
            return query.get("prefix", [""])[0].startswith(refusal.prefix)
        return "delete" in query and refusal.prefix.encode() in bytes(request.body or b"")

    def _answer(self, request: Any, how: str) -> AWSResponse:
        status, code = ANSWERS[how]
        body = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
        return AWSResponse(request.url, status, {"content-type": "application/xml"}, _Body(body))


@contextmanager
def installed(storage: ObjectStorage) -> Iterator[Faults]:
    faults = Faults(storage.bucket_name)
    events = storage.client.meta.events
    events.register("before-send.s3", faults.before_send)
    try:
        yield faults
    finally:
        events.unregister("before-send.s3", faults.before_send)
