"""Setting a retention period in the settings: see the number, type it, save, cancel."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from chatbots.models import Bucket, ChangeLogEntry, Chatbot
from compliance.models import ComplianceRequest
from compliance.retention import policy
from console.settings import retention_forms
from tests.compliance.retention.runs import begin_now, conversation_aged, file_run, first_run, keep_for
from tests.console.request_pages import decide
from tests.console.settings.saving import assert_refused, assert_saved, page_of, save, shown
from tests.people import Role, member

Status = ComplianceRequest.Status


def token_of(answer: Any) -> str:
    [token] = re.findall(r'name="shown" value="([^"]+)"', answer.text)
    return str(token)


def period_of(chatbot: Chatbot) -> int | None:
    return Chatbot.objects.get(pk=chatbot.pk).retention_days


def test_a_period_is_saved_with_the_number_that_was_shown(chatbot: Chatbot, officer: Client) -> None:
    for days in (400, 91, 80, 10):
        conversation_aged(chatbot, days)
    assert "No conversation is deleted automatically" in shown(officer, chatbot, "retention")

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
    text = shown(officer, chatbot, "retention")
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
        patch.setattr(retention_forms, "_NUMBER_HOLDS", timedelta(0))
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


@pytest.mark.parametrize("days", [1, 45, 3650])
def test_any_number_of_days_is_saved_after_the_same_look(chatbot: Chatbot, officer: Client, days: int) -> None:
    conversation_aged(chatbot, days + 1)
    page = save(officer, chatbot, "retention", days="other", other_days=days)
    assert f"Delete after {policy.label(days)}" in page.text
    chosen = {"days": "other", "other_days": str(days)}
    assert [f'name="{name}" value="{value}"' in page.text for name, value in chosen.items()] == [True, True]
    assert period_of(chatbot) is None

    saved = save(officer, chatbot, "retention", **chosen, shown=token_of(page), confirmed="1")

    assert_saved(saved, chatbot, "retention")
    assert period_of(chatbot) == days
    text = shown(officer, chatbot, "retention")
    assert '<option value="other" selected>' in text
    assert f'name="other_days" value="{days}"' in text
    assert f"deleted {days:,} day{'s' if days > 1 else ''} after their last message" in text


def test_it_is_never_guessed_which_period_is_meant(chatbot, officer) -> None:
    for chosen, message in [
        ({"days": "other"}, "Enter the number of days."),
        ({"days": "other", "other_days": "0"}, "greater than or equal to 1"),
        ({"days": "other", "other_days": "3651"}, "less than or equal to 3650"),
        ({"days": "other", "other_days": "many"}, "Enter a whole number."),
        ({"days": "365", "other_days": "45"}, "Choose “Another number of days” for this number"),
        ({"days": "45"}, "Select a valid choice."),
    ]:
        assert_refused(save(officer, chatbot, "retention", **chosen), message)
        assert period_of(chatbot) is None


def test_zero_is_confirmed_without_typing_it_and_the_guard_stays(chatbot, officer, drain) -> None:
    """What becomes due until the first run begins was not confirmed."""
    page = save(officer, chatbot, "retention", days="90")
    assert "The first run deletes nothing." in page.text
    assert 'name="confirmed"' not in page.text

    assert_saved(save(officer, chatbot, "retention", days="90", shown=token_of(page)), chatbot, "retention")
    conversation_aged(chatbot, 91)
    request = first_run(chatbot)
    begin_now(request)
    drain()

    request.refresh_from_db()
    assert (request.status, request.hold_reason) == (Status.ON_HOLD, "too_many_conversations")


def test_a_number_above_zero_has_to_be_typed(chatbot: Chatbot, officer: Client) -> None:
    conversation_aged(chatbot, 91)
    page = save(officer, chatbot, "retention", days="90")
    for typed in ({}, {"confirmed": ""}):
        answer = save(officer, chatbot, "retention", days="90", shown=token_of(page), **typed)
        assert (answer.status_code, period_of(chatbot)) == (400, None)
        assert "This is not the number above." in answer.text


def test_turning_it_off_needs_no_number(chatbot: Chatbot, officer: Client) -> None:
    keep_for(chatbot, 90)
    assert_saved(save(officer, chatbot, "retention", days=""), chatbot, "retention")
    assert period_of(chatbot) is None


def test_hosted_extracts_never_outlive_the_conversations(chatbot: Chatbot, officer: Client) -> None:
    """Each night's run would rebuild them."""
    assert_saved(save(officer, chatbot, "extracts", on="True"), chatbot, "extracts")
    refused = save(officer, chatbot, "retention", days="other", other_days="40")
    assert_refused(refused, "Choose 41 days or more, turn daily extracts off, or ask an operator")
    assert "Nothing has been saved yet" in save(officer, chatbot, "retention", days="other", other_days="41").text

    save(officer, chatbot, "extracts", on="False")
    page = save(officer, chatbot, "retention", days="other", other_days="40")
    save(officer, chatbot, "retention", days="other", other_days="40", shown=token_of(page))
    assert period_of(chatbot) == 40
    assert_refused(save(officer, chatbot, "extracts", on="True"), "Hosted extracts are kept longer")
    Bucket.objects.filter(chatbot=chatbot).update(
        hosting="client", bucket="theirs", region="eu-west-3", access_key_id="k", secret_encrypted="x"
    )
    assert_saved(save(officer, chatbot, "extracts", on="True"), chatbot, "extracts")


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
