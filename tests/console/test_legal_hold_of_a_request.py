"""A request under a legal hold: its page, its preview, and an officer who lets it erase the rest."""

from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from playwright.sync_api import Page, expect

from chatbots.models import ChangeLogEntry, Chatbot
from compliance import worker
from compliance.models import ComplianceRequest, LegalHold
from console.monitoring.dashboard_queries import needs_attention
from console.requests import labels
from conversations.models import Message
from tests.browser import Watched, in_a_browser, is_easy_to_use, signed_in, stays_at_home
from tests.console.made import VALUE, held, waiting
from tests.console.request_pages import address, decide, offered, text_of
from tests.factories import conversation_of, redaction_of
from tests.holding import place, release
from tests.people import Role, member, staff


def limit(client: Client, request: ComplianceRequest, **fields: str) -> Any:
    given = {f"erase_unheld-{name}": text for name, text in fields.items()}
    return client.post(address(request, "erase_unheld"), given)


def test_officers_see_the_holds_and_others_only_that_it_is_held(chatbot: Chatbot, officer: Client) -> None:
    conversation_of(chatbot, VALUE)
    hold, _ = place(chatbot, VALUE)
    place(chatbot, "43", matter="of-another-chatter")
    request = held(chatbot, "legal_hold")
    text = text_of(officer, request)
    assert "A legal hold covers some of its data" in text
    assert f"/admin/holds/{hold.pk}/" in text
    assert "case-0815" in text
    assert "of-another-chatter" not in text
    assert offered(text) == {"reject", "cancel", "extend"}
    # It covers everything, so there is no rest to erase.
    assert address(request, "erase_unheld") not in text
    assert "Waits for the release of a legal hold" in officer.get("/admin/due/").text
    for role in (Role.SUPPORT, Role.VIEWER):
        text = text_of(member(chatbot, role), request)
        assert "A legal hold covers some of its data" in text
        for hidden in (str(hold.pk), "case-0815", address(request, "erase_unheld")):
            assert hidden not in text
    answer = decide(officer, request, "approve")
    assert answer.status_code == 409
    assert "which no approval overrides" in answer.text
    assert "Under a legal hold" in officer.get("/admin/requests/").text
    assert "A legal hold covers some of the data" in officer.get("/admin/").text


def test_many_holds_take_as_many_queries_as_one(chatbot: Chatbot, officer: Client) -> None:
    conversation_of(chatbot, VALUE, external_id="c-1")
    request = held(chatbot, "legal_hold")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            text_of(officer, request)
        return len(captured)

    place(chatbot, VALUE)
    queries()  # the first call of a client also reads its session
    few = queries()
    for number in range(10):
        place(chatbot, ["c-1"], matter=f"case-{number}")
    assert queries() == few
    assert text_of(officer, request).count("/admin/holds/") == 12  # each of the holds, and the list


def test_a_held_redaction_has_no_rest_to_erase(chatbot: Chatbot, officer: Client) -> None:
    conversation = conversation_of(chatbot, VALUE)
    place(chatbot, VALUE)
    selected = {"messages": str(conversation.message_set.earliest("pk").pk), "reason": "other"}
    page = member(chatbot, Role.SUPPORT).post(f"/admin/conversations/{conversation.pk}/redact/", selected)
    assert "The redaction will be on hold until it is released." in page.text
    request = redaction_of(conversation)
    ComplianceRequest.objects.update(status="on_hold", hold_reason="legal_hold", held_at="2026-11-01T12:00Z")
    text = text_of(officer, request)
    assert "A legal hold covers some of its data" in text
    assert "/admin/holds/" in text
    assert "erase_unheld" not in text
    assert officer.get(address(request, "erase_unheld")).status_code == 302


def test_an_officer_lets_a_deletion_erase_the_rest(chatbot: Chatbot, officer: Client, drain) -> None:
    conversation_of(chatbot, VALUE, external_id="c-1")
    conversation_of(chatbot, VALUE, messages=3)
    hold, _ = place(chatbot, ["c-1"])
    request = waiting(chatbot)
    drain()
    page = officer.get(address(request, "erase_unheld"))
    assert (page.context["erased"]["conversations"], page.context["erased"]["messages"]) == (1, 3)
    assert page.context["stays"] == 1
    assert limit(officer, request, reason="boredom").status_code == 400
    assert limit(officer, request).status_code == 400
    assert limit(member(chatbot, Role.SUPPORT), request, reason="answer_due").status_code == 403
    assert limit(officer, request, reason="answer_due").status_code == 302
    drain()

    rest = ComplianceRequest.objects.get(continues=request.pk)
    assert limit(officer, rest, reason="answer_due").status_code == 409
    text = text_of(officer, request)
    assert "We have to keep 1 chat, because" in text
    assert "I sent this letter" in text
    assert officer.post(address(request, "answer"), {"letter": "partly_done"}).status_code == 302
    rest.refresh_from_db()
    assert rest.answered_at
    assert "I sent this letter" not in text_of(officer, request)
    assert "We have deleted a part of your data, as we wrote to you." in text_of(officer, rest)
    assert "Done, except for data under a legal hold" in text
    assert "1 conversation under a legal hold" in text
    assert address(rest) in text
    assert "Erases what is not held" in text
    assert address(request) in text_of(officer, rest)
    assert limit(officer, request, reason="answer_due").status_code == 302
    assert ChangeLogEntry.objects.filter(event="request.limited").count() == 1
    release(hold)
    drain()
    rest.refresh_from_db()
    assert (rest.status, rest.result) == ("completed", "done")


def test_the_preview_of_a_deletion_says_that_it_will_wait(chatbot: Chatbot, filer) -> None:
    conversation_of(chatbot, "42")
    assert "legal hold" not in filer.preview(value="42").text
    place(chatbot, "42")
    page = filer.preview(value="42")
    assert "A legal hold covers some of the data." in page.text
    assert "case-0815" not in page.text


def test_a_hold_reason_of_a_later_version_has_a_neutral_text(chatbot: Chatbot) -> None:
    request = held(chatbot)
    request.hold_reason = "solar_eclipse"
    assert labels.short_hold(request) == "For another reason"
    assert "for a reason that this page does not know" in labels.next_step(request)
    [item] = needs_attention([chatbot.pk])
    assert replace(item, hold_reason="solar_eclipse").why == "On hold: for another reason"


# --- In a browser ----------------------------------------------------------------------------------------


@in_a_browser
@pytest.mark.usefixtures("storage")
def test_a_deletion_waits_for_a_legal_hold_and_completes_after_its_release(live_server, chromium, chatbot) -> None:
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
