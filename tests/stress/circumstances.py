"""Circumstances: time passes for waiting rows, for claims and for an export, and the storage refuses calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.awsrequest import AWSResponse
from django.db import connection

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from tests.stress.actors import ACTING

_PAST = "clock_timestamp() - interval '1 second'"


def _change(table: str, change: str, where: str = "TRUE", *, of: str = "TRUE") -> int:
    """Change rows except locked ones, which are in use and do not wait. Returns how many it has changed."""
    rows = f"SELECT id FROM {table} WHERE {of} AND {where} FOR UPDATE SKIP LOCKED"
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {change} WHERE {of} AND id IN ({rows})")
        return int(cursor.rowcount)


def hour() -> None:
    """Let an hour pass for all waiting rows."""
    waits = "status = 'accepted' AND not_before > clock_timestamp()"
    _change("compliance_compliancerequest", f"not_before = {_PAST}", waits)
    ages = ", ".join(f"{name} = {name} - interval '1 hour'" for name in ("stale_at", "created_at"))
    _change(
        "conversations_dailyextract",
        f"next_attempt_at = {_PAST}, {ages}",
        "state IN ('pending', 'stale') AND token IS NULL",
    )
    _make_lookups_due("token IS NULL")


def leases() -> None:
    """Let all claims end."""
    _change("compliance_claim", f"expires_at = {_PAST}")
    _change("conversations_dailyextract", f"next_attempt_at = {_PAST}", "token IS NOT NULL")
    _make_lookups_due("token IS NOT NULL")


def week(request_id: str) -> bool:
    """Let the finished export of a request be eight days old. Returns False if it is in use, or not finished."""
    ages = ", ".join(f"{name} = {name} - interval '8 days'" for name in ("finished_at", "expires_at"))
    return _change("compliance_export", ages, "finished_at IS NOT NULL", of=f"request_id = '{request_id}'") > 0


def _make_lookups_due(which: str) -> None:
    for chatbot in Chatbot.objects.order_by("pk"):
        due = f"state = 'pending' AND {which}"
        _change("conversations_identitylookup", f"next_attempt_at = {_PAST}", due, of=f"chatbot_id = {chatbot.pk}")


# --- A storage that refuses some calls, below some prefix, for some time: between botocore and the network ---

# Denied until the rights are repaired, or such that a retry may help. Neither opens the breaker.
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
        """Answer in place of the storage, or return None to let the call pass."""
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
            # Including the last call of a multipart upload: the sent parts are then not published.
            return request.method in {"PUT", "POST"} and "delete" not in query and key.startswith(refusal.prefix)
        if "versions" in query:
            # Evaluated key by key, so that a single key can be refused.
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
