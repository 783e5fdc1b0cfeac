"""Helpers for the tests of daily extracts: days, messages, and the files as read."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.test import override_settings

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.erasure import engine, extracts
from compliance.models import ComplianceRequest
from compliance.work import claims
from compliance.work.sizes import measure
from conversations.extracts import days, leases
from conversations.models import Conversation, DailyExtract
from tests import factories

FIRST = date(2026, 11, 1)


def noon(day: date = FIRST) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def add_messages(conversation: Conversation, *instants: datetime, text: str = "hello") -> None:
    for instant in instants:
        factories.MessageFactory.create(conversation=conversation, text=text, sent_at=instant)


def conversation_on(chatbot: Chatbot, value: str, *instants: datetime, text: str = "hello") -> Conversation:
    """A conversation of a chatter, with a message at each of these instants."""
    conversation = factories.conversation_of(
        chatbot, value, messages=0, message_count=len(instants), started_at=min(instants)
    )
    add_messages(conversation, *instants, text=text)
    return conversation


def planned(chatbot: Chatbot, first: date = FIRST, last: date | None = None) -> list[DailyExtract]:
    days.plan(chatbot.pk, first, last or first)
    return list(DailyExtract.objects.filter(chatbot=chatbot).order_by("day"))


def make_all() -> int:
    """Build all due extracts; return their number."""
    made = 0
    while make_next():
        made += 1
    return made


def make_next() -> bool:
    """Build the next due extract, for any bucket; return whether there was one."""
    if extracts.build_next(settled=False):
        return True
    held = leases.take_for_bucket()
    if held:
        extracts.build(held)
    return held is not None


def extract_of(chatbot: Chatbot, day: date = FIRST) -> DailyExtract:
    return DailyExtract.objects.get(chatbot=chatbot, day=day)


def lines(storage: ObjectStorage, extract: DailyExtract) -> list[dict[str, str]]:
    text = io.StringIO(storage.read(str(extract.key)).decode(), newline="")
    return list(csv.DictReader(text, strict=True))


def texts(storage: ObjectStorage, chatbot: Chatbot, day: date = FIRST) -> set[str]:
    return {line["text"] for line in lines(storage, extract_of(chatbot, day))}


def two_days(chatbot: Chatbot) -> None:
    """Let people talk on two days: alice on both, bob on the first."""
    conversation_on(chatbot, "alice", noon(), noon(day_after(FIRST)), text="words of alice")
    conversation_on(chatbot, "bob", noon() + timedelta(hours=1), text="words of bob")


def two_days_made(chatbot: Chatbot) -> None:
    two_days(chatbot)
    planned(chatbot, FIRST, day_after(FIRST))
    make_all()


def work_on_next() -> None:
    """Run only the next claim of deletions, and build no extract."""
    held = claims.take(ComplianceRequest.Kind.DELETION)
    assert held
    engine.run(held, measure(held), deadline=float("inf"))
    held.release()


def day_after(day: date, number: int = 1) -> date:
    return day + timedelta(days=number)


@contextmanager
def versioned_bucket() -> Iterator[ObjectStorage]:
    """Work in a hosted bucket that keeps every version; empty in the end."""
    with override_settings(S3_BUCKET=f"{settings.S3_BUCKET}-days"):
        storage = hosted_storage()
        storage.create_bucket_if_missing()
        storage.client.put_bucket_versioning(
            Bucket=storage.bucket_name, VersioningConfiguration={"Status": "Enabled"}
        )
        try:
            yield storage
        finally:
            for key in {version.key for version in storage.versions()}:
                storage.purge(key)
