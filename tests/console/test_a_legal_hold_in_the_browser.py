"""A legal hold in the console: a deletion waits until another officer releases it, and the person gets letters."""

import pytest
from playwright.sync_api import Page, expect

from chatbots.models import Chatbot
from compliance import worker
from compliance.models import ComplianceRequest, LegalHold
from conversations.models import Message
from tests.browser import Watched, is_easy_to_use, needs_chromium, signed_in, stays_at_home
from tests.factories import conversation_of
from tests.people import Role, staff


@pytest.mark.long(reason="a browser draws pages in both themes, and axe looks at each")
@needs_chromium
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("storage")
def test_a_deletion_waits_for_a_legal_hold_and_completes_after_its_release(
    live_server, chromium, chatbot: Chatbot
) -> None:
    kept = conversation_of(chatbot, "M-7", user_name="Lucía Peña", text="I will see you in court.")
    conversation_of(chatbot, "M-8", text="Good morning.")

    def opened(role: Role, path: str) -> Watched:
        return signed_in(chromium, live_server.url, staff(chatbot, role), path)

    placer = opened(Role.OFFICER, "/admin/holds/")
    _place(placer.page)
    support = opened(Role.SUPPORT, f"/admin/file/{chatbot.slug}/")
    _delete(support.page)
    _work()
    support.page.reload()
    expect(support.page.get_by_text("A legal hold covers some of its data")).to_be_visible()
    is_easy_to_use(support.page)
    assert "We have to keep it, or a part of it, for now, because a law requires this" in _copied(
        support.page, "Held"
    )
    request_page = support.page.url
    support.page.goto(f"{live_server.url}/admin/conversations/{kept.pk}/")
    expect(support.page.get_by_text("only officers can read it")).to_be_visible()
    expect(support.page.get_by_text("see you in court")).to_have_count(0)
    support.errors.clear()  # the browser reports the status of that page

    placer.page.reload()
    expect(placer.page.get_by_text("You placed this hold.")).to_be_visible()
    expect(placer.page.get_by_role("link", name="Release…")).to_have_count(0)
    is_easy_to_use(placer.page)
    second = opened(Role.OFFICER, placer.page.url.removeprefix(live_server.url))
    _release(second.page)
    _work()
    second.page.goto(request_page)
    expect(second.page.locator(".now")).to_contain_text("Completed")
    letter = _copied(second.page, "Done")
    assert "we deleted your data: 1 chat with 2 messages." in letter
    assert "M-7" not in letter
    assert list(Message.objects.values_list("text", flat=True).distinct()) == ["Good morning."]
    for watched in (placer, support, second):
        assert "M-7" not in "".join(watched.asked)
        stays_at_home(watched, live_server.url)


def _work() -> None:
    ComplianceRequest.objects.update(not_before=None)
    assert not worker.drain(seconds=30)


def _place(page: Page) -> None:
    page.get_by_role("link", name="Place a hold").click()
    page.get_by_label("UCI value", exact=True).fill("M-7")
    page.get_by_label("Matter").fill("case-0815")
    page.get_by_label("Basis").select_option(label="Legal claims")
    is_easy_to_use(page)
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("Nothing has been placed yet.")).to_be_visible()
    is_easy_to_use(page)
    page.get_by_role("button", name="Edit").click()
    expect(page.get_by_label("UCI value", exact=True)).to_have_value("M-7")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Place the hold").click()
    expect(page.get_by_text("Placed. It covers 1 conversation now.")).to_be_visible()


def _delete(page: Page) -> None:
    page.get_by_label("UCI value", exact=True).fill("M-7")
    page.get_by_label("Delete: erase their data").check()
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("A legal hold covers some of the data.")).to_be_visible()
    page.get_by_label("To confirm, type").fill("DELETE 1")
    page.get_by_role("button", name="File the deletion").click()
    expect(page.get_by_text("Filed. It starts in")).to_be_visible()


def _release(page: Page) -> None:
    page.get_by_role("button", name="Show the subject").click()
    expect(page.get_by_text("M-7")).to_be_visible()
    page.get_by_role("link", name="Release…").click()
    expect(page.get_by_text("continues", exact=True)).to_be_visible()
    is_easy_to_use(page)
    page.get_by_label("Reason").select_option(label="The matter is closed")
    page.get_by_role("button", name="Release the hold").click()
    expect(page.get_by_text("Released. 1 request is not under a legal hold any more.")).to_be_visible()
    assert LegalHold.objects.get().value_encrypted == ""


def _copied(page: Page, letter: str) -> str:
    """Copy the letter that the page of a request shows, and return the clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=page.url)
    panel = page.locator("details.letter[open]")
    expect(panel.get_by_role("region", name=f"Letter: {letter}")).to_be_visible()
    panel.get_by_role("button", name="Copy this letter").click()
    expect(panel.get_by_role("button", name="Copied")).to_be_visible()
    return " ".join(str(page.evaluate("navigator.clipboard.readText()")).split())
