"""An export is written in the dialect with which it was filed, or else in that of its chatbot at that time."""

import csv
import hashlib
import io
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError

from chatbots.models import Chatbot
from chatbots.operations.chatbots import change_chatbot
from common.storage import ObjectStorage
from compliance.models import ComplianceRequest
from tests.calls import ALICE
from tests.console.filing_pages import Filer
from tests.functional.company import Company, document, settle
from tests.functional.redacting import redact, said
from tests.functional.test_export_formats import ALL, files_of, texts_of
from tests.people import Role, client_of, staff

# Each with its separator, line end and beginning.
DIALECTS = {
    "standard": (",", "\n", ""),
    "excel_comma": (",", "\r\n", "\ufeff"),
    "excel_semicolon": (";", "\r\n", "\ufeff"),
}
NAME = "Zoë; Peña, Ñ"
TEXTS = ["né à Łódź; 5 €", 'a "quote", twice', "two\nlines", "two\r\nlines", "a\rreturn", "\ufeffa mark within", "\t"]


def prefer(company: Company, dialect: str) -> None:
    change_chatbot(chatbot=company.chatbot, changes={"csv_dialect": dialect}, actor="command")


def talk(company: Company, conversation_id: str, person: str) -> int:
    messages = [said(f"m{number}", text) for number, text in enumerate(TEXTS)]
    [result] = company.send(document(conversation_id, person, messages=messages, user_name=NAME))
    number: int = result["number"]
    return number


def dialect_of(data: bytes) -> str:
    """Return the dialect of a file, which must be in it from the first byte to the last."""
    for name, (separator, line_end, begin) in DIALECTS.items():
        text = data.decode()
        if not text.startswith(f'{begin}"conversation_id"{separator}'):
            continue
        rows = list(csv.reader(io.StringIO(text.removeprefix(begin), newline=""), delimiter=separator, strict=True))
        written = io.StringIO()
        csv.writer(written, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
        if f"{begin}{written.getvalue()}" == text:
            return name
    return ""


def rows_of(data: bytes) -> list[dict[str, str]]:
    separator, _, begin = DIALECTS[dialect_of(data)]
    text = io.StringIO(data.decode().removeprefix(begin), newline="")
    return list(csv.DictReader(text, delimiter=separator, strict=True))


def file_of(storage: ObjectStorage, shown: dict[str, Any]) -> bytes:
    """Return the file of a completed export, which is as its request says."""
    data = storage.read(shown["export"]["key"])
    assert (shown["status"], shown["export"]["bytes"]) == ("completed", len(data))
    assert shown["export"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert shown["export"]["rows"] == len(rows_of(data))
    return data


def test_exports_that_a_worker_takes_together_are_each_in_their_dialect_with_each_text_as_sent(company, storage):
    for person in ("alice", "bob"):
        talk(company, f"c-{person}", person)
    filed = {
        company.export(person, csv_dialect=dialect, include_files=with_files): (dialect, texts)
        for person, texts in (("alice", TEXTS), ("unknown", []), ("bob", TEXTS))
        for dialect in DIALECTS
        for with_files in (False, True)
    }
    settle()
    for export, (dialect, texts) in filed.items():
        shown = company.request_object(export)
        data = file_of(storage, shown)
        assert (shown["csv_dialect"], dialect_of(data)) == (dialect, dialect)
        assert [(row["text"], row["user_name"]) for row in rows_of(data)] == [(text, NAME) for text in texts]
        stored = storage.client.head_object(Bucket=storage.bucket_name, Key=shown["export"]["key"])
        assert stored["ContentType"] == "text/csv; charset=utf-8"


def test_a_preview_in_the_console_is_filed_as_it_was_shown(company: Company) -> None:
    filer = Filer(client_of(staff(company.chatbot, Role.SUPPORT)), company.chatbot)
    preview = filer.preview(action="export")
    prefer(company, "excel_comma")
    filer.confirm(preview)
    assert ComplianceRequest.objects.get().csv_dialect == "standard"
    edited = filer.post(preview.form("edit"))
    assert '<option value="standard" selected>' in edited.html


def test_the_export_that_a_redaction_repeats_keeps_its_dialect_and_formats(company, storage) -> None:
    number = talk(company, "c-1", "alice")
    export = company.exported("alice", csv_dialect="excel_semicolon", formats=ALL, archive="zip")
    redact(company, number, "m0")
    settle()
    repeat = company.request_object(company.request_object(str(export.request_id))["repeated_by"])
    assert (repeat["csv_dialect"], repeat["formats"], repeat["archive"]) == ("excel_semicolon", ALL, "zip")
    files = files_of(storage, repeat)
    data = files.pop("conversations.csv")
    assert dialect_of(data) == "excel_semicolon"
    texts = texts_of(files)
    assert (rows_of(data)[0]["text"], texts["json"][0], texts["html"][0]) == ("", "", "This message was removed.")


def test_an_equal_export_that_waits_answers_only_in_its_own_dialect_and_formats(company: Company) -> None:
    first = company.export("alice")
    assert company.export("alice", formats=["csv"]) == first
    assert company.export("alice", formats=["html", "csv"]) != first
    assert company.export("alice", formats=["csv"], archive="zip") != first
    assert company.export("alice", csv_dialect="standard") == first
    semicolons = company.export("alice", csv_dialect="excel_semicolon")
    assert semicolons != first
    prefer(company, "excel_semicolon")
    assert company.export("alice") == semicolons
    assert company.export("alice", csv_dialect="standard") == first
    dialects = ("standard", "excel_comma", "excel_semicolon", "standard", None)
    items = [{**ALICE, "action": "export", "csv_dialect": dialect} for dialect in dialects]
    results = company.caller.post("requests/batch", {"requests": items}).json()["results"]
    assert [one["existing"] for one in results] == [False, False, False, True, True]
    assert results[4]["request_id"] == results[2]["request_id"]


def test_only_an_export_has_a_dialect_and_formats_and_only_known_ones(company: Company) -> None:
    prefer(company, "excel_comma")
    assert company.request_object(company.delete("alice"))["csv_dialect"] is None
    for path, sent, pointer, code in (
        ("data-export", {"csv_dialect": "excel"}, "/csv_dialect", "unknown_value"),
        ("data-export", {"csv_dialect": 1}, "/csv_dialect", "unknown_value"),
        ("data-export", {"formats": ["pdf"]}, "/formats/0", "unknown_value"),
        ("data-export", {"formats": []}, "/formats", "too_short"),
        ("data-export", {"archive": "tar"}, "/archive", "unknown_value"),
        ("preview", {"csv_dialect": ""}, "/csv_dialect", "unknown_value"),
        ("preview", {"csv_dialect": "excel", "action": "export"}, "/csv_dialect", "unknown_value"),
        ("preview", {"csv_dialect": "standard", "action": "delete"}, "/csv_dialect", "unknown_field"),
        ("preview", {"formats": ["csv"], "action": "delete"}, "/formats", "unknown_field"),
        ("data-deletion", {"csv_dialect": "standard"}, "/csv_dialect", "unknown_field"),
        ("data-deletion", {"archive": "zip"}, "/archive", "unknown_field"),
    ):
        answer = company.caller.post(path, ALICE | sent)
        assert answer.status_code == 400
        assert [(one["pointer"], one["code"]) for one in answer.json()["errors"]] == [(pointer, code)]
    for options in (
        {"csv_dialect": "excel_comma"},
        {"csv_dialect": None},
        {"csv_dialect": "standard", "action": "export"},
    ):
        assert company.caller.post("preview", {**ALICE, **options}).status_code == 200


@pytest.mark.parametrize("model", [Chatbot, ComplianceRequest])
def test_the_database_knows_the_dialects(company: Company, model: Any) -> None:
    company.export("alice")
    with pytest.raises(IntegrityError, match="csv_dialect_known"):
        model.objects.update(csv_dialect="tabs")


def test_daily_extracts_have_the_standard_dialect(company, storage) -> None:
    prefer(company, "excel_semicolon")
    talk(company, "c-1", "alice")
    assert dialect_of(storage.read(str(company.make_day().key))) == "standard"


def test_the_page_of_an_export_shows_its_dialect(company: Company) -> None:
    export, deletion = company.export("alice", csv_dialect="excel_semicolon"), company.delete("bob")
    client = client_of(staff(company.chatbot, Role.VIEWER))
    pages = [client.get(f"/admin/requests/{UUID(one)}/").content.decode() for one in (export, deletion)]
    assert ["CSV dialect" in page for page in pages] == [True, False]
    assert "Excel, separated by semicolons" in pages[0]
