"""The dashboard, workers, exports, callbacks and mails in the console: contents and permissions."""

import re
from datetime import datetime, timedelta
from html import unescape
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import Task
from playwright.sync_api import Page, expect

from chatbots.models import ChangeLogEntry, Chatbot, Membership
from compliance.models import Callback, ComplianceRequest, Export, Heartbeat, Mailbox
from config.env import BASE_DIR
from tests import factories
from tests.browser import browser, in_a_browser, signed_in
from tests.factories import CallbackFactory, ClaimFactory, ConversationFactory, deletion_of, export_of
from tests.people import client_of, member, staff

Role = Membership.Role
Status = ComplianceRequest.Status

VALUE = "jane.doe@example.org"
DAY = timedelta(days=1)


_MANY_REQUESTS = """
INSERT INTO compliance_compliancerequest
       (id, chatbot_id, kind, origin, status, hold_reason, variable_id, uci_value, uci_digest, reference,
        callback_url, erase_exports, include_shared, include_files, due_at, held_at, failed_at, completed_at, result,
        filed_by, approved_by, approved_holds, attempts, lane, error_code, error_detail, conversations_total,
        conversations, shared_conversations, messages, identities, variable_values, files, exports, extracts,
        extracts_left, erased_before)
SELECT gen_random_uuid(), %(chatbot)s, kind, 'api', status, CASE status WHEN 'on_hold' THEN 'awaiting_approval' END,
       %(variable)s, CASE status WHEN 'completed' THEN NULL ELSE 'x' END, '\\x00', '', '', FALSE, FALSE, FALSE,
       now() + (n %% 20 - 5) * interval '1 day', CASE status WHEN 'on_hold' THEN now() END,
       CASE status WHEN 'failed' THEN now() END, CASE status WHEN 'completed' THEN now() END,
       CASE status WHEN 'completed' THEN 'done' END, 'api:x', '', '{}', 0, 'normal',
       CASE status WHEN 'failed' THEN 'x' ELSE '' END, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
  FROM generate_series(1, %(number)s) AS n
 CROSS JOIN LATERAL (SELECT (ARRAY['accepted', 'on_hold', 'failed', 'completed'])[n %% 4 + 1] AS status,
                            (ARRAY['deletion', 'export'])[n %% 2 + 1] AS kind) AS drawn
"""


def many_requests(chatbot: Chatbot, number: int) -> None:
    values = {"chatbot": chatbot.pk, "variable": factories.uci_of(chatbot).pk, "number": number}
    with connection.cursor() as cursor:
        cursor.execute(_MANY_REQUESTS, values)
    missing = ComplianceRequest.objects.filter(kind="export", status="completed", export=None)
    Export.objects.bulk_create(_export(one) for one in missing)
    Callback.objects.bulk_create(
        CallbackFactory.build(request=one, chatbot=chatbot, given_up=True)
        for one in ComplianceRequest.objects.filter(callbacks=None, chatbot=chatbot)
    )


def _export(request: ComplianceRequest, **fields: Any) -> Export:
    whole = {"rows": 7, "bytes": 2_048, "sha256": "ab" * 32, "finished_at": timezone.now(), "hosting": "hosted"}
    key = f"chatter_data_exports/{VALUE}/{uuid4()}.csv"
    return Export(request=request, chatbot_id=request.chatbot_id, **(whole | {"key": key} | fields))


def finished(chatbot: Chatbot, **fields: Any) -> ComplianceRequest:
    request = export_of(chatbot, VALUE)
    ComplianceRequest.objects.filter(pk=request.pk).update(
        status="completed", completed_at=timezone.now(), result="done", uci_value=None
    )
    _export(request, **fields).save()
    return request


def held(chatbot: Chatbot, **fields: Any) -> ComplianceRequest:
    given = {"status": "on_hold", "held_at": timezone.now(), "hold_reason": "awaiting_approval"}
    return deletion_of(chatbot, VALUE, **(given | fields))


def tiles(text: str) -> dict[str, str]:
    """The numbers of the first cards, by label."""
    found = re.findall(r'<p class="label">(.*?)</p><p class="value">(.*?)</p>', text)
    return {label: re.sub("<.*?>", "", value) for label, value in found}


def get(client: Client, name: str, **parameters: str) -> str:
    answer = client.get(reverse(name), parameters)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"] or "private" in answer["Cache-Control"]
    return unescape(answer.text)


def test_the_dashboard_counts_the_chatbots_of_its_user(chatbot: Chatbot, neighbour: Chatbot) -> None:
    now = timezone.now()
    held(chatbot, due_at=now - DAY)
    deletion_of(chatbot, VALUE, received_at=now - 20 * DAY, due_at=now + DAY, queued_at=now - timedelta(hours=12))
    held(neighbour, due_at=now - DAY)
    ConversationFactory.create(chatbot=chatbot, started_at=now)

    ours = get(member(chatbot), "console:dashboard")

    assert tiles(ours) | {"Oldest waiting request": "12 h"} == tiles(ours)
    assert tiles(ours) == {
        "Overdue": "1",
        "Due within 3 days": "1",
        "On hold": "1",
        "Failed": "0",
        "Waiting": "1",
        "In progress": "0",
        "Oldest waiting request": tiles(ours)["Oldest waiting request"],
        "Workers": "none",
    }
    assert "No worker is running" in ours
    assert "1 in 30 days" in ours  # conversations
    assert VALUE not in ours
    superuser = client_of(User.objects.create_superuser("root"))
    assert tiles(get(superuser, "console:dashboard"))["Overdue"] == "2"
    assert tiles(get(superuser, "console:dashboard", chatbot="neighbour", days="7"))["Overdue"] == "1"


def test_the_dashboard_names_the_zone_of_its_days(chatbot: Chatbot, neighbour: Chatbot) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(timezone="Asia/Tokyo")
    user = staff(chatbot)
    assert "Times and days in Asia/Tokyo." in get(client_of(user), "console:dashboard")
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.VIEWER)
    assert "Times and days in UTC" in get(client_of(user), "console:dashboard")
    assert "Times and days in Asia/Tokyo." in get(client_of(user), "console:dashboard", chatbot="acme")


def test_exports_show_where_a_file_is_and_never_its_key(chatbot: Chatbot, neighbour: Chatbot) -> None:
    now = timezone.now()
    ready = finished(chatbot, expires_at=now + 40 * DAY)
    kept = finished(chatbot, expires_at=now + 7 * DAY)
    due = finished(chatbot, expires_at=now)
    removed = finished(chatbot, key=None, removed_at=now)
    delivered = finished(chatbot, hosting="client", bucket="acme-privacy")
    unfinished = export_of(chatbot, VALUE)
    theirs = finished(neighbour)

    text = get(member(chatbot, Role.SUPPORT), "console:exports")

    places = [text.index(str(one.pk)[-12:]) for one in (delivered, removed, due, kept, ready)]
    assert places == sorted(places), "the newest first"
    assert not any(str(one.pk)[-12:] in text for one in (unfinished, theirs))
    for expected in (
        "Client's bucket acme-privacy",
        "Deleted",
        "Being deleted",
        "kept after a deletion",
        "Operator's bucket",
        "ab" * 32,
    ):
        assert expected in text
    assert VALUE not in text
    assert "chatter_data_exports" not in text


def test_callbacks_are_listed_by_state_event_and_error(chatbot: Chatbot, neighbour: Chatbot) -> None:
    request = deletion_of(chatbot, VALUE)
    given_up = CallbackFactory.create(
        request=request, given_up=True, status="failed", error_code="x", last_status=500
    )
    waits = CallbackFactory.create(request=request, last_error="tls_failed")
    delivered = CallbackFactory.create(request=request, delivered=True)
    CallbackFactory.create(request=deletion_of(neighbour, VALUE), given_up=True)
    client = member(chatbot, Role.SUPPORT)

    def shown(**filters: str) -> list[str]:
        return re.findall(r'name="selected" value="([^"]+)"', get(client, "console:callbacks", **filters))

    def ids(*callbacks: Callback) -> list[str]:
        return [str(one.pk) for one in callbacks]

    assert shown() == ids(delivered, waits, given_up)
    assert shown(state="given_up") == ids(given_up)
    assert shown(event="cancelled") == ids(delivered, waits)
    assert shown(error="tls_failed") == ids(waits)
    assert shown(error="no_answer", state="delivered") == []
    assert shown(error="no_answer", event="failed", state="given_up") == ids(given_up)
    assert shown(state="lost") == []
    text = get(client, "console:callbacks")
    assert "https://hooks.example.com" in text
    assert "privacy-5813" not in text, "of an address no more than the host"
    assert neighbour.slug not in text.lower()
    assert client.get(reverse("console:callbacks"), {"chatbot": neighbour.slug}).status_code == 404


def test_support_sends_callbacks_again_in_its_own_chatbots(chatbot: Chatbot, neighbour: Chatbot) -> None:
    path = reverse("console:callbacks_resend")
    back = f"{reverse('console:callbacks')}?state=given_up"
    ours = CallbackFactory.create(request=deletion_of(chatbot, VALUE), given_up=True)
    forgotten = CallbackFactory.create(request=deletion_of(chatbot, VALUE), delivered=True)
    theirs = CallbackFactory.create(request=deletion_of(neighbour, VALUE), given_up=True)
    user = staff(chatbot, Role.SUPPORT)
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.VIEWER)
    client = client_of(user)

    assert client.get(path).status_code == 405
    assert member(chatbot, Role.VIEWER).post(path, {"selected": [str(ours.pk)]}).status_code == 403
    assert member(neighbour, Role.OFFICER).post(path, {"selected": [str(ours.pk)]}).status_code == 404
    assert client.post(path, {"selected": [str(ours.pk), str(theirs.pk)]}).status_code == 403
    assert client.post(path, {"selected": ["x"]}).status_code == 404
    assert Callback.objects.filter(state="waiting").count() == 0

    answer = client.post(path, {"selected": [str(ours.pk), str(forgotten.pk)], "back": back})

    assert answer["Location"] == back
    page = client.get(back).text
    assert "1 callback: will be sent again" in page
    assert "1 callback: The address was forgotten" in page
    assert Callback.objects.get(state="waiting").pk == ours.pk
    assert ChangeLogEntry.objects.get(event="callback.resent").actor == f"user:{user.pk}"
    elsewhere = client.post(path, {"selected": [str(ours.pk)], "back": "https://example.org/admin/callbacks/"})
    assert elsewhere["Location"] == reverse("console:callbacks")
    assert "Select callbacks first." in client.post(path, {}, follow=True).text


def test_the_workers_page_shows_everything_to_superusers_and_own_chatbots_to_others(chatbot, neighbour) -> None:
    now: datetime = timezone.now()
    Heartbeat.objects.create(
        id=uuid4(), name="host:7", version="1", workers=2, started_at=now, seen_at=now, worked_at=now
    )
    deletion_of(chatbot, VALUE, claim=ClaimFactory.create(owner="host:7:8"))
    deletion_of(neighbour, VALUE, claim=ClaimFactory.create(owner="host:7:9", expires_at=now - DAY))
    Task.objects.create(
        id="1" * 32, name="n", func="compliance.tasks.sweep", started=now, stopped=now, success=False, result=VALUE
    )

    ours = get(member(chatbot), "console:workers")
    alls = get(client_of(User.objects.create_superuser("root")), "console:workers")

    assert tiles(ours)["Live clusters"] == "1"
    assert ("host:7:8" in ours, "host:7:9" in ours, "Failed tasks" in ours) == (True, False, False)
    assert ("host:7:8" in alls, "host:7:9" in alls, "Failed tasks" in alls) == (True, True, True)
    assert "the worker was lost" in alls
    assert VALUE not in alls


def test_without_a_cluster_the_workers_page_shows_instructions_folded_for_staff(chatbot: Chatbot) -> None:
    for client, is_folded in ((member(chatbot), True), (client_of(User.objects.create_superuser("root")), False)):
        text = get(client, "console:workers")
        before, fold, inside = text.partition('<details class="operators">')
        assert bool(fold) == is_folded
        for words in ("manage.py qcluster", "no_cluster", "Live clusters", "Last sweep"):
            assert words in (inside or before)
            assert not (is_folded and words in before)
        assert "none" in tiles(before)["Workers"]


def test_officers_choose_the_chatbots_they_get_mails_about(chatbot, neighbour, settings) -> None:
    settings.MAILS = True
    user = staff(chatbot, Role.OFFICER)
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.VIEWER)
    Mailbox.objects.create(user=user, last_error="no_answer")
    client, path = client_of(user), reverse("console:mails")
    first = get(client, "console:mails")
    assert "Your account has no email address" in first
    assert "no_answer" in first
    assert first.count('name="wanted"') == 1

    sent = {"shown": [str(chatbot.pk)], "wanted": [str(neighbour.pk)]}
    assert client.post(path, sent).status_code == 302

    assert not Membership.objects.get(user=user, chatbot=chatbot).mails
    assert Membership.objects.get(user=user, chatbot=neighbour).mails
    entry = ChangeLogEntry.objects.get()
    assert (entry.event, entry.actor) == ("membership.mails_set", f"user:{user.pk}")
    assert "You are not an officer of any chatbot" in get(member(chatbot, Role.SUPPORT), "console:mails")


def test_a_role_that_was_given_meanwhile_keeps_its_mails(chatbot: Chatbot, neighbour: Chatbot) -> None:
    user = staff(chatbot, Role.OFFICER)
    client, path = client_of(user), reverse("console:mails")
    assert f'name="shown" value="{chatbot.pk}"' in get(client, "console:mails")
    Membership.objects.create(chatbot=neighbour, user=user, role=Role.OFFICER)

    assert client.post(path, {"shown": [str(chatbot.pk)], "wanted": []}).status_code == 302

    assert not Membership.objects.get(user=user, chatbot=chatbot).mails
    assert Membership.objects.get(user=user, chatbot=neighbour).mails


def test_each_kind_has_a_colour_in_the_chart() -> None:
    css = (BASE_DIR / "static" / "console" / "monitoring.css").read_text()
    for tone in range(1, len(ComplianceRequest.Kind) + 1):
        assert f".swatch.tone-{tone} {{" in css
        assert f".chart svg .tone-{tone} {{" in css


@in_a_browser
def test_callbacks_are_sent_again_and_a_chatbot_is_chosen(live_server, chatbot: Chatbot, neighbour: Chatbot) -> None:
    CallbackFactory.create(request=deletion_of(chatbot, "42"), given_up=True, last_status=500)
    officer = staff(chatbot, Role.OFFICER)
    with browser() as chromium:
        watched = signed_in(chromium, live_server.url, officer, "/admin/callbacks/?state=given_up")
        _choose_and_send_again(watched.page)
        superuser = User.objects.create_superuser("root")
        chosen = signed_in(chromium, live_server.url, superuser, "/admin/").page
        chosen.get_by_label("Chatbot").select_option("acme")
        chosen.wait_for_url("**chatbot=acme**")
        expect(chosen.get_by_role("img", name="Requests filed per day")).to_be_visible()


def _choose_and_send_again(page: Page) -> None:
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Send selected again").click()
    expect(page.get_by_role("status")).to_contain_text("1 callback: will be sent again")
    expect(page.get_by_text("No callbacks match these filters.")).to_be_visible()
