"""A client's reference and callback address are kept unless they identify an erased chatter or conversation."""

from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone
from psycopg import sql

from chatbots.models import Chatbot
from common.db import array, fetch
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import engine, rows
from compliance.errors import ClaimLost
from compliance.models import Callback, Claim, ComplianceRequest, LegalHold, LegalHoldConversation, RequestNote
from compliance.requests.results import assurance_of
from compliance.work import claims, free_text, sizes
from conversations.models import Conversation
from tests.compliance.conftest import Drain
from tests.compliance.retention.runs import conversation_aged, file_run
from tests.factories import conversation_of, deletion_of, export_of, of_conversations, redaction_of
from tests.functional.elsewhere import Elsewhere
from tests.functional.support import dump
from tests.functional.test_oversized import rows_looked_at
from tests.holding import OTHER, PLACER, place, release

pytestmark = pytest.mark.django_db(transaction=True)  # exports are read on their own connection

ADDRESS = "https://crm.example.com/of/ada-77"


def reference_of(request: ComplianceRequest) -> str:
    request.refresh_from_db()
    return request.reference


def test_after_a_deletion_no_reference_of_the_chatters_requests_holds_the_value(chatbot, drain, storage) -> None:
    value = "Planted-\uff21da"  # the A is a wide one
    conversation_of(chatbot, value, external_id="c-1")
    conversation_of(chatbot, "bob", external_id="c-2")
    # Filing by value refuses them today; a request by ids cannot know its conversations' chatters.
    output = [
        export_of(chatbot, value, reference="T-planted-ada"),
        of_conversations(chatbot, "c-1", kind="export", reference="PLANTED-ADA.2"),
    ]
    kept = [
        export_of(chatbot, value, reference="T-8"),
        of_conversations(chatbot, "c-1", kind="export", reference="T-9"),
        of_conversations(chatbot, "c-2", kind="export", reference="T-of-ada"),
    ]
    drain()
    deletion = deletion_of(chatbot, value, reference="planted-ada.3", erase_exports=True)
    drain()

    assert [reference_of(one) for one in (*output, deletion)] == ["", "", ""]
    assert [reference_of(one) for one in kept] == ["T-8", "T-9", "T-of-ada"]
    everything = dump().casefold()
    assert "planted-ada" not in everything
    assert value.casefold() not in everything


def test_no_other_chatters_and_no_other_chatbots_reference_is_emptied(chatbot, neighbour, drain, storage) -> None:
    for each in (chatbot, neighbour):
        conversation_of(each, "ada", external_id="c-1")
    others = [
        export_of(neighbour, "ada", reference="T-ada"),
        of_conversations(neighbour, "c-1", kind="export", reference="T-ada"),
        export_of(chatbot, "bob", reference="T-ada"),
    ]
    drain()
    deletion_of(chatbot, "ada")
    drain()
    assert [reference_of(one) for one in others] == ["T-ada"] * 3


def test_the_second_deletion_of_a_shared_conversation_clears_references_too(chatbot, drain, storage) -> None:
    conversation_of(chatbot, "ada-77", "bob-77", external_id="c-1")
    tells = {
        name: of_conversations(chatbot, "c-1", kind="export", reference=f"T-{name}-77") for name in ("ada", "bob")
    }
    drain()
    for value in ("ada-77", "bob-77"):
        deletion_of(chatbot, value)
        drain()
    assert [reference_of(one) for one in tells.values()] == ["", ""]


def delete_beside(locked: ComplianceRequest, drain: Drain) -> ComplianceRequest:
    """Carry out a deletion of ada-77 while another transaction holds a request; return it."""
    deletion = deletion_of(locked.chatbot, "ada-77")
    with transaction.atomic():
        ComplianceRequest.objects.select_for_update().get(pk=locked.pk)
        Elsewhere(drain).end()
    deletion.refresh_from_db()
    return deletion


@pytest.mark.long(reason="the same by more than a chunk", beyond=1)
@pytest.mark.parametrize("most_messages", [25_000, 1], ids=["of a chunk", "of more than a chunk"])
def test_a_conversation_is_not_erased_while_a_request_with_its_reference_is_locked(
    chatbot: Chatbot, drain: Drain, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, most_messages: int
) -> None:
    monkeypatch.setattr(rows, "CHUNK_MESSAGES", most_messages)
    conversation_of(chatbot, "ada-77", external_id="c-1", messages=3)
    conversation_of(chatbot, "ada-77", external_id="c-2", messages=3)
    tells = of_conversations(chatbot, "c-1", kind="export", reference="T-ada-77")
    drain()
    deletion = delete_beside(tells, drain)
    assert (deletion.status, deletion.waiting_for, reference_of(tells)) == ("accepted", "rows", "T-ada-77")
    # What is erased with the mark is marked as a whole.
    assert (deletion.cutoff_at is None) is (most_messages > 1)

    ComplianceRequest.objects.filter(pk=deletion.pk).update(not_before=timezone.now())
    drain()
    deletion.refresh_from_db()
    assert (deletion.status, deletion.conversations, reference_of(tells)) == ("completed", 2, "")


def test_a_conversation_that_is_erased_later_for_its_reference_counts_once(chatbot, drain, storage) -> None:
    conversation = conversation_of(chatbot, "ada-77", external_id="c-1", deletion_request_id=uuid4())
    tells = of_conversations(chatbot, "c-1", kind="export", reference="T-ada-77")
    drain()
    deletion = delete_beside(tells, drain)
    assert (deletion.conversations, deletion.conversations_total) == (0, 1)
    ComplianceRequest.objects.filter(pk=deletion.pk).update(not_before=timezone.now())
    drain()
    deletion.refresh_from_db()
    conversation.refresh_from_db()
    assert (deletion.status, deletion.conversations, deletion.conversations_total) == ("completed", 1, 1)
    assert sum((assurance_of(deletion) or {}).values()) == 1


def test_a_deletion_by_conversations_clears_references_to_them(chatbot, drain, storage) -> None:
    conversation_of(chatbot, "ada-77", external_id="c-1")
    deletion = of_conversations(chatbot, "c-1", kind="deletion", reference="T-ada-77")
    drain()
    deletion.refresh_from_db()
    assert (deletion.status, deletion.conversations, deletion.reference) == ("completed", 1, "")


def test_with_a_conversation_goes_what_was_written_on_requests_about_it(chatbot, storage) -> None:
    """Filing knows the ids that it is given, and neither the people nor, of a redaction, the conversation's id."""
    done = deletion_of(chatbot, "carl-77")
    worker.drain()
    ages = {"by-value": 10, "by-id": 10, "aged": 400, "late": 10, "kept": 10}
    requests = []
    for name, age in ages.items():
        conversation = conversation_aged(chatbot, age, f"{name}-77", external_id=f"c-{name}", messages=1)
        # What is written there is about another conversation.
        other = "by-id" if name == "kept" else name
        of_ids = of_conversations(chatbot, f"c-{name}", kind="export", reference=f"T-c-{other}")
        both = [of_ids, redaction_of(conversation, reference=f"T-c-{other}")]
        for request in both:
            request.callback_url = f"https://hooks.example.com/{other}-77"
            request.save(update_fields=["callback_url"])
        requests += both
    about = ComplianceRequest.objects.filter(pk__in=[request.pk for request in requests])
    about.update(status="completed", result="done", completed_at=timezone.now())
    for number, request in enumerate(requests):
        RequestNote.objects.create(chatbot=chatbot, request=request, entry_id=number, text="Ada rang")
    deletion_of(chatbot, "by-value-77")
    of_conversations(chatbot, "c-by-id")
    file_run(chatbot)
    Conversation.objects.filter(external_id="c-late").update(deletion_request_id=done.pk)

    worker.drain()
    worker.sweep()

    assert Conversation.objects.get(deleted_at=None).external_id == "c-kept"
    kept = ("T-c-by-id", "https://hooks.example.com/by-id-77", "Ada rang")
    texts = about.order_by("seq").values_list("reference", "callback_url", "notes__text")
    assert list(texts) == [("", "", None)] * 8 + [kept] * 2


def test_the_matter_of_a_released_hold_goes_with_a_person_in_it(
    chatbot: Chatbot, neighbour: Chatbot, drain: Drain, storage: ObjectStorage
) -> None:
    """Placing knows the ids that it is given, and not the people. The record of the hold stays."""
    for each in (chatbot, neighbour):
        for name in ("ada", "bob"):
            conversation_of(each, f"{name}-77", external_id=f"c-{name}")
    cleared = [place(chatbot, ids, matter=f"T-ADA-77.{len(ids)}")[0] for ids in (["c-ada"], ["c-bob", "c-ada"])]
    kept = [
        place(chatbot, ["c-ada"], matter="T-78")[0],
        place(chatbot, ["c-bob"], matter="T-ada-77")[0],
        place(chatbot, None, matter="T-ada-77")[0],
        place(neighbour, ["c-ada"], matter="T-ada-77")[0],
    ]
    for hold in (*cleared, *kept):
        release(hold)
    in_force, _ = place(chatbot, ["c-bob"], matter="T-ada-77.in-force")
    deletion_of(chatbot, "ada-77")
    drain()

    matters = dict(LegalHold.objects.values_list("pk", "matter"))
    assert [matters[hold.pk] for hold in cleared] == ["", ""]
    assert [matters[hold.pk] for hold in (*kept, in_force)] == [hold.matter for hold in (*kept, in_force)]
    assert not LegalHoldConversation.objects.filter(hold__in=cleared).exists()
    assert LegalHoldConversation.objects.filter(hold__in=kept).count() == 3
    for hold in LegalHold.objects.filter(pk__in=[hold.pk for hold in cleared]):
        assert (hold.placed_by, hold.released_by, hold.release_reason) == (PLACER, OTHER, "matter_closed")


def test_a_worker_waiting_for_its_own_request_holds_no_lock_on_anothers(chatbot: Chatbot) -> None:
    """Otherwise two workers that each erase chatters named by the other's request would deadlock."""
    conversation = conversation_of(chatbot, "ada-77", external_id="c-1")
    ours, theirs = (of_conversations(chatbot, "c-1", kind="export", reference=f"T-ada-77-{one}") for one in "ab")

    def empty() -> set[int]:
        with transaction.atomic():
            found = free_text.of_conversations({conversation.pk: conversation.chatbot_id})
            return free_text.clear(found, written={ours.pk})

    def is_free() -> bool:
        with transaction.atomic():
            return ComplianceRequest.objects.select_for_update(skip_locked=True).filter(pk=theirs.pk).exists()

    with transaction.atomic():
        ComplianceRequest.objects.select_for_update().get(pk=ours.pk)
        emptying = Elsewhere(empty)
        assert emptying.waits
        assert Elsewhere(is_free).end()
    assert emptying.end() == set()
    assert [reference_of(one) for one in (ours, theirs)] == ["", ""]


def test_a_locked_reference_delays_only_the_conversations_it_names(chatbot: Chatbot, neighbour: Chatbot) -> None:
    both = conversation_of(chatbot, "ada-77", "bob-77", external_id="c-1")
    bobs = conversation_of(chatbot, "bob-77", external_id="c-2")
    conversation_of(neighbour, "ada-77", external_id="c-1")
    ada, people, _, _ = (
        of_conversations(chatbot, "c-1", "c-2", reference=reference)
        for reference in ("T-ada-77", "T-bob-77-ada-77", "T-1", "")
    )
    of_conversations(neighbour, "c-1", reference="T-ada-77")

    found = free_text.of_conversations({both.pk: chatbot.pk, bobs.pk: chatbot.pk})

    assert found.conversations == {ada.pk: {both.pk}, people.pk: {both.pk, bobs.pk}}


def test_very_many_requests_for_the_same_conversations_are_read_once_each(chatbot, monkeypatch) -> None:
    ids = [f"c-{number}" for number in range(20)]
    conversations = [conversation_of(chatbot, "ada-77", "bob-77", external_id=one) for one in ids]
    for number in range(10):
        of_conversations(chatbot, *ids, reference=f"T-{number}")
    read: list[Any] = []

    def reading(*given: Any) -> list[Any]:
        read.extend(fetch(*given))
        return read

    monkeypatch.setattr(free_text, "fetch", reading)

    assert not free_text.of_conversations({one.pk: chatbot.pk for one in conversations})
    assert len(read) == 10


def test_redactions_of_many_conversations_are_not_compared_with_all_of_them(chatbot: Chatbot) -> None:
    looks = []
    for number in range(100, 140):
        conversation = conversation_of(chatbot, f"ada-{number}", messages=1)
        redaction_of(conversation, reference=f"T-ada-{number}")
        if number in {119, 139}:
            all_of_them = Conversation.objects.values_list("pk", flat=True)
            found = free_text.of_conversations(dict.fromkeys(all_of_them, chatbot.pk))
            assert len(found.references) == len(all_of_them)
            values = {"conversations": array(all_of_them), "chatbots": array([chatbot.pk])}
            looks.append(rows_looked_at(sql.SQL(free_text._OF_CONVERSATIONS), values))
    assert looks[1] < 3 * looks[0]


def test_a_worker_that_has_lost_its_claim_clears_no_reference(chatbot: Chatbot, storage: ObjectStorage) -> None:
    conversation_of(chatbot, "ada-77", external_id="c-1")
    tells = of_conversations(chatbot, "c-1", kind="export", reference="T-ada-77")
    ComplianceRequest.objects.filter(pk=tells.pk).update(
        status="completed", result="done", completed_at=timezone.now()
    )
    deletion_of(chatbot, "ada-77")
    held = claims.take(ComplianceRequest.Kind.DELETION)
    assert held
    Claim.objects.update(token=uuid4())

    with pytest.raises(ClaimLost):
        engine.run(held, sizes.measure(held), deadline=float("inf"))
    assert reference_of(tells) == "T-ada-77"


@pytest.mark.parametrize("other_address", ["", "https://crm.example.com/all"])
@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_callback_that_waits_goes_to_no_address_with_the_value(
    chatbot: Chatbot, drain: Drain, storage: ObjectStorage, other_address: str, *, is_forgotten: bool
) -> None:
    Chatbot.objects.update(callback_url=other_address)
    conversation_of(chatbot, "ada-77", external_id="c-1")
    request = of_conversations(chatbot, "c-1", kind="export", callback_url=ADDRESS)
    drain()
    if is_forgotten:  # since a later event was delivered
        ComplianceRequest.objects.filter(pk=request.pk).update(callback_url="")
    deletion_of(chatbot, "ada-77", erase_exports=True)
    drain()
    assert not ComplianceRequest.objects.exclude(status="completed").exists()
    assert "ada-77" not in dump()
    waiting = Callback.objects.filter(request=request).values_list("url", flat=True)
    assert list(waiting) == [""]  # to the chatbot's, if it has one


def test_a_conversation_is_not_erased_while_its_callbacks_outcome_is_recorded(chatbot, drain, storage) -> None:
    conversation_of(chatbot, "ada-77", external_id="c-1")
    request = of_conversations(chatbot, "c-1", kind="export", callback_url=ADDRESS)
    drain()
    deletion = deletion_of(chatbot, "ada-77", erase_exports=True)
    with transaction.atomic():
        Callback.objects.select_for_update().get(request=request)
        Elsewhere(drain).end()
    deletion.refresh_from_db()
    assert (deletion.status, deletion.waiting_for) == ("accepted", "rows")
    ComplianceRequest.objects.filter(pk=deletion.pk).update(not_before=timezone.now())
    drain()
    deletion.refresh_from_db()
    assert (deletion.status, deletion.conversations) == ("completed", 1)
    assert "ada-77" not in dump()


def test_an_address_of_the_chatbot_is_no_address_of_a_person(chatbot, drain, storage) -> None:
    Chatbot.objects.update(callback_url=ADDRESS)
    conversation_of(chatbot, "ada-77", external_id="c-1")
    of_conversations(chatbot, "c-1", kind="export")
    drain()
    deletion_of(chatbot, "ada-77", erase_exports=True)
    drain()
    assert {one.receiver for one in Callback.objects.all()} == {"https://crm.example.com"}
