"""Helpers for the tests of `reconcile_storage`: the call, and objects with their rows."""

from datetime import timedelta
from typing import Any

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.models import Export
from conversations import uploads
from conversations.models import DailyExtract, UploadedFile
from tests import factories
from tests.commands import report
from tests.factories import NOON, conversation_of

EXPORT = "acme/chatter_data_exports/erin%40example.org/20261101_120000_conversation_export.csv"
COPY = "acme/chatter_data_exports/erin%40example.org/20261101_120000_conversation_export_files/7"
EXTRACT = "acme/daily_conversations_extracts/2026-11-01_conversations_extract.csv"


ORPHANS = [
    "uploads/0/0af3",
    "uploads/none/0af3",
    "acme/chatter_data_exports/erin%40example.org/20261101_120000_conversation_export_2.csv",
    "acme/daily_conversations_extracts/2026-11-02_conversations_extract.csv",
    "erasure_ledger/2020-01-01/0af3.json",
]
FOREIGN = ["acme/notes.txt", "stranger/chatter_data_exports/1/a.csv", "photo.jpg", "uploads.txt"]


def reconcile(*options: str, code: int = 0) -> dict[str, Any]:
    return report("reconcile_storage", *options, code=code)


def put(storage: ObjectStorage, *keys: str) -> None:
    for key in keys:
        storage.put(key, b"lines", "text/csv")


def keys(storage: ObjectStorage) -> list[str]:
    return [version.key for version in storage.versions()]


def export_with(chatbot: Chatbot, key: str | None, **fields: Any) -> Export:
    request = factories.RequestFactory.create(
        chatbot=chatbot, kind="export", status="completed", result="done", completed_at=NOON, uci_value=None
    )
    finished = {"rows": 1, "bytes": 5, "sha256": "0" * 64, "finished_at": NOON}
    return factories.ExportFactory.create(request=request, key=key, **(finished | fields))


def extract_with(chatbot: Chatbot, key: str, **fields: Any) -> DailyExtract:
    done: dict[str, Any] = {
        "state": "done", "rows": 1, "bytes": 5, "sha256": "0" * 64, "finished_at": NOON, "made_version": 1,
        "day": NOON.date(), "starts_at": NOON, "ends_at": NOON + timedelta(days=1),
    }  # fmt: skip
    return DailyExtract.objects.create(chatbot=chatbot, key=key, **(done | fields))


def file_of(chatbot: Chatbot) -> UploadedFile:
    conversation = conversation_of(chatbot, "42")
    return uploads.receive(
        conversation=conversation, name="photo.jpg", content_type="image/jpeg", chunks=[b"a photo"]
    )
