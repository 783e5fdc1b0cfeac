"""What carries a preview through the browser: for one user, one chatbot and 15 minutes."""

import json

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from chatbots.models import Chatbot
from common.crypto import encrypt
from compliance.models import ComplianceRequest
from tests.console.filing_pages import Filer
from tests.factories import conversation_of, ready_chatbot
from tests.functional.elsewhere import Elsewhere, Gate, wait_until_blocked
from tests.people import Role, member


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


def test_forms_of_the_version_before_are_refused_as_those_of_others_are(chatbot, filer):
    user = User.objects.get()
    draft = {"kind": "deletion", "key": "member_id", "values": ["alice"], "ids": [], "references": []}
    written = {
        "filing": draft | {"nonce": "n", "at": 0.0},
        "subject": draft,
        "outcomes": [["1", "filed", "", "", ""], ["2", "filed", "", "", ""]],
    }
    token = {
        purpose: encrypt(json.dumps(value), bound_to=f"console:{purpose}:{chatbot.pk}:user:{user.pk}")
        for purpose, value in written.items()
    }
    assert filer.post({"step": "file", "token": token["filing"], "typed": "DELETE 1"}).status == 400
    assert "belongs to another user or chatbot" in filer.preview(subject=token["subject"]).text
    assert Filer(filer.client, chatbot, "many/").post({"step": "outcomes", "token": token["outcomes"]}).status == 400


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
    gate.wait_for_caller()
    confirming = Elsewhere(lambda: filer.confirm(preview, "DELETE 1"))
    wait_until_blocked()
    Chatbot.objects.update(compliance_enabled=False)
    gate.open()
    holding.end()
    refused = confirming.end()
    assert (refused.status, "switched off" in refused.text) == (409, True)
    assert not ComplianceRequest.objects.exists()
