"""A client company with one chatbot: it sends, files and reads through the API only.

Also the actions of an operator: retry, let time pass, run workers, check whether anything is left.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.models import ComplianceRequest, Export
from compliance.requests import decisions
from conversations.models import Conversation, DailyExtract, UploadedFile
from conversations.placement import is_distributed
from tests.calls import TokenCaller
from tests.conversations.forms import file, form, send
from tests.functional.support import dump, everything_in
from tests.statements import TABLES

DAY = date(2026, 11, 1)
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)

# A chatter, by the UCI value, or conversations, by the platform's ids.
Subject = str | list[str]

# Rounds of workers: more than any test needs.
_ROUNDS = 8


def words_in(conversation_id: str) -> str:
    """Return the unique text of a conversation."""
    return f"words in {conversation_id}"


def document(conversation_id: str, *people: str, at: datetime = NOON, **fields: Any) -> dict[str, Any]:
    """Return a document with one message, of one person or an unknown one."""
    variables = {"custom_variables": {"member_id": people[0]}} if people else {}
    message = {
        "id": "m1",
        "sender": "user",
        "kind": "text",
        "text": words_in(conversation_id),
        "sent_at": at.isoformat(),
    }
    base = {"id": conversation_id, "channel": "widget", "started_at": at.isoformat(), "messages": [message]}
    return base | variables | fields


class Company:
    def __init__(self, chatbot: Chatbot) -> None:
        self.chatbot = chatbot
        self.caller = TokenCaller(chatbot)

    def send(self, *documents: dict[str, Any]) -> list[dict[str, Any]]:
        """Send documents, and return their results."""
        answer = self.caller.post("conversations", list(documents))
        assert answer.status_code == 200
        results: list[dict[str, Any]] = answer.json()["results"]
        return results

    def talk(self, conversation_id: str, *people: str, at: datetime = NOON, has_file: bool = False) -> int:
        """Store a conversation of these people, and return its number."""
        sent = self.send(*(document(conversation_id, *one, at=at) for one in [people[:1], *zip(people[1:])]))
        assert {result["error"] for result in sent} == {None}
        number: int = sent[0]["number"]
        if has_file:
            assert self.upload(number, f"picture in {conversation_id}").status_code == 201
        return number

    def upload(self, number: int, content: str) -> Any:
        """Send a file of a conversation, and return the answer."""
        return send(self.caller, number, form(file(content.encode())))

    def delete(self, subject: Subject, **options: bool) -> str:
        return self._file("data-deletion", subject, options)

    def export(self, subject: Subject, **options: bool | str) -> str:
        return self._file("data-export", subject, options)

    def _file(self, path: str, subject: Subject, options: dict[str, Any]) -> str:
        by_uci = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": subject}
        body = by_uci if isinstance(subject, str) else {"conversation_ids": subject}
        answer = self.caller.post(path, body | options)
        assert answer.status_code == 200, answer.text
        request_id: str = answer.json()["request_id"]
        return request_id

    def request_object(self, request_id: str) -> dict[str, Any]:
        """Return the request object."""
        answer: dict[str, Any] = self.caller.get(f"requests/{request_id}").json()
        return answer

    def status(self, request_id: str) -> str:
        return str(self.request_object(request_id)["status"])

    def failure(self, request_id: str) -> str | None:
        """Return the code by which a request has failed, or None."""
        error = self.request_object(request_id)["error"]
        return error["code"] if error else None

    def retry(self, request_id: str) -> None:
        """Retry a failed request if it still has its selector."""
        error = self.request_object(request_id)["error"]
        if error and error["retryable"]:
            decisions.retry(request_id=UUID(request_id), actor="command")

    def is_over(self, request_id: str) -> bool:
        """Return whether it is completed, or failed with a selector that a later deletion has cleared."""
        output = self.request_object(request_id)
        return output["status"] == "completed" or (output["status"] == "failed" and not output["error"]["retryable"])

    def exported(self, subject: Subject, *, age: timedelta = timedelta(), **options: bool | str) -> Export:
        """Return a finished export, as if created `age` ago."""
        request_id = self.export(subject, **options)
        assert not worker.drain(seconds=30)
        assert self.status(request_id) == "completed"
        exports = Export.objects.filter(request_id=UUID(request_id))
        exports.update(finished_at=F("finished_at") - age, expires_at=F("expires_at") - age)
        return exports.get()

    def make_day(self, day: date = DAY) -> DailyExtract:
        """Make the extract of a day."""
        call_command("daily_extract", self.chatbot.slug, "--date", day.isoformat())
        extract = self.extract(day)
        assert extract.state == "done"
        return extract

    def extract(self, day: date = DAY) -> DailyExtract:
        return DailyExtract.objects.get(chatbot=self.chatbot, day=day)


def became(results: Iterable[dict[str, Any]]) -> list[str]:
    """Return the outcome of each document, or its error code."""
    return [result["error"]["code"] if result["error"] else result["outcome"] for result in results]


def attempts(*request_ids: str) -> list[int]:
    """Return how many attempts these requests have lost."""
    found = dict(ComplianceRequest.objects.values_list("pk", "attempts"))
    return [found[UUID(each)] for each in request_ids]


def events(request_id: str) -> list[str]:
    """Return the events of the change log about a request, in order."""
    entries = ChangeLogEntry.objects.filter(request_id=request_id).order_by("pk")
    return list(entries.values_list("event", flat=True))


def let_time_pass() -> None:
    """End the waits of requests and of days."""
    ComplianceRequest.objects.filter(status="accepted").update(not_before=None)
    DailyExtract.objects.filter(token=None).update(next_attempt_at=Now())


def work() -> None:
    """End the waits, and let a worker do all that it can."""
    let_time_pass()
    worker.drain(seconds=30)


def settle() -> None:
    """Run workers until no request is open, up to a limit, and sweeps between them: none after the last."""
    for _ in range(_ROUNDS):
        work()
        if not ComplianceRequest.objects.filter(status__in=["accepted", "processing"]).exists():
            return
        worker.sweep()


def postpone(request_id: str) -> None:
    """Let a request wait until time has passed."""
    ComplianceRequest.objects.filter(pk=request_id).update(not_before=datetime.now(tz=UTC) + timedelta(hours=1))


def travel(age: timedelta) -> None:
    """Move all timestamps of conversations and requests into the past by this time."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT table_name, column_name FROM information_schema.columns
             WHERE table_schema = 'public' AND data_type = 'timestamp with time zone'
               AND (table_name LIKE 'conversations\\_%' OR table_name LIKE 'compliance\\_%')
            """
        )
        tables: dict[str, list[str]] = {}
        for table, column in cursor.fetchall():
            tables.setdefault(table, []).append(column)
        for table, columns in tables.items():
            changes = ", ".join(f"{column} = {column} - interval '{age.total_seconds()} s'" for column in columns)
            if is_distributed() and table in TABLES:
                # Citus hands on no time that is reckoned from a column.
                cursor.execute("SELECT run_command_on_shards(%s, %s)", [table, f"UPDATE %s SET {changes}"])
            else:
                cursor.execute(f"UPDATE {table} SET {changes}")


def is_erased(number: int) -> bool:
    return Conversation.objects.get(pk=number).deleted_at is not None


def key_of_file(number: int) -> str:
    """Return the key of the one file of a conversation."""
    return UploadedFile.objects.get(conversation=number).object_key


def found_anywhere(storage: ObjectStorage, conversation_ids: Iterable[str]) -> set[str]:
    """Return those of these conversations with any text or file in the database or in the bucket."""
    everything = dump() + everything_in(storage)
    return {each for each in conversation_ids if words_in(each) in everything or f"picture in {each}" in everything}
