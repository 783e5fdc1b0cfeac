"""The log, a transcript, redacting in it and the lookup in a browser: by keyboard, accessible, in both themes."""

from datetime import timedelta

from django.utils import timezone
from playwright.sync_api import expect

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from tests.browser import barriers, fits, in_a_browser, is_easy_to_use, signed_in, stays_at_home
from tests.conversations.closing import erase, mark, planted
from tests.factories import MessageFactory, VariableValueFactory, conversation_of, deletion_of
from tests.people import Role, staff


@in_a_browser
def test_the_log_a_transcript_and_the_look_up_are_easy_to_use(live_server, chromium, chatbot: Chatbot, neighbour):
    now = timezone.now()
    conversation = planted(chatbot, started_at=now, user_name="Ada", has_agent_handover=True, csat_comment="x" * 300)
    for number, (sender, kind) in enumerate(
        [("bot", "quick_reply"), ("agent", "text"), ("bot", "push"), ("user", "event")]
    ):
        MessageFactory.create(
            conversation=conversation,
            sender=sender,
            kind=kind,
            text="مرحبا 😀 " + "long" * 1_000 * number,
            sent_at=now + timedelta(seconds=number),
        )
    VariableValueFactory.create(conversation=conversation)
    for number, close in enumerate((mark, erase), start=1):
        close(planted(chatbot, number, started_at=now - timedelta(minutes=number)))
    deletion_of(chatbot, "42")
    user = staff(chatbot, Role.SUPPORT)
    paths = (
        "/admin/conversations/?handover=no&since=2020-01-01",
        "/admin/conversations/?channel=other",
        f"/admin/conversations/{conversation.pk}/",
        "/admin/lookup/",
    )
    watched = signed_in(chromium, live_server.url, user, paths[0])
    page = watched.page
    for path in paths:
        # Requests still loading when the page is left would count as blocked.
        page.goto(live_server.url + path, wait_until="networkidle")
        is_easy_to_use(page)
    stays_at_home(watched, live_server.url)

    page.goto(live_server.url + "/admin/conversations/")
    expect(page.get_by_role("table").get_by_text("Deletion in progress")).to_have_count(1)
    rows = page.get_by_role("row")
    expect(rows).to_have_count(4)
    log = page.get_by_role("region", name="Conversations")
    assert log.evaluate("one => one.scrollWidth <= one.clientWidth"), "nothing is cut off at the side"
    # By keyboard: from row to row, and into the conversation. Closed conversations are skipped.
    log.focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Ada")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"Conversation {conversation.pk}")).to_be_visible()
    messages = page.get_by_role("list").filter(has=page.locator(".bubble"))
    expect(messages.first.get_by_role("listitem").first).to_contain_text("User,")
    folded = page.get_by_text("Show all").first
    folded.press("Enter")
    expect(folded.locator("xpath=..").locator("p")).to_be_visible()

    page.emulate_media(media="print")
    assert page.locator(".side").is_hidden()
    assert page.locator(".bubble").first.evaluate("one => getComputedStyle(one).breakInside") == "avoid"

    page.emulate_media(media="screen")
    page.goto(live_server.url + "/admin/lookup/")
    page.get_by_label("Text").fill("42")
    page.get_by_label("Text").press("Enter")
    expect(page.get_by_text("Not yet: deletion")).to_be_visible()
    assert "42" not in page.url.removeprefix(live_server.url)
    assert barriers(page) == {}
    assert fits(page)


@in_a_browser
def test_selected_messages_are_redacted(live_server, chromium, chatbot: Chatbot, storage: ObjectStorage) -> None:
    conversation = conversation_of(chatbot, "42", messages=3, text="my card is 4111 5813")
    path = f"/admin/conversations/{conversation.pk}/"
    watched = signed_in(chromium, live_server.url, staff(chatbot, Role.SUPPORT), path)
    page = watched.page
    page.goto(live_server.url + path, wait_until="networkidle")
    boxes = page.get_by_role("checkbox", name="Select this message of User")
    expect(boxes).to_have_count(3)
    boxes.nth(1).focus()
    page.keyboard.press("Space")
    is_easy_to_use(page)
    # No reason is chosen: the browser asks for it.
    page.get_by_role("button", name="Redact selected messages").click()
    expect(page).to_have_url(live_server.url + path)
    page.get_by_label("Reason").select_option("payment_data")
    page.get_by_role("button", name="Redact selected messages").click()
    expect(page.get_by_role("heading", name="Redact 1 message")).to_be_visible()
    expect(page.get_by_text("my card is 4111 5813")).to_have_count(1)
    expect(page.get_by_label("Reason")).to_have_value("payment_data")
    is_easy_to_use(page)
    page.get_by_role("button", name="Redact 1 message").press("Enter")
    expect(page.get_by_text("The redaction is filed.")).to_be_visible()

    page.get_by_role("link", name=str(conversation.pk), exact=True).click()
    expect(boxes).to_have_count(2)
    is_easy_to_use(page)
    page.get_by_role("link", name="Redaction waits").press("Enter")

    opener = page.get_by_role("button", name="Start now")
    opener.press("Enter")
    dialog = page.get_by_role("dialog", name="Start now")
    expect(dialog).to_be_visible()
    is_easy_to_use(page)
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    opener.click()
    dialog.get_by_role("button", name="Start now").click()
    expect(page.get_by_text("The waiting time has ended.")).to_be_visible()
    expect(opener).to_have_count(0)

    assert not worker.drain(seconds=30)
    page.reload(wait_until="networkidle")
    expect(page.get_by_text("verification found nothing left")).to_be_visible()
    is_easy_to_use(page)
    page.get_by_role("link", name=str(conversation.pk), exact=True).click()
    expect(page.get_by_text("This message was redacted.")).to_have_count(1)
    expect(page.get_by_text("my card is 4111 5813")).to_have_count(2)
    is_easy_to_use(page)
    stays_at_home(watched, live_server.url)
