"""Filing one request: previewed, confirmed by typing, and filed once."""

from datetime import timedelta
from html import escape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Bucket, ChangeLogEntry, Chatbot, Variable
from common.crypto import digest
from compliance.models import ComplianceRequest
from compliance.requests.decisions import cancel
from conversations.models import Conversation, Identity
from tests.console.filing_pages import NOW, Answer, Filer, everything, filed
from tests.factories import IdentityFactory, as_bytes, conversation_of, deletion_of, export_of, uci_of
from tests.people import Role, client_of, staff


def test_a_deletion_is_previewed_then_confirmed_then_filed(chatbot, neighbour):
    user = staff(chatbot, Role.SUPPORT)
    filer = Filer(client_of(user), chatbot)
    conversations = [conversation_of(chatbot, "alice", messages=3) for _ in range(2)]
    conversation_of(neighbour, "alice")
    before = everything()
    preview = filer.preview(reference="T-5813")
    assert preview.is_preview
    assert everything() == before
    assert "DELETE 2" in preview.text
    assert "Messages 6 nothing" in preview.text
    assert all(str(conversation.pk) in preview.html for conversation in conversations)
    answer = filer.confirm(preview, "DELETE 2")
    request = filed()
    assert answer.status == 302
    assert answer.response["Location"] == f"/admin/requests/{request.pk}/"
    assert (request.kind, request.origin, request.filed_by, request.reference, request.uci_value) == (
        *("deletion", "console", f"user:{user.pk}", "T-5813"),
        "alice",
    )
    assert request.chatbot == chatbot
    assert request.not_before is not None
    assert request.not_before - request.received_at >= timedelta(minutes=15)
    found = Answer(filer.client.get(f"/admin/file/{chatbot.slug}/"))
    assert "Filed. It starts in 15 minutes; until then it can be cancelled." in found.text


def test_it_says_that_a_second_person_approves_a_deletion_first(chatbot, filer):
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True)
    for action, times in (("delete", 1), ("export", 0)):
        preview = filer.preview(action=action)
        filed_one = Answer(filer.client.get(filer.confirm(preview, "DELETE 0").response["Location"]))
        assert [page.text.count("a second person approves it first.") for page in (preview, filed_one)] == [times] * 2


def test_an_export_needs_one_click(chatbot, filer):
    conversation_of(chatbot, "alice", "bob")
    conversation_of(chatbot, "alice")
    preview = filer.preview(action="export", include_files="on", erase_exports="on")
    assert "1 shared conversation is left out" in preview.text
    assert "It starts at once." in preview.text
    assert filer.confirm(preview).status == 302
    request = filed()
    assert (request.kind, request.include_files, request.include_shared, request.erase_exports) == (
        *("export", True),
        *(False, False),
    )


def test_a_conversation_shows_its_chatters(chatbot, neighbour, filer):
    odd = " al\r\nice "
    conversation = conversation_of(chatbot, odd, "bob", external_id="c-1")
    other = conversation_of(neighbour, "alice")
    page = filer.post({"conversation": conversation.pk, "action": "delete"})
    form = page.form("preview")
    assert "bob" in page.text
    assert "c-1" in page.text
    assert "subject" not in form, "With two people, none is preselected."
    assert "Choose the subject of the request." in filer.post(form).text
    preview = filer.post({**form, "subject": form["offered"][0]})
    assert preview.is_preview
    assert "contains a line break" in preview.text
    filer.confirm(preview, "DELETE 1")
    assert filed().uci_value == odd
    alone = filer.post({**form, "subject": form["offered"][2]})
    assert "1 conversation by ID" in alone.text
    for number in (other.pk, conversation.pk + 10_000, "0x1", "", "²", "9" * 30):
        assert filer.post({"conversation": number}).status == 404
    Conversation.objects.filter(pk=conversation.pk).update(deletion_request_id=filed().pk)
    assert filer.post({"conversation": conversation.pk}).status == 410


def test_the_only_chatter_of_a_conversation_is_preselected(chatbot, filer):
    conversation = conversation_of(chatbot, "alice")
    form = filer.post({"conversation": conversation.pk, "action": "delete"}).form("preview")
    assert form["subject"] == [form["offered"][0]]
    preview = filer.post(form)
    edited = filer.post(preview.form("edit"))
    assert "alice" in edited.text
    assert "alice" in filer.post(edited.form("preview")).text


@pytest.mark.long(reason="a thousand identities are stored")
def test_a_conversation_that_was_given_a_thousand_chatters_can_still_be_named(chatbot, filer):
    conversation = conversation_of(chatbot, external_id="c-1", messages=0)
    Identity.objects.bulk_create(
        Identity(
            chatbot=chatbot,
            conversation=conversation,
            variable=uci_of(chatbot),
            digest=digest("chatter", uci_of(chatbot).public_id, f"m-{number}"),
            value=f"m-{number}",
        )
        for number in range(1_000)
    )
    page = filer.post({"conversation": conversation.pk, "action": "delete", "alone": "on"})
    form = page.form("preview")
    assert len(form["offered"]) == 101
    assert "The first 100 chatters" in page.text
    assert "m-0 " in page.text
    assert "1 conversation by ID" in filer.post(form).text


def test_a_form_in_another_encoding_is_refused(chatbot, filer):
    # Unpaired surrogates can be sent as escapes, but no response could contain them.
    part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    body = "".join(part.format(*field) for field in (("step", "preview"), ("value", r"\ud800"))) + "--x--\r\n"
    for page in ("", "many/"):
        kind = "multipart/form-data; boundary=x; charset=raw_unicode_escape"
        answer = filer.client.post(filer.path + page, body.encode(), content_type=kind)
        assert answer.status_code == 400
        garbled, kind = b"\xff\xfe&value=%ff%00", "application/x-www-form-urlencoded"
        assert filer.client.post(filer.path + page, garbled, content_type=kind).status_code < 500


def test_a_conversation_without_identity_is_named_by_its_id(chatbot, filer):
    conversation = conversation_of(chatbot, external_id="c-1")
    preview = filer.post({**filer.post({"conversation": conversation.pk}).form("preview"), "action": "delete"})
    filer.confirm(preview, "DELETE 1")
    [digest] = filed().conversation_digests or []
    assert as_bytes(digest) == as_bytes(conversation.external_id_digest)


def test_conversations_are_named_by_ids_or_numbers(chatbot, neighbour, filer):
    first, second = (conversation_of(chatbot, external_id=one) for one in ("c 1", "c-2"))
    other = conversation_of(neighbour)
    by_ids = filer.preview("", whom="ids", ids="c 1\r\nc-2\r\n")
    by_numbers = filer.preview("", whom="numbers", numbers=f"{first.pk}, {second.pk}  {first.pk}")
    assert "DELETE 2" in by_ids.text
    assert "DELETE 2" in by_numbers.text
    filer.confirm(by_numbers, "DELETE 2")
    assert len(filed().conversation_digests or []) == 2
    for numbers in (str(other.pk), "", "x", "1 " * 101, "9" * 19):
        assert filer.preview("", whom="numbers", numbers=numbers).form("preview")
    assert f"no open conversation {other.pk}" in filer.preview("", whom="numbers", numbers=str(other.pk)).text


def test_similar_values_are_one_click_away(chatbot, filer):
    conversation_of(chatbot, "M00012")
    preview = filer.preview("m00012 ", reference="T-1")
    assert "No data found." in preview.text
    assert "The value ends with a space." in preview.text
    assert "Did you mean M00012 ?" in preview.text
    meant = filer.post(preview.form("preview"))
    assert "DELETE 1" in meant.text
    filer.confirm(meant, "DELETE 1")
    assert (filed().uci_value, filed().reference) == ("M00012", "T-1")


def test_a_value_that_looks_the_same_is_one_click_away(chatbot, filer):
    conversation_of(chatbot, "Zoe\u0308")
    preview = filer.preview("Zoë")
    assert "No data found." in preview.text
    assert "1 conversation; differs in characters that look the same or are invisible" in preview.text
    meant = filer.post(preview.form("preview"))
    assert "The value is not in the usual composed form (NFC)." in meant.text
    filer.confirm(meant, "DELETE 1")
    assert filed().uci_value == "Zoe\u0308"


def test_the_preview_shows_all_counts_and_warnings(chatbot, filer, settings):
    email = Variable.objects.create(chatbot=chatbot, name="email", category="custom", was_uci=True)
    conversation = conversation_of(chatbot, "alice", "bob")
    IdentityFactory.create(conversation=conversation, variable=email, value="x")
    export = export_of(chatbot, "alice", status="failed", failed_at=timezone.now(), error_code="x")
    open_one = deletion_of(chatbot, "alice")
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True, max_conversations_per_deletion=0)
    text = filer.preview().text
    assert str(open_one.pk) in text
    assert str(export.pk) not in text
    assert "needs the approval of another officer" in text
    assert "more conversations than the chatbot's guard allows" in text
    assert "An earlier export of the same data has not been delivered" in text
    assert "Other people took part in 1 of the conversations" in text
    assert "email (former)" in filer.preview("").text
    Bucket.objects.filter(chatbot=chatbot).delete()
    without = filer.preview(action="export")
    assert "no bucket for exports" in without.text
    assert not [form for form in without.forms if form["step"] == ["file"]]


def test_errors_are_shown_at_their_field(chatbot, filer):
    for fields, words in (
        ({"value": ""}, "Enter the value"),
        ({"value": "anonymous"}, "placeholder"),
        ({"value": "x" * 513}, "1 to 512 characters"),
        ({"value": "a\0b"}, "Null characters"),
        ({"key": "plan"}, "Choose one of this chatbot"),
        ({"key": ""}, "Choose the UCI"),
        ({"action": ""}, "Choose to delete or to export"),
        ({"reference": "not one"}, "The reference must be"),
        ({"reference": "is-alice"}, "must not contain"),
        ({"whom": "ids", "ids": ""}, "one per line"),
        ({"whom": "ids", "ids": "a\na"}, "is in the list twice"),
        ({"subject": "v1:x:y"}, "belongs to another user or chatbot"),
    ):
        answer = filer.preview(**fields)
        assert answer.form("preview")
        assert words in answer.text
        assert 'class="errors"' in answer.html or "notice bad" in answer.html


def test_a_chatbot_that_takes_no_requests_explains_it(chatbot, filer):
    conversation_of(chatbot, "alice")
    preview = filer.preview()
    Chatbot.objects.filter(pk=chatbot.pk).update(compliance_enabled=False)
    assert "is off" in Answer(filer.client.get(filer.path)).text
    assert "is off" in filer.preview().text
    refused = filer.confirm(preview, "DELETE 1")
    assert (refused.status, "Nothing was filed." in refused.text) == (409, True)
    Chatbot.objects.filter(pk=chatbot.pk).update(compliance_enabled=True)
    export = filer.preview(action="export")
    Bucket.objects.filter(chatbot=chatbot).delete()
    assert "has no bucket for exports. Set one up first." in filer.confirm(export).text
    assert not ComplianceRequest.objects.exists()


def test_a_value_stays_in_the_page(chatbot, filer, caplog, monkeypatch):
    secret = "PLANTED-5813"
    conversation_of(chatbot, secret)
    preview = filer.preview(secret)
    title = preview.html.split("<title>")[1].split("</title>")[0]
    assert secret not in title
    assert escape(secret) in preview.html
    answer = filer.confirm(preview, "DELETE 1")
    assert secret not in answer.response["Location"]
    assert secret not in str(dict(filer.client.session))
    assert secret not in str(filer.client.cookies)
    assert secret not in caplog.text
    assert not ChangeLogEntry.objects.filter(data__icontains=secret).exists()
    assert 'autocomplete="off"' in preview.html


@pytest.mark.long(reason="many conversations are stored")
def test_a_page_costs_as_much_with_many_conversations(chatbot, filer):
    for number in range(3):
        conversation_of(chatbot, "few")
        conversation_of(chatbot, *["many"] * (number < 1), messages=0)
    Conversation.objects.bulk_create(
        Conversation(
            chatbot=chatbot,
            external_id=f"m{number}",
            external_id_digest=number.to_bytes(32),
            channel="widget",
            uci_variable=uci_of(chatbot),
            started_at=timezone.now(),
        )
        for number in range(1_000)
    )
    uci = uci_of(chatbot)
    Identity.objects.bulk_create(
        Identity(
            chatbot=chatbot,
            conversation=conversation,
            variable=uci,
            value="many",
            digest=digest("chatter", uci.public_id, "many"),
        )
        for conversation in Conversation.objects.filter(external_id__startswith="m")
    )
    asked = {}
    for value in ("few", "many"):
        with CaptureQueriesContext(connection) as queries:
            preview = filer.preview(value)
        asked[value] = len(queries)
    assert "newest 100 of 1,001" in preview.text
    assert asked["few"] == asked["many"] <= 25


def test_an_export_waits_for_the_chatbots_own_grace_period(chatbot, filer):
    Chatbot.objects.filter(pk=chatbot.pk).update(grace_minutes=5)
    asked = Answer(filer.client.get(filer.path)).text
    assert "Then a deletion can be cancelled for 15 minutes; an export for 5 minutes." in asked
    preview = filer.preview(action="export")
    assert "It starts 5 minutes after filing." in preview.text
    page = filer.confirm(preview).response["Location"]
    assert "Filed. It starts in 5 minutes; until then it can be cancelled." in Answer(filer.client.get(page)).text


def test_an_export_already_waiting_is_reused(chatbot, filer):
    for found in ("Filed. It starts at once.", "Nothing was filed: this equal export is waiting already."):
        answer = filer.confirm(filer.preview(action="export"))
        assert found in Answer(filer.client.get(answer.response["Location"])).text
    assert ComplianceRequest.objects.count() == 1


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


def test_the_typed_confirmation_must_match(chatbot, filer):
    conversation_of(chatbot, "alice")
    answer = filer.preview()
    for typed in ("", "DELETE", "delete 1", "DELETE 2", "DELETE 1 1", "1", "DELETE\0 1"):
        answer = filer.confirm(answer, typed)
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
