"""Setting a retention period in the settings: see the number, type it, save, cancel."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.models import ComplianceRequest
from compliance.retention import policy
from console.settings import forms
from tests.compliance.retention.runs import conversation_aged, file_run, keep_for
from tests.console.request_pages import decide
from tests.console.settings.saving import assert_saved, page_of, save, shown
from tests.people import Role, member

Status = ComplianceRequest.Status


@pytest.fixture
def officer(chatbot: Chatbot) -> Client:
    return member(chatbot, Role.OFFICER)


def token_of(answer: Any) -> str:
    [token] = re.findall(r'name="shown" value="([^"]+)"', answer.text)
    return str(token)


def period_of(chatbot: Chatbot) -> int | None:
    return Chatbot.objects.get(pk=chatbot.pk).retention_days


def test_a_period_is_saved_with_the_number_that_was_shown(chatbot: Chatbot, officer: Client) -> None:
    for days in (400, 91, 80, 10):
        conversation_aged(chatbot, days)
    assert "No conversation is deleted automatically" in shown(officer, chatbot)

    page = save(officer, chatbot, "retention", days="90")
    assert page.status_code == 200
    assert "Nothing has been saved yet" in page.text
    assert page.text.count(f'href="{page_of(chatbot, "retention")}"') == 2, "without an anchor, which would stay here"
    assert "<strong>2</strong> conversations" in page.text
    assert "1 more, in a run each night" in page.text
    assert period_of(chatbot) is None

    wrong = save(officer, chatbot, "retention", days="90", shown=token_of(page), confirmed="3")
    assert (wrong.status_code, period_of(chatbot)) == (400, None)
    assert "This is not the number above." in wrong.text

    saved = save(officer, chatbot, "retention", days="90", shown=token_of(wrong), confirmed="2")
    assert_saved(saved, chatbot, "retention")
    assert period_of(chatbot) == 90
    text = shown(officer, chatbot)
    assert "It was confirmed for 2 conversations" in text
    assert "set back to off" in text
    assert "deleted 90 days after their last message" in text


def test_the_number_may_be_typed_as_it_is_shown(chatbot, officer, monkeypatch) -> None:
    monkeypatch.setattr(policy, "forecast", lambda *_: policy.Forecast(1203, 0, is_whole=True))
    for typed in ("12.03", "1203e0", "1,203", "1 203", "1\u202f203", " 1203 "):
        Chatbot.objects.update(retention_days=None)
        page = save(officer, chatbot, "retention", days="90")
        assert "<strong>1,203</strong> conversations" in page.text
        save(officer, chatbot, "retention", days="90", shown=token_of(page), confirmed=typed)
        assert period_of(chatbot) == (None if typed in {"12.03", "1203e0"} else 90)


def test_a_number_of_another_chatbot_or_of_an_hour_ago_is_refused(chatbot, neighbour, officer, monkeypatch) -> None:
    theirs = token_of(save(member(neighbour, Role.OFFICER), neighbour, "retention", days="90"))
    assert save(officer, chatbot, "retention", days="90", shown=theirs, confirmed="0").status_code == 400
    ours = token_of(save(officer, chatbot, "retention", days="90"))
    with monkeypatch.context() as patch:
        patch.setattr(forms, "_NUMBER_HOLDS", timedelta(0))
        assert save(officer, chatbot, "retention", days="90", shown=ours, confirmed="0").status_code == 400
    assert period_of(chatbot) is None


def test_a_number_that_was_not_shown_for_this_period_is_refused(chatbot: Chatbot, officer: Client) -> None:
    of_another = token_of(save(officer, chatbot, "retention", days="365"))
    for forged in ("", "2", of_another):
        answer = save(officer, chatbot, "retention", days="90", shown=forged, confirmed="0")
        assert (answer.status_code, period_of(chatbot)) == (400, None)
        assert "Not saved." in answer.text


def test_the_run_says_what_it_does_and_cancelling_sets_the_period_back(chatbot: Chatbot, officer: Client) -> None:
    keep_for(chatbot, 365)
    page = save(officer, chatbot, "retention", days="90")
    save(officer, chatbot, "retention", days="90", shown=token_of(page), confirmed="0")
    run = policy.waiting_first_run(chatbot)
    assert run is not None
    url = reverse("console:request", args=[run.request_id])

    text = officer.get(url).text
    assert "Retention run, accepted" in text
    assert "Cancelling it sets the retention period back." in text
    assert "90 days: last message before" in text
    # Support can cancel requests, but the period is an officer's.
    assert "Cancel request" not in member(chatbot, Role.SUPPORT).get(url).text
    assert run.request is not None
    assert decide(member(chatbot, Role.SUPPORT), run.request, "cancel", "filed_by_mistake").status_code == 403
    assert decide(officer, run.request, "cancel", "filed_by_mistake").status_code == 302

    assert period_of(chatbot) == 365
    text = officer.get(url).text
    assert "It was cancelled before it started. No conversation was erased." in text
    assert "the value it named" not in text
    values = ChangeLogEntry.objects.filter(event="chatbot.changed").order_by("pk").values_list("data", flat=True)
    assert [one["value"] for one in values] == [90, 365]


def test_turning_it_off_needs_no_number(chatbot: Chatbot, officer: Client) -> None:
    keep_for(chatbot, 90)
    assert_saved(save(officer, chatbot, "retention", days=""), chatbot, "retention")
    assert period_of(chatbot) is None


def test_a_period_below_the_days_of_hosted_files_is_refused(chatbot: Chatbot, officer: Client, settings: Any) -> None:
    settings.HOSTED_FILE_DAYS = settings.HOSTED_FILE_DAYS * 3
    keep_for(chatbot, None)
    page = save(officer, chatbot, "retention", days="90")
    answer = save(officer, chatbot, "retention", days="90", shown=token_of(page), confirmed="0")
    assert period_of(chatbot) is None
    assert "choose longer" in answer.text


def test_a_run_under_way_shows_what_it_has_deleted_so_far(chatbot: Chatbot, officer: Client) -> None:
    """The total is not known before its end."""
    conversation_aged(chatbot, 91)
    request = file_run(chatbot)
    ComplianceRequest.objects.filter(pk=request.pk).update(
        status=Status.PROCESSING,
        started_at=Now(),
        cutoff_at=Now(),
        cutoff_number=1,
        conversations_total=5_000,
        conversations=4_321,
    )
    text = officer.get(reverse("console:request", args=[request.pk])).text
    assert "4,321 conversations erased so far" in text
    assert "of 5,000" not in text
