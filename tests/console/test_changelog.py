"""The page of the change log: for officers, of their chatbots."""

import csv
import io
import re
from datetime import UTC
from uuid import UUID

from django.contrib.auth.models import User
from django.test import Client

from chatbots import changelog
from chatbots.models import ApiKey, ChangeLogEntry, Chatbot
from chatbots.operations.chatbots import set_role
from chatbots.operations.keys import create_api_key
from tests.people import Role, client_of, member, staff

PAGE = "/admin/changelog/"
REQUEST = UUID("018f0000-0000-7000-8000-000000000000")


def rows(page: str) -> list[str]:
    """Return the table's rows as plain text."""
    _, _, body = page.partition("<tbody>")
    found = re.findall(r"<tr>.*?</tr>", body, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in found]


def note(chatbot: Chatbot, count: int = 1, event: str = "request.accepted", actor: str = "worker", **further) -> None:
    changelog.record_all([changelog.entry(event, chatbot_id=chatbot.pk, actor=actor, **further)] * count)


def test_an_officer_reads_only_the_chatbots_where_they_are_an_officer(chatbot, neighbour):
    officer = staff(chatbot, Role.OFFICER)
    set_role(chatbot=neighbour, user=officer, role=Role.VIEWER, actor="command")
    client = client_of(officer)
    assert client.get(PAGE, {"chatbot": "neighbour"}).status_code == 403
    assert "neighbour" not in client.get(PAGE).text


def test_entries_are_shown_in_plain_words(chatbot, admin_user: User):
    officer = staff(chatbot, Role.OFFICER)
    key = create_api_key(chatbot=chatbot, type=ApiKey.Type.SIGNING, label="CRM", actor="command").api_key
    set_role(chatbot=chatbot, user=officer, role=Role.SUPPORT, actor=f"user:{admin_user.pk}")
    note(chatbot, actor=f"api:{key.prefix}", request_id=REQUEST, data={"kind": "deletion", "origin": "api"})
    note(chatbot, event="file.downloaded", actor="user:999999", data={"file": 3, "conversation": 17})
    set_role(chatbot=chatbot, user=officer, role=Role.OFFICER, actor="command")

    page = client_of(officer).get(PAGE).text
    result = rows(page)
    assert f"Membership set Operator (command) role officer , user {officer.username}" in result[0]
    assert "File downloaded user:999999" in result[1]
    assert "conversation 17" in result[1]
    assert f"Request accepted API key CRM ({key.prefix}) …{str(REQUEST)[-8:]} kind deletion , origin api" in result[2]
    assert f"Membership set admin role support , user {officer.username}" in result[3]
    assert ChangeLogEntry.objects.filter(chatbot=chatbot).count() == len(result)


def test_the_log_is_filtered_by_fixed_choices_and_refuses_other_values(chatbot, neighbour, admin_client: Client):
    note(chatbot, 2)
    note(chatbot, event="request.held", request_id=REQUEST, data={"reason": "awaiting_approval"})
    note(neighbour, event="request.held", request_id=REQUEST)

    def shown(**filters: str) -> int:
        answer = admin_client.get(PAGE, {"chatbot": "acme", **filters})
        assert answer.status_code == 200
        return len(rows(answer.text))

    everything = shown()
    assert (
        shown(event="request.held")
        == shown(request=str(REQUEST))
        == shown(event="request.held", request=REQUEST.hex)
        == 1
    )
    assert shown(event="request.accepted") == 2
    assert everything == 3
    for odd in ({"event": "no.such"}, {"request": "'; --"}):
        answer = admin_client.get(PAGE, {"chatbot": "acme", **odd})
        assert (answer.status_code, rows(answer.text)) == (200, [])
        assert 'role="alert"' in answer.text
    for odd in ({"event": "\0"}, {"cursor": "x"}):
        assert admin_client.get(PAGE, {"chatbot": "acme"} | odd).status_code == 404


def test_it_pages_both_ways_in_few_queries(chatbot, django_assert_max_num_queries):
    client = member(chatbot, Role.OFFICER)
    note(chatbot, 101, actor="user:1", data={"kind": "deletion"})
    with django_assert_max_num_queries(7) as asked:
        first = client.get(PAGE)
    assert not any("COUNT" in query["sql"] or "OFFSET" in query["sql"] for query in asked.captured_queries)
    [older] = re.findall(r'href="([^"]+)" rel="next"', first.text)
    second = client.get(older.replace("&amp;", "&"))
    [newer] = re.findall(r'href="([^"]+)" rel="prev"', second.text)
    assert client.get(newer.replace("&amp;", "&")).context["entries"] == first.context["entries"]
    assert len(rows(first.text)) == len(rows(second.text)) == 50


def test_it_is_downloaded_as_csv_with_its_filters(chatbot, neighbour, monkeypatch):
    monkeypatch.setattr("console.changelog._DOWNLOADED_AT_ONCE", 2)
    officer = staff(chatbot, Role.OFFICER)
    User.objects.filter(pk=officer.pk).update(username="=boss")
    note(chatbot, 5, actor=f"user:{officer.pk}", request_id=REQUEST, data={"kind": "deletion"})
    note(chatbot, event="request.held", data={"reason": "awaiting_approval"})
    note(neighbour, 3)

    def downloaded(**filters: str) -> list[dict[str, str]]:
        answer = client_of(officer).get(f"{PAGE}download/", {"chatbot": "acme", **filters})
        assert (answer.status_code, answer["Content-Type"]) == (200, "text/csv; charset=utf-8")
        assert re.fullmatch(r'attachment; filename="\d{8}_\d{6}_change_log\.csv"', answer["Content-Disposition"])
        return list(csv.DictReader(io.StringIO(answer.getvalue().decode())))

    entries = ChangeLogEntry.objects.filter(chatbot=chatbot).order_by("-id")
    assert [row["id"] for row in downloaded()] == [str(entry.pk) for entry in entries]
    newest = entries.filter(request_id=REQUEST)[0]
    assert downloaded(event="request.accepted", request=str(REQUEST))[0] == {
        "id": str(newest.pk),
        "at": newest.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "event": "request.accepted",
        "actor": f"user:{officer.pk}",
        "actor_name": "'=boss",
        "request_id": str(REQUEST),
        "data": '{"kind": "deletion"}',
    }
    assert len(downloaded(event="request.held")) == 1
    assert downloaded(request="none") == []
    link = re.findall(r'href="([^"]+/download/[^"]+)"', client_of(officer).get(PAGE, {"event": "request.held"}).text)
    assert link == [f"{PAGE}download/?chatbot=acme&amp;event=request.held&amp;request="]
    Chatbot.objects.update(csv_dialect="excel_semicolon")
    answer = client_of(officer).get(f"{PAGE}download/").getvalue().decode()
    assert answer.startswith('\ufeff"id";"at";')
    assert answer.endswith('"\r\n')
    assert member(chatbot, Role.SUPPORT).get(f"{PAGE}download/").status_code == 403
