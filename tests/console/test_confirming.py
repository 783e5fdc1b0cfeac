"""Confirming a preview of one request: by which user, once, in time, and after changes."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from compliance.requests.decisions import cancel
from conversations.models import Conversation
from tests.console.filing_pages import NOW, Answer, Filer, filed
from tests.factories import conversation_of, ready_chatbot
from tests.functional.elsewhere import Elsewhere, Gate, wait_until_blocked
from tests.people import Role, member


def test_it_files_once_however_often_it_is_sent(chatbot, filer, monkeypatch):
    conversation_of(chatbot, "alice")
    preview = filer.preview()
    locations = {filer.confirm(preview, "DELETE 1").response["Location"] for _ in range(3)}
    later = timezone.now() + timedelta(hours=1)
    with monkeypatch.context() as patch:
        patch.setattr(NOW, lambda: later)
        locations.add(filer.confirm(preview, "").response["Location"])
    assert len(locations) == 1
    assert filed()
    assert filer.confirm(filer.preview(), "DELETE 1").response["Location"] not in locations


def test_an_ended_request_of_a_preview_is_not_shown_as_filed_again(chatbot, filer):
    conversation_of(chatbot, "alice")
    preview = filer.preview()
    page = filer.confirm(preview, "DELETE 1").response["Location"]
    assert "Filed. It starts in 15 minutes" in Answer(filer.client.get(page)).text
    cancel(request_id=filed().pk, actor="command")
    answer = filer.client.post(filer.path, {**preview.form("file"), "typed": "DELETE 1"}, follow=True)
    assert answer.redirect_chain == [(page, 302)]
    assert "Nothing new was filed: this preview was confirmed before" in answer.text
    assert "Filed. It begins" not in answer.text
    assert filed()


@pytest.mark.long(reason="two pages for each way to mistype it", beyond=2)
@pytest.mark.parametrize("typed", ["", "DELETE", "delete 1", "DELETE 2", "DELETE 1 1", "1", "DELETE\0 1"])
def test_the_typed_confirmation_must_match(chatbot, filer, typed):
    conversation_of(chatbot, "alice")
    answer = filer.confirm(filer.preview(), typed)
    assert answer.is_preview
    assert "the text you typed does not match" in answer.text
    assert not ComplianceRequest.objects.exists()
    assert filer.confirm(answer, " DELETE  1 ").status == 302


def test_a_grown_preview_is_shown_again_before_filing(chatbot, filer):
    conversation_of(chatbot, "alice")
    preview = filer.preview()
    conversation_of(chatbot, "alice")
    answer = filer.confirm(preview, "DELETE 1")
    assert answer.is_preview
    assert "there is more data now than in your preview" in answer.text
    assert "DELETE 2" in answer.text
    assert filer.confirm(answer, "DELETE 1").is_preview
    Conversation.objects.filter(chatbot=chatbot).order_by("pk")[0].identity_set.all().delete()
    conversation_of(chatbot, "alice")
    assert filer.confirm(answer, "DELETE 2").is_preview, "As many, but not the same."
    assert not ComplianceRequest.objects.exists()


def test_a_preview_expires(chatbot, filer, monkeypatch):
    conversation_of(chatbot, "alice")
    preview = filer.preview()
    later = timezone.now() + timedelta(minutes=16)
    monkeypatch.setattr(NOW, lambda: later)
    answer = filer.confirm(preview, "DELETE 1")
    assert answer.is_preview
    assert "a preview is valid for 15 minutes" in answer.text
    assert filer.confirm(answer, "DELETE 1").status == 302


def test_a_preview_token_belongs_to_one_user_and_one_chatbot(chatbot, neighbour, filer):
    conversation_of(chatbot, "alice")
    sealed = filer.preview().form("file")
    others = Filer(member(chatbot, Role.SUPPORT), chatbot)
    of_neighbour = Filer(member(neighbour, Role.SUPPORT), neighbour)
    cut = {**sealed, "token": [sealed["token"][0][:-8]]}
    for person, form in ((others, sealed), (of_neighbour, sealed), (filer, cut), (filer, {"step": ["file"]})):
        assert person.post({**form, "typed": "DELETE 1"}).status == 400
    many = Filer(filer.client, chatbot, "many/")
    assert many.post({**sealed, "typed": "DELETE 1"}).status == 400
    assert filer.confirm(many.preview_many("alice"), "DELETE 1").status == 400
    assert not ComplianceRequest.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_nothing_is_filed_when_compliance_is_switched_off_during_confirmation():
    chatbot = ready_chatbot(slug="acme")
    filer = Filer(member(chatbot, Role.SUPPORT), chatbot)
    conversation_of(chatbot, "alice")
    preview = filer.preview()
    gate = Gate()

    def hold() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE conversations_uploadedfile IN ACCESS EXCLUSIVE MODE")
            gate.passed()

    holding = Elsewhere(hold)
    gate.wait_for_someone()
    confirming = Elsewhere(lambda: filer.confirm(preview, "DELETE 1"))
    wait_until_blocked()
    Chatbot.objects.update(compliance_enabled=False)
    gate.open()
    holding.end()
    refused = confirming.end()
    assert (refused.status, "switched off" in refused.text) == (409, True)
    assert not ComplianceRequest.objects.exists()
