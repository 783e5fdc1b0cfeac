"""Downloading an export's files over HTTP."""

import urllib.request
from urllib.parse import unquote

import pytest
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage, StorageError
from compliance.models import ComplianceRequest, Export
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


def test_a_download_link_works_for_some_minutes(caller, chatbot: Chatbot, storage: ObjectStorage) -> None:
    conversation_of(chatbot, "42", text="what was said")
    export = exported(chatbot)
    answer = download(caller, export.request)
    assert answer.status_code == 302
    assert answer.headers["Cache-Control"] == "no-store"
    assert "X-Amz-Expires=300" in answer.headers["Location"]
    with urllib.request.urlopen(answer.headers["Location"]) as file:  # noqa: S310  (our own server)
        assert b"what was said" in file.read()
        assert file.headers["Content-Disposition"].startswith("attachment")
        assert "_conversation_export.csv" in file.headers["Content-Disposition"]


def test_a_copied_file_is_downloaded_through_a_link(caller, chatbot: Chatbot, storage: ObjectStorage) -> None:
    file = uploads.receive(
        conversation=conversation_of(chatbot, "42"), name="café.jpg", content_type="image/jpeg", chunks=[b"content"]
    )
    request = export_of(chatbot, "42", include_files=True)
    carry_out(taken(request))
    answer = download(caller, request, f"?file={file.pk}")
    assert "café" not in unquote(answer.headers["Location"])
    with urllib.request.urlopen(answer.headers["Location"]) as copy:  # noqa: S310  (our own server)
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
    with monkeypatch.context() as refused:
        refused.setattr(ObjectStorage, "link", failing(StorageError("storage_access_denied", "The storage refused.")))
        problem(download(caller, export.request), 503, "unavailable")
    # It is met by a deletion, is due, is removed, was delivered.
    before(monkeypatch, ObjectStorage, "link", lambda *_, **__: Export.objects.update(expires_at=timezone.now()))
    for changes in ({}, {}, {"key": None, "removed_at": timezone.now()}):
        Export.objects.update(**changes)
        problem(download(caller, export.request), 409, "export_expired")
    Export.objects.update(hosting="client", bucket="theirs", key=export.key, removed_at=None, expires_at=None)
    problem(download(caller, export.request), 409, "in_client_bucket")
    assert not ChangeLogEntry.objects.filter(event="export.downloaded").exists()
