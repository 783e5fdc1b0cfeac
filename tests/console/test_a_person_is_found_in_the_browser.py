"""Support staff find a person by a part of the name, export the data for a spreadsheet, and erase it."""

import csv
import io

import pytest
from playwright.sync_api import Page, expect

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from common.storage import ObjectStorage
from compliance import worker
from compliance.models import ComplianceRequest
from conversations.models import NameWord
from tests.browser import is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.factories import conversation_of
from tests.people import Role, staff


@pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each")
@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_a_person_is_found_exported_and_erased(
    live_server, chromium, chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage
) -> None:
    conversation_of(chatbot, "M-7", user_name="Lucía Peña", text="¿Qué tal?")
    theirs = conversation_of(neighbour, "peña-12", user_name="PEÑA, Lucía")
    other = conversation_of(chatbot, "M-8", user_name="Pedro Penas")
    user = staff(chatbot, Role.SUPPORT)
    Membership.objects.create(user=user, chatbot=neighbour, role=Role.SUPPORT)
    watched = signed_in(chromium, live_server.url, user, "/admin/lookup/")
    page = watched.page

    _look_up(page, live_server.url, "pena luc")
    expect(page.get_by_role("link", name="Lucía Peña")).to_have_count(1)
    expect(page.get_by_role("link", name="PEÑA, Lucía")).to_have_count(1)
    expect(page.get_by_role("link", name="Pedro Penas")).to_have_count(0)
    is_easy_to_use(page)
    page.get_by_role("button", name="Export M-7").click()
    expect(page.get_by_label("Export: create a file of their data")).to_be_checked()
    page.get_by_label("CSV dialect").select_option("excel_semicolon")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="File the export").click()
    expect(page.get_by_text("Filed.").first).to_be_visible()
    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain(seconds=30)
    file = storage.read(ComplianceRequest.objects.get().export.key)
    assert file.startswith(b"\xef\xbb\xbf")
    [header, *lines] = csv.reader(io.StringIO(file.decode("utf-8-sig"), newline=""), delimiter=";")
    assert {line[header.index("user_name")] for line in lines} == {"Lucía Peña"}

    _look_up(page, live_server.url, "PENA")
    page.get_by_role("button", name="Delete M-7").click()
    expect(page.get_by_label("Delete: erase their data")).to_be_checked()
    page.get_by_role("button", name="Preview").click()
    page.get_by_label("To confirm, type").fill("DELETE 1")
    page.get_by_role("button", name="File the deletion").click()
    expect(page.get_by_text("Filed. It starts in")).to_be_visible()
    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain(seconds=30)
    _look_up(page, live_server.url, "lucía")
    expect(page.get_by_role("link", name="Lucía Peña")).to_have_count(0)
    expect(page.get_by_role("link", name="PEÑA, Lucía")).to_have_count(1)
    assert set(NameWord.objects.values_list("conversation_id", flat=True)) == {theirs.pk, other.pk}
    assert ChangeLogEntry.objects.filter(event="conversations.looked_up", chatbot=neighbour).count() == 3
    stays_at_home(watched, live_server.url)


def _look_up(page: Page, server: str, name: str) -> None:
    page.goto(f"{server}/admin/lookup/")
    page.get_by_label("Search by").select_option(label="User name")
    page.get_by_label("Text").fill(name)
    page.get_by_role("button", name="Look up", exact=True).click()
    page.wait_for_load_state("networkidle")
