"""The subject of a deletion: shown on demand to users who decide on it, and each time recorded in the change log."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from compliance.models import ComplianceRequest
from tests.browser import fits, in_a_browser, is_easy_to_use, signed_in, stays_at_home
from tests.console.made import VALUE, Status, completed, held, status_of, waiting
from tests.console.request_pages import address, offered, text_of
from tests.factories import conversation_of, export_of, of_conversations, redaction_of
from tests.people import Role, client_of, staff

LATE = datetime(2026, 3, 31, 22, 30, tzinfo=UTC)  # in Berlin the next day has begun


def show(client: Client, request: ComplianceRequest) -> Any:
    return client.post(address(request, "whom"))


def card(text: str) -> str:
    """The text of the card, with single spaces."""
    [found] = re.findall(r'<section class="card filing" id="whom".*?</section>', text, re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", "", found).split())


def shown_to() -> list[tuple[str, Any, Any]]:
    entries = ChangeLogEntry.objects.filter(event="request.shown").order_by("pk")
    return [(entry.actor, entry.request_id, entry.data) for entry in entries]


def bulk(client: Client, *requests: ComplianceRequest, choice: str = "approve:other", **more: Any) -> Any:
    body = {"choice": choice, "selected": [str(one.pk) for one in requests]} | more
    return client.post(reverse("console:requests_decide"), body)


def test_an_officer_is_shown_the_value_its_conversations_and_similar_values_in_one_answer(chatbot: Chatbot) -> None:
    Chatbot.objects.update(timezone="Europe/Berlin")
    ours = [
        conversation_of(chatbot, VALUE, started_at=at, last_message_at=at) for at in (LATE, LATE + timedelta(days=9))
    ]
    conversation_of(chatbot, VALUE.upper())
    request, user = held(chatbot), staff(chatbot, Role.OFFICER)
    client = client_of(user)
    with CaptureQueriesContext(connection) as queries:
        page = text_of(client, request)
    assert "would be erased now" in page
    assert "Show the subject" in card(page)
    columns = [one["sql"].partition(" FROM ")[0] for one in queries]
    assert not [one for one in columns if re.search(r'"uci_value"(?! IS NOT NULL)', one)]
    assert not shown_to()

    answer = show(client, request)

    text = card(answer.text)
    assert "no-store" in answer["Cache-Control"]
    assert f"{VALUE} 2 conversations, 2026-04-01 to 2026-04-10" in text
    assert f"{VALUE.upper()} 1 conversation; differs in upper and lower case" in text
    assert all(f"{one.pk} 2026-04-" in text for one in ours)
    assert all(reverse("console:conversation", args=[one.pk]) in answer.text for one in ours)
    assert shown_to() == [(f"user:{user.pk}", request.pk, {})]
    assert VALUE not in str(ChangeLogEntry.objects.values_list().get())
    assert VALUE not in text_of(client, request)

    show(client, request)
    assert len(shown_to()) == 2
    assert text_of(client, request).count("The subject was shown") == 2


def test_odd_characters_of_the_value_are_named(chatbot: Chatbot, officer: Client) -> None:
    text = show(officer, held(chatbot, uci_value=" <b>42")).text
    assert "starts with a space" in text
    assert "<bdi> &lt;b&gt;42</bdi>" in text
    assert "No conversation of this chatbot has this value now." in text


def test_the_newest_hundred_conversations_are_listed(chatbot: Chatbot, officer: Client, monkeypatch) -> None:
    monkeypatch.setattr("compliance.requests.finds.MOST_NAMED", 2)
    for day in range(3):
        conversation_of(chatbot, VALUE, started_at=LATE + timedelta(days=day))
    text = card(show(officer, held(chatbot)).text)
    assert "Conversations: newest 2 of 3" in text
    assert "2026-03-31" in text.partition("Conversations:")[0]
    assert "2026-03-31" not in text.partition("Conversations:")[2]


def test_of_a_replayed_deletion_only_the_conversations_are_shown(chatbot: Chatbot, officer: Client) -> None:
    conversation_of(chatbot, VALUE)
    conversation_of(chatbot, VALUE.upper())
    request = held(chatbot, "restored", origin="replay")
    ComplianceRequest.objects.filter(pk=request.pk).update(uci_value=None)
    for answer in (show(officer, request), bulk(officer, request)):
        assert "Only a fingerprint of it was kept" in answer.text
        assert "1 conversation" in answer.text
        assert VALUE not in answer.text.lower()
    assert len(shown_to()) == 2


def test_of_a_deletion_by_ids_the_conversations_are_shown(chatbot: Chatbot, officer: Client) -> None:
    found = conversation_of(chatbot, VALUE, external_id="c-1", started_at=LATE)
    state = {"status": "on_hold", "hold_reason": "awaiting_approval", "held_at": timezone.now()}
    text = card(show(officer, of_conversations(chatbot, "c-1", "c-gone", **state)).text)
    assert "Conversations by ID 1 conversation" in text
    assert f"{found.pk} 2026-03-31" in text
    assert "only fingerprints of them" in text
    assert "c-1" not in text
    assert "None of these conversations is stored now." in card(
        show(officer, of_conversations(chatbot, "c-3", **state)).text
    )


def test_only_deletions_that_wait_for_a_decision_are_shown(chatbot: Chatbot, officer: Client) -> None:
    Chatbot.objects.update(four_eyes=True)
    now = timezone.now()
    begun = {"status": Status.PROCESSING, "started_at": now, "cutoff_at": now, "cutoff_number": 0}
    redaction = redaction_of(conversation_of(chatbot, VALUE))
    found = ComplianceRequest.objects.filter(pk=redaction.pk)
    found.update(status=Status.ON_HOLD, hold_reason="awaiting_approval", held_at=now)
    for request in (waiting(chatbot, **begun), completed(chatbot), export_of(chatbot, VALUE), redaction):
        assert 'id="whom"' not in text_of(officer, request)
        answer = show(officer, request)
        assert answer.status_code == 409
        assert "does not wait for a decision" in answer.text
        assert VALUE not in answer.text
    assert not shown_to()
    assert show(officer, waiting(chatbot)).status_code == 200
    Chatbot.objects.update(four_eyes=False)
    assert show(officer, waiting(chatbot)).status_code == 409


@pytest.mark.parametrize("role", [Role.VIEWER, Role.SUPPORT])
def test_others_see_no_value_and_no_count_and_no_query_reads_one(chatbot: Chatbot, neighbour: Chatbot, role) -> None:
    """Also where they decide in another chatbot."""
    Chatbot.objects.update(four_eyes=True)
    conversation_of(chatbot, VALUE)
    user = staff(chatbot, role)
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.OFFICER)
    client, requests = client_of(user), [held(chatbot), waiting(chatbot)]
    with CaptureQueriesContext(connection) as queries:
        for request in requests:
            assert show(client, request).status_code == 403
            page = text_of(client, request)
            assert 'id="whom"' not in page
            assert "1 conversation" not in page
        asked = bulk(client, *requests).text
    assert VALUE not in asked
    assert "1 conversation" not in asked
    assert not shown_to()
    read = [one["sql"] for one in queries]
    assert not [one for one in read if re.search(r'"uci_(value|digest)"(?! IS NOT NULL)', one.partition(" FROM ")[0])]
    assert not [one for one in read if "conversations_identity" in one]


def test_a_bulk_approval_lists_whom_each_deletion_concerns(chatbot: Chatbot, neighbour: Chatbot) -> None:
    user = staff(chatbot, Role.OFFICER)
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.VIEWER)
    for day in (0, 9):
        conversation_of(
            chatbot, VALUE, started_at=LATE + timedelta(days=day), last_message_at=LATE + timedelta(days=day)
        )
    state = {"status": "on_hold", "hold_reason": "awaiting_approval", "held_at": timezone.now()}
    ours = [held(chatbot), of_conversations(chatbot, "c-1", **state)]
    theirs, others = held(neighbour, uci_value="theirs"), [completed(chatbot), export_of(chatbot, "of-export")]
    client = client_of(user)

    text = " ".join(re.sub(r"<[^>]*>", "", bulk(client, *ours, theirs, *others).text).split())

    assert f"{VALUE} 2 conversations, 2026-03-31 to 2026-04-09" in text
    assert "Conversations by ID 0 conversations" in text
    assert "theirs" not in text
    assert "of-export" not in text
    assert shown_to() == [(f"user:{user.pk}", one.pk, {}) for one in ours]

    for choice in ("reject:other", "cancel:other"):
        assert VALUE not in bulk(client, *ours, choice=choice).text
    bulk(client, *ours, confirmed="yes")
    assert len(shown_to()) == len(ours)
    assert [status_of(one) for one in ours] == [Status.ACCEPTED] * 2


def dialog(text: str) -> str:
    [found] = re.findall(r'<dialog open id="decide-approve".*?</dialog>', text, re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", "", found).split())


def test_an_approver_is_told_to_look_and_what_holds_it_again(chatbot: Chatbot, officer: Client) -> None:
    Chatbot.objects.update(four_eyes=True, max_conversations_per_deletion=0)
    conversation_of(chatbot, VALUE)
    again: Sequence[tuple[ComplianceRequest, bool, bool]] = [
        (held(chatbot), False, True),
        (held(chatbot, "awaiting_approval"), True, False),
        (held(chatbot, approved_holds=["awaiting_approval"]), False, False),
        (held(chatbot, "restored"), False, False),
        (waiting(chatbot), True, False),
    ]
    for request, for_number, for_approval in again:
        text = dialog(text_of(officer, request))
        assert "You have not seen the subject" in text
        assert (
            "since it names more conversations now than the chatbot&#x27;s guard allows (0)" in text
        ) == for_number
        assert ("since each deletion needs the approval of a second person" in text) == for_approval
    text = dialog(show(officer, again[0][0]).text)
    assert VALUE in text
    assert "You have not seen" not in text


def test_only_an_export_that_was_filed_earlier_holds_a_deletion_again(chatbot: Chatbot, officer: Client) -> None:
    failed = {"status": "failed", "failed_at": timezone.now(), "error_code": "x"}
    conversation_of(chatbot, VALUE, external_id="c-1")
    text = "since an earlier export of the same data has not been delivered"
    request = held(chatbot)
    export_of(chatbot, VALUE, **failed)
    of_conversations(chatbot, "c-1", kind="export", **failed)
    assert text not in dialog(text_of(officer, request))
    assert text in dialog(text_of(officer, held(chatbot)))


def test_the_waiting_time_says_what_happens_next(chatbot: Chatbot, officer: Client) -> None:
    at = timezone.now() + timedelta(minutes=15)
    request = waiting(chatbot, not_before=at)
    assert "second person" not in text_of(officer, request)
    assert offered(text_of(officer, request)) == {"cancel", "extend"}
    Chatbot.objects.update(four_eyes=True)

    text = text_of(officer, request)
    assert f"At {at:%H:%M:%S on %Y-%m-%d} (UTC) it is put on hold until a second person approves it." in text
    assert "guard allows (1,000) is known only when it starts" in text
    assert offered(text) == {"approve", "cancel", "extend"}
    assert '<input type="hidden" name="approve-held_for" value="accepted"' in text
    assert "An officer who did not file it can approve it already." in text_of(officer, waiting(chatbot))

    approve = {"approve-reason": "other", "approve-held_for": "accepted"}
    assert officer.post(address(request, "approve"), approve).status_code == 302
    text = text_of(officer, request)
    assert f"It is approved, and starts at {at:%H:%M:%S on %Y-%m-%d} (UTC)." in text
    assert offered(text) == {"cancel", "extend"}
    assert officer.post(address(request, "approve"), approve).status_code == 409
    assert ChangeLogEntry.objects.filter(event="request.approved").count() == 1


def test_the_user_who_filed_sees_while_it_waits_that_another_must_approve(chatbot: Chatbot) -> None:
    Chatbot.objects.update(four_eyes=True)
    filer = staff(chatbot, Role.OFFICER)
    request = waiting(chatbot, filed_by=f"user:{filer.pk}")
    text = text_of(client_of(filer), request)
    assert "You filed this request." in text
    assert offered(text) == {"cancel", "extend"}
    assert VALUE in show(client_of(filer), request).text
    answer = client_of(filer).post(address(request, "approve"), {"approve-reason": "other"})
    assert answer.status_code == 409
    assert ComplianceRequest.objects.get(pk=request.pk).approved_holds == []


def test_waiting_deletions_are_approved_in_bulk(chatbot: Chatbot, officer: Client) -> None:
    Chatbot.objects.update(four_eyes=True)
    requests = [waiting(chatbot), held(chatbot, "awaiting_approval")]
    assert officer.get(reverse("console:requests")).text.count("Can be approved") == 1
    asked = bulk(officer, *requests).text
    seen = re.findall(r'name="held_for" value="([^"]*)"', asked)
    assert seen == [f"{requests[0].pk}:accepted", f"{requests[1].pk}:awaiting_approval"]
    bulk(officer, *requests, confirmed="yes", held_for=seen)
    for one in requests:
        one.refresh_from_db()
        assert (one.status, one.approved_holds) == (Status.ACCEPTED, ["awaiting_approval"])
    assert officer.get(reverse("console:requests")).text.count(">Approved<") == 2


# --- In a browser ----------------------------------------------------------------------------------------


LONG = f"{VALUE} " * 12


@in_a_browser
def test_an_officer_looks_whom_a_deletion_concerns_before_approving(live_server, chromium, chatbot: Chatbot) -> None:
    Chatbot.objects.update(four_eyes=True)
    for _ in range(30):
        conversation_of(chatbot, VALUE, messages=1)
    conversation_of(chatbot, VALUE.upper())
    at = timezone.now() + timedelta(minutes=15)
    by_ids = of_conversations(chatbot, "c-1", status="on_hold", hold_reason="awaiting_approval", held_at=at)
    held(chatbot, uci_value=LONG)
    request = waiting(chatbot, not_before=at)
    officer, below = staff(chatbot, Role.OFFICER), f"/admin/requests/{request.pk}/"
    watched = signed_in(chromium, live_server.url, officer, below)
    page = watched.page
    card = page.get_by_role("region", name="Subject")
    expect(card).to_be_visible()
    is_easy_to_use(page)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog").get_by_text("You have not seen")).to_be_visible()
    page.keyboard.press("Escape")

    card.get_by_role("button", name="Show the subject").press("Enter")
    expect(card.get_by_text(VALUE, exact=True)).to_be_visible()
    expect(card.get_by_text("differs in upper and lower case")).to_be_visible()
    assert page.url == f"{live_server.url}{below}whom/#whom"
    is_easy_to_use(page)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("dialog").get_by_text(VALUE, exact=True)).to_be_visible()
    is_easy_to_use(page)

    page.goto(f"{live_server.url}{below}")
    expect(card.get_by_role("button", name="Show the subject")).to_be_visible()
    assert VALUE not in page.content()
    page.goto(f"{live_server.url}/admin/requests/{by_ids.pk}/")
    card.get_by_role("button", name="Show the subject").click()
    expect(card.get_by_text("None of these conversations is stored now.")).to_be_visible()
    is_easy_to_use(page)

    page.goto(f"{live_server.url}/admin/requests/")
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_label("With the selected").select_option("approve:other")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("30 conversations")).to_be_visible()
    is_easy_to_use(page)
    looked = ChangeLogEntry.objects.filter(event="request.shown", request_id=request.pk).count()
    assert looked >= 2
    page.get_by_role("button", name="Approve 3 requests").click()
    expect(page.get_by_text("3 requests: approved")).to_be_visible()
    assert ComplianceRequest.objects.filter(approved_by=f"user:{officer.pk}").count() == 3
    stays_at_home(watched, live_server.url)

    plain = signed_in(
        chromium, live_server.url, officer, f"/admin/requests/{held(chatbot).pk}/", script=False, width=360
    )
    plain.page.get_by_role("button", name="Show the subject").click()
    expect(plain.page.get_by_text(VALUE, exact=True).first).to_be_visible()
    assert fits(plain.page)
