"""Closed access (Article 18 GDPR): what a legal hold keeps from a request to erase it is shown to officers only."""

from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from compliance.models import ComplianceRequest
from conversations.models import Message, UploadedFile
from tests.console.made import VALUE
from tests.functional.company import Company, document, words_in
from tests.functional.redacting import redact, talk
from tests.functional.test_legal_holds import work
from tests.holding import place, release
from tests.people import Role, member


def refusals(company: Company, number: int, file_id: int) -> set[Any]:
    """Return the codes with which the API refuses to read a conversation; None where it answers."""
    paths = (f"{number}/messages", f"{number}/files", f"{number}/files/{file_id}/download")
    answers = [company.caller.get(f"conversations/{path}") for path in paths]
    return {answer.json()["code"] if answer.status_code >= 400 else None for answer in answers}


def entry(company: Company, number: int) -> dict[str, Any]:
    found: dict[str, Any] = company.caller.get(f"conversations/{number}").json()
    return found


def test_a_held_conversation_whose_deletion_waits_is_restricted(company: Company, storage) -> None:
    number = company.talk("c-1", "42", has_file=True)
    company.send(document("c-1", "42", user_name="Ada", csat={"comment": "quick"}))
    unheld = company.talk("c-2", "42", has_file=True)
    files = {one: company.caller.get(f"conversations/{one}/files").json()["results"] for one in (number, unheld)}
    file_id = files[number][0]["file_id"]
    hold, _ = place(company.chatbot, ["c-1"])
    assert refusals(company, number, file_id) == {None}
    assert not entry(company, number)["restricted"]

    company.delete("42")
    work()
    assert refusals(company, number, file_id) == {"conversation_restricted"}
    assert refusals(company, unheld, files[unheld][0]["file_id"]) == {None}
    shown = entry(company, number)
    assert (shown["restricted"], shown["deleted"], shown["id"]) == (True, False, "c-1")
    assert (shown["user_name"], shown["csat"]["comment"], shown["unique_chatter_identifiers"]) == (None, None, [])
    assert not entry(company, unheld)["restricted"]
    log = company.caller.get("conversations").json()["results"]
    assert {one["number"]: one["restricted"] for one in log} == {number: True, unheld: False}
    looked_up = company.caller.post("conversations/lookup", {"ids": ["c-1"]}).json()["results"]
    assert looked_up[0]["conversation"]["restricted"]

    # Intake goes on.
    assert company.upload(number, "one more picture").status_code == 201
    [result] = company.send(document("c-1", "42", messages=[]))
    assert result["error"] is None

    # The person's own export has it, a new daily extract does not.
    assert words_in("c-1").encode() in storage.read(str(company.exported("42").key))
    day = storage.read(str(company.make_day().key)).decode()
    assert words_in("c-1") not in day
    assert words_in("c-2") in day

    release(hold)
    work()
    assert refusals(company, number, file_id) == {"conversation_deleted"}
    assert not entry(company, number)["restricted"]


def test_what_a_held_request_names_is_restricted_until_it_is_cancelled(company: Company) -> None:
    number = talk(company, "c-1", "42")
    other = company.talk("c-2", "42")
    place(company.chatbot, "42")
    request_id = redact(company, number)
    work()
    assert company.caller.get(f"conversations/{number}/messages").json()["code"] == "conversation_restricted"
    assert company.caller.get(f"conversations/{other}/messages").status_code == 200
    company.caller.post(f"requests/{request_id}/cancel", {})
    assert company.caller.get(f"conversations/{number}/messages").status_code == 200
    company.delete(["c-2", "c-3"])
    work()
    assert company.caller.get(f"conversations/{other}/messages").json()["code"] == "conversation_restricted"
    assert company.caller.get(f"conversations/{number}/messages").status_code == 200


def test_the_rest_of_a_deletion_stays_restricted(company: Company) -> None:
    number = company.talk("c-1", "42")
    company.talk("c-2", "42")
    place(company.chatbot, ["c-1"])
    request_id = company.delete("42")
    work()
    officer = member(company.chatbot, Role.OFFICER)
    page = f"/admin/requests/{request_id}/erase_unheld/"
    assert officer.post(page, {"erase_unheld-reason": "answer_due"}).status_code == 302
    work()
    assert ComplianceRequest.objects.get(pk=request_id).result == "partial"
    assert company.caller.get(f"conversations/{number}/messages").json()["code"] == "conversation_restricted"


def test_only_officers_read_it_in_the_console(company: Company, storage) -> None:
    number = company.talk("c-1", VALUE, has_file=True)
    company.send(document("c-1", VALUE, user_name="Ada Lovelace"))
    place(company.chatbot, VALUE)
    company.delete(VALUE)
    work()
    message = Message.objects.get()
    page = f"/admin/conversations/{number}/"
    file = f"{page}files/{UploadedFile.objects.get().pk}/"
    log = f"/admin/conversations/?chatbot={company.chatbot.slug}&since=2026-10-31&until=2026-11-02"
    asked = {"chatbot": company.chatbot.slug, "what": "conversation", "text": "c-1"}
    for role in (Role.VIEWER, Role.SUPPORT):
        client = member(company.chatbot, role)
        selected = {"messages": str(message.pk), "reason": "other"}
        filing = client.post(f"/admin/file/{company.chatbot.slug}/", {"conversation": str(number)})
        answers = [client.get(page), client.get(file), client.post(f"{page}redact/", selected), filing]
        assert {answer.status_code for answer in answers} == {403}
        for answer in [*answers, client.get(log), client.post("/admin/lookup/", asked)]:
            assert words_in("c-1") not in answer.text
            assert VALUE not in answer.text
            assert "Ada Lovelace" not in answer.text
        assert "Restricted conversation" in client.get(log).text
        assert "Restricted conversation" in client.post("/admin/lookup/", asked).text
        by_value = asked | {"what": "value", "text": VALUE}
        assert "Restricted conversation" in client.post("/admin/lookup/", by_value).text
    officer = member(company.chatbot, Role.OFFICER)
    shown = officer.get(page)
    assert words_in("c-1") in shown.text
    assert "Only officers can read it" in shown.text
    assert officer.get(file).status_code == 302
    assert "Ada Lovelace" in officer.get(log).text
    assert "Restricted" in officer.get(log).text


def test_without_a_waiting_request_one_query_is_added(company: Company) -> None:
    number = company.talk("c-1", "42")
    place(company.chatbot, "42")
    with CaptureQueriesContext(connection) as queries:
        assert not entry(company, number)["restricted"]
    about = [one["sql"] for one in queries if "legal_hold" in one["sql"] or "legalhold" in one["sql"]]
    assert len(about) == 1
