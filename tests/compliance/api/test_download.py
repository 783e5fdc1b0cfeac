"""Downloading an export's files over HTTP."""

import logging
import urllib.request
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from chatbots.models import ApiKey, ChangeLogEntry, Chatbot
from common.storage import ObjectStorage, StorageError
from compliance.models import ComplianceRequest, Export
from compliance.requests import downloads
from conversations import uploads
from tests import factories
from tests.calls import TokenCaller, problem
from tests.compliance.exporting import carry_out, exported, taken
from tests.factories import conversation_of, deletion_of, export_of
from tests.patches import before, failing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot, scopes=["requests:read"])


def download(caller: TokenCaller, request: ComplianceRequest, query: str = ""):
    return caller.get(f"requests/{request.pk}/download{query}")


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def opened(answer: Any, accept: str = "*/*") -> Any:
    """Open the link of a download as anyone who has it."""
    assert (answer.status_code, answer.headers["Cache-Control"]) == (302, "no-store")
    address = answer.headers["Location"]
    assert address.startswith("http://testserver/api/downloads/")
    assert "chatter_data_exports" not in unquote(address)
    found = Client().get(address.removeprefix("http://testserver"), headers={"Accept": accept})
    assert (found.headers["Cache-Control"], found.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    return found


def read(answer: Any) -> Any:
    """Follow a link to the storage."""
    leads = opened(answer)
    assert leads.status_code == 302
    assert "X-Amz-Expires=60&" in leads.headers["Location"]
    return urllib.request.urlopen(leads.headers["Location"])  # noqa: S310  (our own server)


def test_a_download_link_works_for_some_minutes(caller, chatbot, storage, monkeypatch, caplog) -> None:
    conversation_of(chatbot, "42", text="what was said")
    export = exported(chatbot)
    answer = download(caller, export.request)
    for _ in range(2):
        with read(answer) as file:
            assert b"what was said" in file.read()
            assert file.headers["Content-Disposition"].startswith("attachment")
            assert "_conversation_export.csv" in file.headers["Content-Disposition"]
    assert ChangeLogEntry.objects.filter(event="export.downloaded").count() == 1

    monkeypatch.setattr(downloads, "LINK_LIFE", timedelta())
    with caplog.at_level(logging.DEBUG):
        assert "minutes" in problem(opened(answer), 410, "download_expired")["detail"]
    assert answer.headers["Location"].rpartition("/")[2] not in caplog.text


def test_a_copied_file_is_downloaded_through_a_link(caller, chatbot: Chatbot, storage: ObjectStorage) -> None:
    file = uploads.receive(
        conversation=conversation_of(chatbot, "42"), name="café.jpg", content_type="image/jpeg", chunks=[b"content"]
    )
    request = export_of(chatbot, "42", include_files=True)
    carry_out(taken(request))
    answer = download(caller, request, f"?file={file.pk}")
    assert "café" not in unquote(opened(answer).headers["Location"])
    with read(answer) as copy:
        assert copy.read() == b"content"
        assert "café.jpg" in unquote(copy.headers["Content-Disposition"])
    entry = ChangeLogEntry.objects.get(event="export.downloaded")
    assert (entry.request_id, entry.data, entry.actor) == (
        request.pk,
        {"file": file.pk},
        f"api:{caller.api_key.prefix}",
    )
    problem(download(caller, request, f"?file={file.pk + 1}"), 404, "not_found")
    problem(download(caller, request, "?file=../1"), 400, "invalid")


def test_an_export_under_way_is_not_ready(caller, chatbot: Chatbot) -> None:
    problem(download(caller, export_of(chatbot, "42")), 409, "not_ready")
    begun = factories.ExportFactory.create(request=export_of(chatbot, "43"), key="acme/begun.csv")
    problem(download(caller, begun.request), 409, "not_ready")


def test_what_cannot_be_downloaded_here_says_why(caller, chatbot, storage, monkeypatch) -> None:
    export = exported(chatbot)
    problem(download(caller, deletion_of(chatbot, "42")), 404, "not_found")
    # It is due, or removed.
    for changes in ({"expires_at": timezone.now()}, {"key": None, "removed_at": timezone.now()}):
        Export.objects.update(**changes)
        problem(download(caller, export.request), 409, "export_expired")
    Export.objects.update(hosting="client", bucket="theirs", key=export.key, removed_at=None, expires_at=None)
    problem(download(caller, export.request), 409, "in_client_bucket")
    assert not ChangeLogEntry.objects.filter(event="export.downloaded").exists()


def test_a_link_says_what_happened_to_its_file(caller, chatbot, storage, drain) -> None:
    conversation_of(chatbot, "42")
    export = exported(chatbot)
    link = download(caller, export.request)
    deletion_of(chatbot, "42", erase_exports=True)
    drain()
    assert not storage.exists(str(export.key))

    for code in ("download_removed", "download_expired"):
        page = opened(link, BROWSER)
        assert (page.status_code, page.headers["Content-Type"]) == (410, "text/html; charset=utf-8")
        assert "If a company gave you this link" in page.text
        for accept in ("*/*", "application/json"):
            problem(opened(link, accept), 410, code)
        at = timezone.now() - timedelta(days=1)
        Export.objects.update(finished_at=at - settings.HOSTED_FILE_DAYS, expires_at=at)


def test_a_link_ends_with_the_mark_before_the_object_is_gone(caller, chatbot, storage, monkeypatch) -> None:
    export = exported(chatbot)
    link = download(caller, export.request)
    assert opened(link).status_code == 302
    # The deletion marks it while the storage is asked.
    before(monkeypatch, ObjectStorage, "exists", lambda *_: Export.objects.update(expires_at=timezone.now()))
    for _ in range(2):
        problem(opened(link), 410, "download_removed")
    assert storage.size_of(str(export.key)) is not None


def test_a_link_to_a_lost_object_says_so_and_a_silent_storage_is_left_to_the_browser(
    caller, chatbot, storage, monkeypatch
) -> None:
    export = exported(chatbot)
    link = download(caller, export.request)
    with monkeypatch.context() as silent:
        silent.setattr(ObjectStorage, "size_of", failing())
        assert opened(link).status_code == 302
        silent.setattr(ObjectStorage, "link", failing(StorageError("storage_access_denied", "The storage refused.")))
        assert problem(opened(link), 503, "unavailable")
        assert "Try again" in opened(link, BROWSER).text
    storage.purge(str(export.key))
    problem(opened(link), 410, "download_removed")


def test_a_link_ends_with_the_rights_of_whoever_asked_for_it(caller, chatbot, storage, admin_client) -> None:
    export = exported(chatbot)
    ApiKey.objects.update(rate_limit=2)
    links = [download(caller, export.request), admin_client.get(f"/admin/requests/{export.request_id}/download/")]
    links[1].headers["Location"] = f"http://testserver{links[1].headers['Location']}"
    links[1].headers["Cache-Control"] = "no-store"
    assert [opened(link).status_code for link in links] == [302, 302]
    problem(opened(links[0]), 429, "rate_limited")
    # Of a user who has no role in the chatbot any more.
    User.objects.update(is_superuser=False)
    problem(opened(links[1]), 410, "download_expired")
    User.objects.update(is_superuser=True)
    ApiKey.objects.update(revoked_at=timezone.now())
    User.objects.update(is_active=False)
    for link in links:
        problem(opened(link), 410, "download_expired")
    Chatbot.objects.update(closed_at=timezone.now())
    problem(opened(links[0]), 503, "restored_database")


def test_a_made_up_link_is_not_found(db) -> None:
    for token in ["x", "v1:k1:AAAA", "v1:k1:" + "A" * 200, "%00", "é"]:
        answer = Client().get(f"/api/downloads/{token}")
        problem(answer, 404, "not_found")
        answer = Client().get(f"/api/downloads/{token}", headers={"Accept": BROWSER})
        assert (answer.status_code, "There is no such download" in answer.text) == (404, True)
        assert Client().post(f"/api/downloads/{token}").status_code == 405
