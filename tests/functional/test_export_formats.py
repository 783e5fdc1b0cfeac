"""Exports in several formats: they say the same, each file is listed, and none is left when the export ends."""

import csv
import hashlib
import io
import json
import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID
from zipfile import ZipFile

import pytest
from django.db.models import F
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, meta

from chatbots.models import ChangeLogEntry, Chatbot
from chatbots.operations.chatbots import change_chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.models import Claim, ComplianceRequest, ExportFile
from conversations import pages
from tests.browser import browser, is_easy_to_use, needs_chromium, open_page, stays_at_home
from tests.calls import ALICE
from tests.commands import run
from tests.console.filing_pages import Filer
from tests.functional.company import (
    Company,
    attempts,
    document,
    found_anywhere,
    is_erased,
    postpone,
    settle,
    words_in,
    work,
)
from tests.functional.redacting import redact, said
from tests.functional.refusing import in_the_gap
from tests.patches import Killed, failing
from tests.people import Role, client_of, staff

TEXTS = [
    "Hello",
    "two\nlines & <script>alert(1)</script>",
    "\u202eright to left\u202c שלום",
    "=1+1",
    "👩‍👩‍👧 \x01 \\u0000 ]]> </p>",
    "x" * 100_000,
    " leading and trailing ",
]
ALL = ["csv", "json", "html"]


def talk(company: Company, *names: str, person: str = "alice") -> None:
    messages = [said(f"m{number}", text) for number, text in enumerate(TEXTS)]
    for name in names:
        company.send(document(name, person, messages=messages, user_name="<b>Zoë</b>"))


class _Chat(HTMLParser):
    """The texts of the messages of a page, and every tag."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self._is_text = False
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "p":
            self._is_text = ("class", "text") in attrs
            if self._is_text:
                self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_text = self._is_text and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._is_text:
            self.texts[-1] += data


def files_of(storage: ObjectStorage, shown: dict[str, Any]) -> dict[str, bytes]:
    """Return the files of an export, each of which is as the manifest says."""
    export = shown["export"]
    whole = storage.read(export["key"])
    assert (len(whole), hashlib.sha256(whole).hexdigest()) == (export["bytes"], export["sha256"])
    if shown["archive"]:
        with ZipFile(io.BytesIO(whole)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    else:
        files = {one["name"]: storage.read(one["key"]) for one in export["files"]} | {"manifest.json": whole}
        for one in export["files"]:
            data = files[one["name"]]
            assert (len(data), hashlib.sha256(data).hexdigest()) == (one["bytes"], one["sha256"])
    manifest = json.loads(files["manifest.json"])
    assert manifest["request_id"] == shown["request_id"]
    listed = {one["name"]: one for one in manifest["files"]}
    for name, one in listed.items():
        data = files[name]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one["bytes"], one["sha256"])
        assert one["description"]
    assert files.keys() - {"manifest.json"} == listed.keys()
    return files


def texts_of(files: dict[str, bytes]) -> dict[str, list[str]]:
    """Return the texts of all messages by format, in order."""
    found: dict[str, list[str]] = {}
    if data := files.get("conversations.csv"):
        rows = csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
        found["csv"] = [re.sub(r"(^|[;\t\r\n])'", r"\1", row["text"]) for row in rows]
    if data := files.get("conversations.jsonl"):
        lines = [json.loads(line) for line in data.decode().split("\n")[:-1]]
        found["json"] = [message["text"] for line in lines for message in line["messages"]]
    if "index.html" in files:
        pages = sorted(
            (name for name in files if re.fullmatch(r"page-\d+\.html", name)), key=lambda name: int(name[5:-5])
        )
        found["html"] = [text for name in pages for text in _Chat(files[name]).texts]
    return found


def export_of(company: Company, person: str = "alice", **options: Any) -> dict[str, Any]:
    request_id = company.export(person, **options)
    settle()
    shown = company.request_object(request_id)
    assert shown["status"] == "completed", shown["error"]
    return shown


def shown_in_html(texts: list[str]) -> list[str]:
    """As a page can show them: HTML has no control characters."""
    return [re.sub("[\\x01-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]", "\ufffd", text) for text in texts if text]


def test_all_formats_contain_the_same_messages(company, storage) -> None:
    talk(company, "c-1", "c-2")
    company.talk("c-empty", "alice")
    expected = [*TEXTS, *TEXTS, words_in("c-empty")]
    for archive in (None, "zip"):
        shown = export_of(company, formats=ALL, **({"archive": archive} if archive else {}))
        assert (shown["formats"], shown["archive"], shown["export"]["rows"]) == (ALL, archive, len(expected))
        texts = texts_of(files_of(storage, shown))
        assert texts["csv"] == texts["json"] == expected
        assert texts["html"] == shown_in_html(expected)
    alone = export_of(company, formats=["csv"])["export"]
    assert alone["key"].endswith("_conversation_export.csv")
    assert alone["files"] == []


@pytest.mark.long(reason="an export for each example")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=40)))
def test_they_do_whatever_the_texts_are(company, storage, texts) -> None:
    number = ComplianceRequest.objects.count()
    messages = [said(f"m{place}", text) for place, text in enumerate(texts)]
    company.send(document(f"c-{number}", f"p-{number}", messages=messages))
    found = texts_of(files_of(storage, export_of(company, f"p-{number}", formats=ALL)))
    assert found["json"] == texts
    assert found["csv"] == texts or not texts
    assert found.get("html", []) == shown_in_html(texts)


def test_the_lines_are_as_the_published_schema_says(company: Company, storage: ObjectStorage, client: Client) -> None:
    published = json.loads(Path("docs/clients/export.schema.json").read_text())
    assert client.get("/api/schema/export/").json() == published
    meta.validate(published)
    talk(company, "c-1")
    number = company.talk("c-2", "alice", has_file=True)
    redact(company, number, "m1")
    settle()
    lines = files_of(storage, export_of(company, formats=["json"]))["conversations.jsonl"].decode().splitlines()
    for line in map(json.loads, lines):
        Draft202012Validator(published, validate_formats=True).validate(line)
        assert line.keys() == published["properties"].keys()
        assert all(one.keys() == published["$defs"]["message"]["properties"].keys() for one in line["messages"])
    assert len(lines) == 2


def test_a_long_conversation_continues_on_the_next_page(company, storage, monkeypatch) -> None:
    monkeypatch.setattr(pages, "MOST_BYTES", 30_000)
    monkeypatch.setattr(pages, "MOST_LISTED", 1)
    messages = [said(f"m{number}", f"{number} " + "x" * 2_000) for number in range(60)]
    company.send(document("c-1", "alice", messages=messages))
    company.talk("c-2", "alice")
    files = files_of(storage, export_of(company, formats=["json", "html"]))
    numbered = [name for name in files if name.startswith("page-")]
    assert len(numbered) > 3
    assert max(len(files[name]) for name in numbered) < 40_000
    texts = [*(message["text"] for message in messages), words_in("c-2")]
    assert texts_of(files) == {"json": texts, "html": texts}
    targets = {target for name in files for target in re.findall(r'href="([^"#]+)', files[name].decode())}
    assert targets <= files.keys()
    assert b"(continued)" in files["page-2.html"]


@needs_chromium
@pytest.mark.long(reason="a browser draws the pages in both themes, and axe looks at each")
def test_the_pages_in_a_browser(company: Company, storage: ObjectStorage, tmp_path: Path) -> None:
    talk(company, "c-1", "c-2")
    company.talk("c-3", "alice", has_file=True)
    for name, data in files_of(storage, export_of(company, formats=["html"], include_files=True)).items():
        (tmp_path / name).write_bytes(data)
    with browser() as chromium:
        watched = open_page(chromium, f"{tmp_path.as_uri()}/index.html")
        page = watched.page
        is_easy_to_use(page)
        page.get_by_role("link", name="12:00").first.click()
        is_easy_to_use(page)
        page.emulate_media(media="print")
        assert page.get_by_role("navigation").first.is_hidden()
        stays_at_home(watched, tmp_path.as_uri())


def test_uploaded_files_are_beside_the_pages_and_linked(company, storage) -> None:
    company.talk("c-1", "alice", has_file=True)
    for options, link in (({}, r"\d+"), ({"archive": "zip"}, r"\d+\.jpg")):
        shown = export_of(company, formats=["html"], include_files=True, again=True, **options)
        files = files_of(storage, shown)
        [target] = re.findall(r'<a href="(\d[^"]*)">', files["page-1.html"].decode())
        assert re.fullmatch(link, target)
        assert files[target] == b"picture in c-1"
        assert shown["counts"]["files"] == 1


def by_api(company: Company, options: dict[str, Any]) -> None:
    company.export("alice", **options)


def in_a_batch(company: Company, options: dict[str, Any]) -> None:
    answer = company.caller.post("requests/batch", {"requests": [ALICE | {"action": "export"} | options]})
    assert answer.status_code == 200


def by_command(company: Company, options: dict[str, Any]) -> None:
    values = {name: ",".join(value) if name == "formats" else value for name, value in options.items()}
    given = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    run("request_export", company.chatbot.slug, "member_id", "alice", *given)


def in_the_console(company: Company, options: dict[str, Any], page: str = "") -> None:
    filer = Filer(client_of(staff(company.chatbot, Role.SUPPORT)), company.chatbot, page)
    preset = company.chatbot.csv_dialect
    assert f'<option value="{preset}" selected>' in filer.client.get(filer.path).content.decode()
    sent = options | ({"archive": "on"} if "archive" in options else {})
    preview = filer.preview_many("alice", action="export", **sent) if page else filer.preview(action="export", **sent)
    assert ("as one ZIP" in preview.text) == ("archive" in options)
    assert f"CSV ({Chatbot.CsvDialect(options.get('csv_dialect', preset)).label})" in preview.text
    filer.confirm(preview)


def of_many_in_the_console(company: Company, options: dict[str, Any]) -> None:
    in_the_console(company, options, page="many/")


@pytest.mark.parametrize("file", [by_api, in_a_batch, by_command, in_the_console, of_many_in_the_console])
def test_each_way_of_filing_takes_formats_and_a_dialect_and_without_any_those_of_the_chatbot(company, file) -> None:
    preferred = {"export_formats": "csv json", "csv_dialect": "excel_comma"}
    change_chatbot(chatbot=company.chatbot, changes=preferred, actor="command")
    company.chatbot.refresh_from_db()
    for options in (
        {},
        {"formats": ["html", "csv"], "archive": "zip", "csv_dialect": "excel_semicolon"},
        {"csv_dialect": "standard"},
    ):
        file(company, options)
    filed = ComplianceRequest.objects.order_by("seq")
    assert list(filed.values_list("formats", "archive", "csv_dialect")) == [
        ("csv json", "", "excel_comma"),
        ("csv html", "zip", "excel_semicolon"),
        ("csv json", "", "standard"),
    ]


def test_each_file_can_be_downloaded(company: Company, storage: ObjectStorage) -> None:
    talk(company, "c-1")
    shown = export_of(company, formats=["json", "html"])
    request_id = shown["request_id"]
    client = client_of(staff(company.chatbot, Role.SUPPORT))
    page = client.get(f"/admin/requests/{UUID(request_id)}/").content.decode()
    assert "<dd>JSON Lines, pages</dd>" in page
    assert "open index.html in any browser" in page
    for one in shown["export"]["files"]:
        for address in (
            company.caller.get(f"requests/{request_id}/download?file={one['name']}")["Location"],
            client.get(re.findall(rf'href="(/admin/[^"]+/{one["name"]}/)"', page)[0])["Location"],
        ):
            leads_to = client.get(address)["Location"]
            assert f"/{one['name']}?" in leads_to
            assert f"filename%3D%22{one['name']}%22" in leads_to.replace("=", "%3D")
    assert set(ChangeLogEntry.objects.filter(event="export.downloaded").values_list("data__file", flat=True)) == {
        "conversations.jsonl",
        "index.html",
        "page-1.html",
    }
    assert company.caller.get(f"requests/{request_id}/download?file=page-2.html").status_code == 404
    assert company.caller.get(f"requests/{request_id}/download?file=../x").status_code == 400


# What is sent while a chatter of the export is erased, or the worker is killed.
GAPS = [
    ("write_parts", "/conversations.csv", "after"),
    ("open_upload", "/conversations.csv", "before"),
    ("write_parts", "/conversations.jsonl", "before"),
    ("open_upload", "/page-1.html", "before"),
    ("write_parts", "/index.html", "after"),
    ("write_parts", "/manifest.json", "before"),
    ("write_parts", ".zip", "before"),
]
in_each_gap = pytest.mark.parametrize(
    "gap", GAPS, ids=[f"{when}-{method}-{part.strip('/.')}" for method, part, when in GAPS]
)


def files_left(storage: ObjectStorage) -> set[str]:
    return {key for key in storage.keys("") if "/chatter_data_exports/" in key}


def assert_whole(company: Company, storage: ObjectStorage, export: str) -> dict[str, bytes]:
    """The export is complete, and nothing else is in the bucket."""
    shown = company.request_object(export)
    assert shown["status"] == "completed"
    files = files_of(storage, shown)
    assert files_left(storage) == {shown["export"]["key"], *(one["key"] for one in shown["export"]["files"])}
    assert list(storage.uploads()) == []
    return files


@pytest.mark.long(reason="each gap", beyond=2)
@in_each_gap
def test_a_deletion_between_two_files(company, storage, monkeypatch, gap: tuple[str, str, str]) -> None:
    shared = company.talk("c-both", "alice", "bob")
    company.talk("c-bob", "bob")
    deletion = company.delete("alice")
    postpone(deletion)
    options = {"archive": "zip"} if gap[1] == ".zip" else {}
    export = company.export("bob", include_shared=True, formats=ALL, **options)
    met = in_the_gap(monkeypatch, *gap, work)
    worker.drain(seconds=30)
    settle()
    assert met
    assert attempts(export) == [0]
    assert is_erased(shared)
    assert found_anywhere(storage, ["c-both"]) == set()
    for texts in texts_of(assert_whole(company, storage, export)).values():
        assert texts == [words_in("c-bob")]


@pytest.mark.long(reason="each gap", beyond=1)
@in_each_gap
def test_a_kill_between_two_files(company, storage, monkeypatch, gap: tuple[str, str, str]) -> None:
    company.talk("c-1", "alice", has_file=True)
    options = {"archive": "zip"} if gap[1] == ".zip" else {}
    export = company.export("alice", formats=ALL, include_files=True, **options)
    with monkeypatch.context() as patch:
        met = in_the_gap(patch, *gap, failing(Killed))
        with pytest.raises(Killed):
            worker.drain(seconds=30)
    assert met
    assert company.request_object(export)["export"] is None
    Claim.objects.update(expires_at=F("expires_at") - timedelta(hours=1))
    settle()
    assert_whole(company, storage, export)


def test_a_deletion_removes_every_file(company, storage) -> None:
    company.talk("c-1", "alice", has_file=True)
    shown = export_of(company, formats=ALL, include_files=True)
    assert files_left(storage) == {shown["export"]["key"], *(one["key"] for one in shown["export"]["files"])}
    company.delete("alice", erase_exports=True)
    settle()
    assert files_left(storage) == set()
    assert not ExportFile.objects.exists()
