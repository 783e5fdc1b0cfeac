"""Legal holds in the console: placed after a preview, reviewed, and released by a second officer."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from chatbots.models import ChangeLogEntry, Chatbot
from compliance.models import LegalHold
from tests.console.made import VALUE, held
from tests.factories import conversation_of, deletion_of, redaction_of
from tests.holding import place, release
from tests.people import Role, client_of, member, staff

LIST = "/admin/holds/"


def address(hold: LegalHold, *below: str) -> str:
    return "/".join(["/admin/holds", str(hold.pk), *below, ""])


def form(chatbot: Chatbot, **fields: Any) -> dict[str, Any]:
    given = {"step": "preview", "whom": "chatter", "key": "member_id", "value": VALUE, "matter": "case-0815"}
    days = {"review_on": (timezone.now() + timedelta(days=90)).date().isoformat()}
    return given | {"basis": "legal_claims"} | days | fields


class Placer:
    """An officer who places holds."""

    def __init__(self, chatbot: Chatbot) -> None:
        self.user = staff(chatbot, Role.OFFICER)
        self.client = client_of(self.user)
        self.chatbot = chatbot
        self.url = f"/admin/holds/place/{chatbot.slug}/"

    def preview(self, **fields: Any) -> Any:
        return self.client.post(self.url, form(self.chatbot, **fields))

    def confirm(self, page: Any) -> Any:
        return self.client.post(self.url, {"step": "place", "token": token_in(page)}, follow=True)

    def place(self, **fields: Any) -> LegalHold:
        assert self.confirm(self.preview(**fields)).status_code == 200
        return LegalHold.objects.latest("id")


def token_in(page: Any) -> str:
    token: str = re.findall(r'name="token" value="([^"]+)"', page.text)[0]
    return token


def words(page: Any) -> str:
    """The text of a page, with single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.text).split())


@pytest.fixture
def placer(chatbot: Chatbot) -> Placer:
    return Placer(chatbot)


@pytest.fixture
def second(chatbot: Chatbot) -> Client:
    return member(chatbot, Role.OFFICER)


def test_a_hold_is_placed_after_its_preview_and_counts_the_same(chatbot: Chatbot, placer: Placer) -> None:
    conversation_of(chatbot, VALUE)
    conversation_of(chatbot, VALUE)
    marked = conversation_of(chatbot, VALUE)
    deletion = deletion_of(chatbot, VALUE)
    type(marked).objects.filter(pk=marked.pk).update(deletion_request_id=deletion.pk)
    redaction = redaction_of(conversation_of(chatbot, VALUE, "43"))
    other = deletion_of(chatbot, "44")
    conversation_of(chatbot, "44")

    page = placer.preview()
    assert page.context["covered"] == (3, 1, 0)
    assert [one.pk for one in page.context["waiting"]] == [deletion.pk, redaction.pk]
    assert str(other.pk) not in page.text
    assert not LegalHold.objects.exists()

    placed = placer.confirm(page)
    assert "Placed. It covers 3 conversations now. 1 conversation being erased already, 0 erased." in words(placed)
    hold = LegalHold.objects.get()
    assert placed.redirect_chain == [(address(hold), 302)]
    assert (hold.placed_by, hold.matter, hold.scope) == (f"user:{placer.user.pk}", "case-0815", "uci")
    assert placed.context["covered"] == (3, 1, 0)
    again = placer.confirm(page)
    assert "this equal hold is in force" in words(again)
    assert LegalHold.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "number", "what"),
    [
        ({"whom": "ids", "ids": "c-1\r\nc-9", "value": ""}, 1, "Conversations by ID"),
        ({"whom": "all", "value": ""}, 2, "The whole chatbot"),
        ({"whom": "all", "value": "", "began_from": "2026-11-01", "began_to": "2026-11-01"}, 2, "before 2026-11-02"),
        ({"whom": "all", "value": "", "began_from": "2026-11-02"}, 0, "from 2026-11-02 00:00"),
    ],
)
def test_a_hold_covers_conversations_or_the_chatbot_in_a_window(chatbot, placer, fields, number, what) -> None:
    for one in ("c-1", "c-2"):
        conversation_of(chatbot, VALUE, external_id=one)
    page = placer.preview(**fields)
    assert page.context["covered"].held == number
    assert what in words(placer.confirm(page))


# A form as it is sent, and what the page says about it. The rules themselves are those of the API (`test_holds.py`).
WRONG: list[tuple[dict[str, str], str]] = [
    ({"value": ""}, "Enter the value exactly as it is stored."),
    ({"value": "null"}, "placeholder"),
    ({"value": "x" * 600}, "512"),
    ({"value": "a\0b"}, "Null characters are not allowed."),
    ({"key": "plan"}, "Choose one of this chatbot"),
    ({"whom": "ids", "ids": "\r\n"}, "Enter the IDs, one per line."),
    ({"whom": "ids", "ids": "\n".join(f"c-{n}" for n in range(101))}, "Name 1 to 100 conversations."),
    ({"whom": "ids", "ids": "c-1\nc-1"}, "This id is in the list twice."),
    ({"whom": "everybody"}, "Select a valid choice."),
    ({"matter": ""}, "Enter your reference of the matter."),
    ({"matter": "Müller v. us"}, "1 to 64 characters"),
    ({"matter": f"case-{VALUE}".replace("@", "%40")[:64]}, "1 to 64 characters"),
    ({"value": "0815"}, "must not contain the chatter&#x27;s value"),
    ({"basis": "curiosity"}, "Select a valid choice."),
    ({"review_on": ""}, "Choose a day."),
    ({"review_on": "2020-01-01"}, "It must be in the future, within 12 months."),
    ({"review_on": "9998-12-31"}, "It must be in the future, within 12 months."),
    ({"review_on": "0001-01-01"}, "greater than or equal"),
    ({"review_on": "9999-12-31"}, "less than or equal"),
    ({"began_to": "9999-12-31"}, "less than or equal"),
    ({"began_from": "2026-11-02", "began_to": "2026-11-01"}, "later than the beginning"),
    ({"began_from": "soon"}, "Enter a valid date."),
]


def test_a_wrong_form_is_shown_again_and_places_nothing(placer: Placer) -> None:
    for fields, fault in WRONG:
        page = placer.preview(**fields)
        assert page.status_code == 200
        assert fault in page.text, fields
        assert "Nothing is placed before you confirm" in page.text
    assert not LegalHold.objects.exists()


def test_a_token_is_its_users_and_its_chatbots(chatbot, neighbour, placer, second) -> None:
    page = placer.preview()
    for client, slug, token in (
        (second, chatbot.slug, token_in(page)),
        (member(neighbour, Role.OFFICER), neighbour.slug, token_in(page)),
        (placer.client, chatbot.slug, "forged"),
        (placer.client, chatbot.slug, ""),
    ):
        for step in ("place", "edit"):
            answer = client.post(f"/admin/holds/place/{slug}/", {"step": step, "token": token})
            assert answer.status_code == 400
    assert not LegalHold.objects.exists()
    edited = placer.client.post(placer.url, {"step": "edit", "token": token_in(page)})
    assert f'value="{VALUE}"' in edited.text
    assert 'value="case-0815"' in edited.text


def test_the_list_has_holds_in_force_first_and_who_released_the_others(chatbot, neighbour, placer) -> None:
    due, _ = place(chatbot, VALUE, matter="due")
    LegalHold.objects.update(review_at=timezone.now() - timedelta(days=1))
    current, _ = place(chatbot, ["c-1"], matter="current")
    gone, _ = place(chatbot, None, matter="gone", actor=f"user:{placer.user.pk}")
    release(gone)
    theirs, _ = place(neighbour, VALUE, matter="theirs")
    page = placer.client.get(LIST)
    text = words(page)
    assert "Times in UTC" in text
    assert [one.pk for one in page.context["page"].rows] == [current.pk, due.pk]
    assert [one.pk for one in page.context["released"]] == [gone.pk]
    assert text.count("Review due") == 1
    assert "The matter is closed" in text
    assert placer.user.username in text
    assert "theirs" not in text
    assert str(theirs.pk) not in page.text
    assert VALUE not in page.text
    released = placer.client.get(f"{LIST}?{urlencode({'view': 'released', 'chatbot': chatbot.slug})}")
    assert [one.pk for one in released.context["page"].rows] == [gone.pk]
    for query in ("view=x", "cursor=x", f"chatbot={neighbour.slug}"):
        assert placer.client.get(f"{LIST}?{query}").status_code == 404


def test_the_value_is_shown_on_demand_and_recorded(chatbot: Chatbot, placer: Placer, second: Client) -> None:
    hold = placer.place()
    assert VALUE not in second.get(address(hold)).text
    shown = second.post(address(hold, "value"))
    assert VALUE in shown.text
    assert "no-store" in shown["Cache-Control"]
    [entry] = ChangeLogEntry.objects.filter(event="hold.shown")
    assert entry.data == {"hold": str(hold.pk)}
    LegalHold.objects.update(value_encrypted="")
    assert "not kept after a restore" in second.post(address(hold, "value")).text
    LegalHold.objects.update(value_encrypted="broken")
    assert second.post(address(hold, "value")).status_code == 503
    release(hold)
    answer = second.post(address(hold, "value"))
    assert answer.status_code == 409
    assert VALUE not in answer.text
    assert "The value was erased with the release." in answer.text


def test_a_review_sets_the_next_one(placer: Placer, second: Client) -> None:
    hold = placer.place()
    LegalHold.objects.update(review_at=timezone.now() - timedelta(days=1))
    assert "The review is due." in second.get(address(hold)).text
    for day in ("", "2020-01-01", "x"):
        assert second.post(address(hold, "review"), {"review_on": day}).status_code == 400
    day = (timezone.now() + timedelta(days=200)).date().isoformat()
    answer = second.post(address(hold, "review"), {"review_on": day}, follow=True)
    assert "The review is recorded." in answer.text
    assert "The review is due." not in answer.text
    assert "Last reviewed" in answer.text
    release(hold)
    assert second.post(address(hold, "review"), {"review_on": day}).status_code == 409


def test_another_officer_releases_it_after_a_preview(chatbot, placer, second) -> None:
    conversation_of(chatbot, VALUE, external_id="c-1")
    conversation_of(chatbot, VALUE)
    hold = placer.place()
    place(chatbot, ["c-1"], matter="other")
    both = held(chatbot, "legal_hold")

    own = placer.client.get(address(hold))
    assert "You placed this hold." in own.text
    assert address(hold, "release") not in own.text
    for answer in (
        placer.client.get(address(hold, "release")),
        placer.client.post(address(hold, "release"), {"reason": "matter_closed", "seen": ""}),
    ):
        assert (answer.status_code, answer["Location"]) == (302, address(hold))
    hold.refresh_from_db()
    assert hold.released_at is None

    assert address(hold, "release") in second.get(address(hold)).text
    page = second.get(address(hold, "release"))
    [shown] = page.context["waiting"]
    assert (shown.request.pk, shown.conversations, shown.held_by_others) == (both.pk, 1, 1)
    assert "waits for another hold" in page.text

    seen = page.context["seen"]
    alone = held(chatbot, "legal_hold")
    LegalHold.objects.exclude(pk=hold.pk).update(released_at=timezone.now(), released_by="x", release_reason="y")
    answer = second.post(address(hold, "release"), {"reason": "matter_closed", "seen": seen})
    assert answer.status_code == 400
    assert "other requests wait now" in answer.text
    seen = answer.context["seen"]
    assert second.post(address(hold, "release"), {"seen": seen}).status_code == 400
    assert second.post(address(hold, "release"), {"reason": "boredom", "seen": seen}).status_code == 400

    done = second.post(address(hold, "release"), {"reason": "matter_closed", "seen": seen}, follow=True)
    assert "Released. 2 requests are not under a legal hold any more." in words(done)
    assert "The matter is closed" in done.text
    for request in (both, alone):
        request.refresh_from_db()
        assert request.status == "accepted"
    assert second.get(address(hold, "release")).status_code == 302


def test_the_preview_of_a_release_counts_what_no_hold_covers(chatbot, second) -> None:
    conversation_of(chatbot, VALUE, external_id="c-1")
    conversation_of(chatbot, VALUE)
    hold, _ = place(chatbot, ["c-1"], actor="api:x")
    held(chatbot, "legal_hold")
    page = second.get(address(hold, "release"))
    assert page.context["conversations"] == 2


def test_no_value_is_in_an_address_a_title_or_a_log(chatbot, placer, second) -> None:
    conversation_of(chatbot, VALUE)
    hold = placer.place()
    seen = second.get(address(hold, "release")).context["seen"]
    pages = [
        placer.preview(),
        second.get(LIST),
        second.get(address(hold)),
        second.post(address(hold, "value")),
        second.get(address(hold, "release")),
        second.post(address(hold, "release"), {"reason": "other", "seen": seen}),
        second.post(address(hold, "release"), {"reason": "matter_closed", "seen": seen}, follow=True),
    ]
    for page in pages:
        [title] = re.findall(r"<title>(.*?)</title>", page.text, re.DOTALL)
        assert VALUE not in title
        for link in re.findall(r'(?:href|action|src)="([^"]*)"', page.text):
            assert VALUE not in link
            assert "case-0815" not in link
    assert not LogEntry.objects.exists()
    logged = str(list(ChangeLogEntry.objects.values_list("event", "data")))
    assert "hold.placed" in logged
    assert VALUE not in logged
    assert "case-0815" not in logged
