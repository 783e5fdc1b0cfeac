"""The lookup page: results for a chatter, a conversation or a request, without traces of the searched value."""

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot, Variable
from compliance.models import ComplianceRequest
from compliance.requests import lookup
from conversations import search
from conversations.models import Conversation
from tests.console.filing_pages import Answer
from tests.conversations.closing import DELETION, PLANTED, erase, mark, planted
from tests.factories import conversation_of, deletion_of, export_of, of_conversations
from tests.people import Role, member

PAGE = reverse("console:lookup")
VALUE = f"{PLANTED} value 0"
# A value, one that is similar, a name and an id that lead to the planted chatter.
SEARCHES = [("value", VALUE), ("value", VALUE.upper()), ("name", PLANTED), ("conversation", f"{PLANTED} 0")]


def ask(client: Client, what: str, text: str, **also: str) -> Any:
    given = {"chatbot": "acme", "what": what, "text": text, "key": "member_id"} | also
    return client.post(PAGE, given)


def words_of(answer: HttpResponse) -> str:
    return " ".join(re.sub(r"<[^>]*>", "", answer.text).split())


def transcripts_of(answer: HttpResponse) -> list[int]:
    return [int(number) for number in re.findall(r'href="/admin/conversations/(\d+)/"', answer.text)]


def completed(chatbot: Chatbot, value: str, **fields: Any) -> ComplianceRequest:
    """An ended deletion as stored: without the value."""
    ended = {"status": "completed", "completed_at": timezone.now(), "result": "done"} | fields
    request = deletion_of(chatbot, value)
    ComplianceRequest.objects.filter(pk=request.pk).update(uci_value=None, **ended)
    return request


def test_by_value_it_shows_conversations_and_requests(chatbot: Chatbot, neighbour: Chatbot) -> None:
    conversation = planted(chatbot)
    request, export = deletion_of(chatbot, VALUE), export_of(chatbot, VALUE)
    planted(neighbour)
    theirs = deletion_of(neighbour, VALUE)

    answer = ask(member(chatbot), "value", VALUE)

    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    assert transcripts_of(answer) == [conversation.pk]
    assert f"Not yet: deletion {request.pk} is accepted" in words_of(answer)
    assert str(export.pk) in answer.text
    assert str(theirs.pk) not in answer.text


def test_it_leads_to_a_request_about_the_chatter(chatbot: Chatbot) -> None:
    planted(chatbot)
    client, viewer, page = member(chatbot, Role.SUPPORT), member(chatbot), f"/admin/file/{chatbot.slug}/"
    for (what, text), action in zip(SEARCHES, ("export", "delete", "export", "delete"), strict=True):
        found = Answer(ask(client, what, text))
        assert f"Export {VALUE} Delete {VALUE}" in found.text
        [offered] = found.forms
        filing = Answer(client.post(page, offered | {"action": action}))
        assert f"member_id {VALUE}" in filing.text
        assert filing.form("preview")["action"] == [action]
        assert VALUE in Answer(client.post(page, filing.form("preview"))).text
        assert not Answer(ask(client, what, "nobody")).forms
    assert not Answer(ask(viewer, "value", VALUE)).forms


def test_each_conversation_shows_its_values(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation_of(chatbot, "M-7", "M-8", user_name="Ada")
    conversation_of(chatbot, "M-9", user_name="Ada")
    conversation_of(chatbot, user_name="Ada")
    client = member(chatbot)
    words = words_of(ask(client, "name", "ada"))
    rows = words.partition("Conversations found")[2]
    assert all(rows.count(f"member_id = {value}") == 1 for value in ("M-7", "M-8", "M-9"))
    assert rows.count("No UCI value") == 1
    # The look-up of one of two people shows that there is another, and offers the one alone.
    answer = ask(member(chatbot, Role.SUPPORT), "value", "M-7")
    assert "member_id = M-8" in words_of(answer)
    assert re.findall(r"Delete M-[0-9]", words_of(answer)) == ["Delete M-7"]

    monkeypatch.setattr(lookup, "MOST_CHATTERS", 1)
    monkeypatch.setattr(lookup, "_MOST_VALUES", 1)
    words = words_of(ask(client, "name", "ada"))
    assert "1 more chatter: see the conversations below" in words
    # Values that are not shown of one conversation hide none of another.
    assert words.partition("Conversations found")[2].count("member_id = ") == 2


def test_a_conversation_without_a_chatter_can_be_deleted_alone(chatbot: Chatbot) -> None:
    client = member(chatbot, Role.SUPPORT)
    conversation = conversation_of(chatbot, external_id="c-1", user_name="Ada")
    found = Answer(ask(client, "conversation", "c-1"))
    filing = Answer(client.post(f"/admin/file/{chatbot.slug}/", found.form("edit") | {"action": "delete"}))
    assert filing.form("preview")["numbers"] == [str(conversation.pk)]
    conversation_of(chatbot, user_name="Ada")
    several = ask(client, "name", "Ada")
    assert "2 conversations have no UCI value" in several.text
    assert not Answer(several).forms


def test_a_lookup_shows_an_erased_chatter_while_digests_are_kept(chatbot: Chatbot) -> None:
    client = member(chatbot)
    assert "No deletion is known. A deletion can be found by UCI value or ID for 90 days" in words_of(
        ask(client, "value", "42")
    )
    request = completed(chatbot, "42")
    sentence = f"Yes, by request {request.pk} on {timezone.now():%Y-%m-%d}."
    words = words_of(ask(client, "value", "42"))
    assert sentence in words
    assert "arrived later" not in words
    conversation_of(chatbot, "42")
    assert f"{sentence} Conversations that are open below arrived later" in words_of(ask(client, "value", "42"))
    ComplianceRequest.objects.update(result="nothing_found")
    assert "found nothing to delete" in words_of(ask(client, "value", "42"))
    ComplianceRequest.objects.update(uci_digest=None)
    assert "No deletion is known" in words_of(ask(client, "value", "42"))


def test_cancelled_and_later_erased_requests_are_not_shown_as_unknown_or_pending(chatbot: Chatbot) -> None:
    client = member(chatbot)
    now = timezone.now()
    given_up = deletion_of(chatbot, "42", status="failed", failed_at=now, error_code="x")
    failed = f"Not yet: deletion {given_up.pk} is failed"
    assert failed in words_of(ask(client, "value", "42"))
    # As the later deletion leaves it.
    ComplianceRequest.objects.filter(pk=given_up.pk).update(uci_value=None)
    done = completed(chatbot, "42")
    words = words_of(ask(client, "value", "42"))
    assert f"Yes, by request {done.pk}" in words
    assert "Not yet" not in words

    for status in ("cancelled", "rejected"):
        withdrawn = completed(chatbot, "43", status=status, result=None, completed_at=None, **{f"{status}_at": now})
        words = words_of(ask(client, "value", "43"))
        assert f"No: deletion {withdrawn.pk} was {status}." in words
        assert "No deletion is known" not in words


def test_by_value_it_shows_erased_conversations_and_later_ones(chatbot: Chatbot) -> None:
    gone = planted(chatbot)
    completed(chatbot, VALUE, id=DELETION)
    erase(gone)
    since = conversation_of(chatbot, VALUE)
    client = member(chatbot)

    answer = ask(client, "value", VALUE)

    assert transcripts_of(answer) == [since.pk]
    assert answer.text.count("Deleted conversation") == 1
    assert f">{gone.pk}, " in answer.text
    ComplianceRequest.objects.update(uci_digest=None)
    assert "Deleted conversation" not in ask(client, "value", VALUE).text


@pytest.mark.parametrize("close", [mark, erase])
def test_by_id_it_shows_a_closed_conversation_as_deleted_with_its_request(chatbot: Chatbot, close: Any) -> None:
    conversation, ended = planted(chatbot), close is erase
    (completed if ended else deletion_of)(chatbot, VALUE, id=DELETION)
    close(conversation)
    client = member(chatbot)

    for text in (f"{PLANTED} 0", str(conversation.pk), f" {conversation.pk} "):
        answer = ask(client, "conversation", text)
        assert transcripts_of(answer) == []
        assert "Deleted conversation" in answer.text
        words = words_of(answer)
        assert (f"Yes, by request {DELETION} on" if ended else f"Not yet: deletion {DELETION} is") in words
        assert f"{PLANTED} name" not in answer.text
        assert VALUE not in answer.text
    if ended:
        Conversation.objects.update(external_id_digest=None)  # once the ledger's days are over
        assert "Deleted conversation" not in ask(client, "conversation", f"{PLANTED} 0").text


def test_results_of_one_lookup_are_not_in_the_next(chatbot: Chatbot, neighbour: Chatbot) -> None:
    theirs = planted(neighbour)
    assert transcripts_of(ask(member(neighbour), "conversation", str(theirs.pk), chatbot="neighbour")) == [theirs.pk]
    assert transcripts_of(ask(member(chatbot), "conversation", "nobody's")) == []


def test_by_id_and_by_number_both_are_found(chatbot: Chatbot) -> None:
    by_number = planted(chatbot)
    by_id = planted(chatbot, 1, external_id=str(by_number.pk))
    request = of_conversations(chatbot, str(by_number.pk))
    answer = ask(member(chatbot), "conversation", str(by_number.pk))
    assert transcripts_of(answer) == [by_id.pk, by_number.pk]
    assert str(request.pk) in answer.text


def test_by_name_it_finds_open_conversations_and_warns_about_closed_ones(chatbot: Chatbot) -> None:
    ada = planted(chatbot, user_name="Ada Lovelace")
    erase(planted(chatbot, 1, user_name="Ada Byron"))
    client = member(chatbot)
    answer = ask(client, "name", " ada")
    assert transcripts_of(answer) == [ada.pk]
    assert "Names of deleted conversations are not kept" in answer.text
    assert "Byron" not in answer.text
    for short in (ask(client, "name", "a "), ask(client, "name", "á-!")):
        assert "Type 2 characters of the name or more" in short.text
        assert transcripts_of(short) == []


def test_by_name_it_finds_any_word_without_accents_and_a_single_chinese_character(chatbot, neighbour) -> None:
    lucia, li = planted(chatbot, user_name="Lucía Peña"), planted(chatbot, 1, user_name="李明")
    planted(neighbour, user_name="Lucía Peña")
    client = member(chatbot)
    for text, found in (("pena", lucia), ("PEÑA, lu", lucia), ("李", li)):
        assert transcripts_of(ask(client, "name", text)) == [found.pk]
    assert transcripts_of(ask(client, "name", "lucia penaz")) == []


def test_by_request_it_shows_the_request_and_what_it_has_closed(chatbot: Chatbot, neighbour: Chatbot) -> None:
    request = completed(chatbot, VALUE, id=DELETION)
    request = ComplianceRequest.objects.get(pk=DELETION) if request.pk != DELETION else request
    conversation = planted(chatbot)
    Conversation.objects.filter(pk=conversation.pk).update(deletion_request_id=request.pk)
    theirs = deletion_of(neighbour, "42")
    client = member(chatbot)

    answer = ask(client, "request", f" {str(request.pk).upper()} ")
    assert "Deleted conversation" in answer.text
    assert f"Yes, by request {request.pk}" in words_of(answer)
    assert "has no request with this ID" in ask(client, "request", str(theirs.pk)).text
    assert "Enter the whole ID" in ask(client, "request", "42").text


def test_similar_values_are_offered(chatbot: Chatbot) -> None:
    conversation_of(chatbot, "M-7")
    client = member(chatbot)
    answer = ask(client, "value", " m-7")
    assert transcripts_of(answer) == []
    assert "differs in upper and lower case, in leading or trailing spaces or zeros" in words_of(answer)
    assert 'name="text" value="M-7"' in answer.text
    assert re.search(r'<form class="row" method="post" [^>]*autocomplete="off"', answer.text)


def test_a_truncated_result_is_shown_as_truncated(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_RESULTS", 2)
    for _ in range(3):
        conversation_of(chatbot, "42", messages=0)
    answer = ask(member(chatbot), "value", "42")
    assert "Showing the newest" in answer.text
    assert len(transcripts_of(answer)) == 2


def test_invalid_input_is_reported_on_the_page(chatbot: Chatbot) -> None:
    client = member(chatbot)
    wrong: list[tuple[dict[str, str], str]] = [
        ({"text": ""}, "This field is required"),
        ({"text": "x" * 513}, "at most 512"),
        ({"text": "a\0b"}, "Null characters"),
        ({"text": "null"}, "a placeholder that identifies no one"),
        ({"key": "plan"}, "not one of the available choices"),
        ({"what": "everything"}, "not one of the available choices"),
        ({"what": "conversation", "text": "x" * 201}, "An id has 1 to 200"),
    ]
    for given, expected in wrong:
        answer = ask(client, **{"what": "value", "text": "42", **given})
        assert answer.status_code == 200
        assert expected in answer.text
        assert "Was it deleted" not in answer.text
    Variable.objects.update(is_uci=False)
    assert "has no Unique Chatter Identifier" in ask(client, "value", "42", key="").text


def test_the_searched_value_is_in_no_url_session_message_history_or_log(chatbot, caplog) -> None:
    planted(chatbot)
    client = member(chatbot, Role.OFFICER)
    answers = []
    with caplog.at_level("DEBUG"), CaptureQueriesContext(connection) as captured:
        for what, text in SEARCHES:
            answers += [ask(client, what, text, chatbot=slug) for slug in ("acme", "neighbour")]
        client.get(PAGE)

    assert all(PLANTED not in f"{answer.headers}{answer.cookies}" for answer in answers)
    assert all(PLANTED not in record.getMessage() for record in caplog.records if record.name != "django.db.backends")
    assert all(PLANTED not in str(session.get_decoded()) for session in Session.objects.all())
    assert PLANTED not in str(list(LogEntry.objects.values()))
    written = [query["sql"] for query in captured if not query["sql"].lstrip().startswith(("SELECT", "WITH"))]
    assert not any(PLANTED in statement for statement in written)
    for answer in answers[::2]:
        addresses = re.findall(r'(?:href|action|src)="([^"]*)"', answer.text)
        assert addresses
        assert not any(PLANTED in address or "Xq7" in address for address in addresses)


def test_it_takes_as_many_queries_for_many_as_for_few(admin_client: Client, chatbot: Chatbot) -> None:
    def queries() -> list[int]:
        counts = []
        for what, text in (("value", "42"), ("name", "Ada"), ("conversation", "c-1"), ("request", str(request.pk))):
            with CaptureQueriesContext(connection) as captured:
                assert ask(admin_client, what, text).status_code == 200
            counts.append(len(captured))
        return counts

    request = completed(chatbot, "42")
    conversation_of(chatbot, "42", messages=0, user_name="Ada", external_id="c-1")
    queries()  # the first call of a client also reads its session
    few = queries()
    for number in range(10):
        conversation_of(chatbot, "42", messages=0, user_name=f"Ada {number}")
        export_of(chatbot, "42")
    assert queries() == few
    assert max(few) <= 29


def test_a_conversation_that_is_marked_meanwhile_is_not_offered(chatbot, monkeypatch) -> None:
    conversation = planted(chatbot)
    read = lookup._with_chatters

    def mark_first(*given: Any) -> lookup.LookupResult:
        mark(conversation)
        return read(*given)

    monkeypatch.setattr(lookup, "_with_chatters", mark_first)
    answer = ask(member(chatbot, Role.SUPPORT), "name", PLANTED)
    assert VALUE not in answer.text
    assert not Answer(answer).forms


def test_a_value_with_a_line_end_is_filed_as_it_is(chatbot: Chatbot) -> None:
    conversation_of(chatbot, "7\n42", user_name="Ada")
    client = member(chatbot, Role.SUPPORT)
    [offered] = Answer(ask(client, "name", "Ada")).forms
    # A browser would send the line end of a field as CRLF, and a text field has none: "742" is another chatter.
    assert "value" not in offered
    filing = Answer(client.post(f"/admin/file/{chatbot.slug}/", offered | {"action": "delete"})).form("preview")
    preview = Answer(client.post(f"/admin/file/{chatbot.slug}/", filing))
    assert preview.is_preview
    assert "DELETE 1" in preview.text
