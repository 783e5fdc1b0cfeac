"""The filer of a deletion does not approve it alone, not even after a restore."""

from uuid import UUID

import pytest
from django.db import transaction
from django.db.models.functions import Now

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.errors import Refused
from compliance.ledger import lines, objects
from compliance.models import ComplianceRequest, Export
from compliance.requests import decisions
from compliance.requests.selectors import ByUci
from compliance.requests.submit import submit
from conversations.models import Conversation
from tests.calls import problem
from tests.compliance.replay.conftest import became_of, gone, replay, work, write_journal
from tests.functional.company import Company, let_time_pass, postpone
from tests.functional.elsewhere import Elsewhere
from tests.functional.redacting import message_of, redact, talk
from tests.functional.refusing import EXPORTS, EXTRACTS, FILES, Refusals
from tests.ledger import lines_of
from tests.people import Role, staff
from tests.restoring import restored


@pytest.fixture
def number(company: Company) -> int:
    """A conversation of Alice's, in a chatbot with four eyes."""
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    return company.talk("c-1", "alice")


def test_nobody_approves_what_they_have_filed_themselves(company: Company, number: int) -> None:
    filer, another = (f"user:{staff(company.chatbot, Role.OFFICER).pk}" for _ in range(2))
    with restored():
        by_console = {"origin": ComplianceRequest.Origin.CONSOLE, "actor": filer}
        about = ByUci("member_id", "alice")
        deletion = submit(chatbot=company.chatbot, kind="deletion", selector=about, **by_console).pk
        write_journal()
    assert became_of(replay()) == {str(deletion): "on_hold"}

    with pytest.raises(Refused, match="four eyes"):
        decisions.approve(request_id=deletion, actor=filer)

    decisions.approve(request_id=deletion, actor=another)
    work()
    assert gone(number) == [True]


def test_an_early_approval_counts_as_far_as_the_backup_has_it_and_one_that_was_used_in_any_case(company, number):
    """What had not begun is not in the ledger as approved: a second person is asked again."""
    others = [company.talk(f"c-{who}", who) for who in ("bob", "carol", "dora")]
    doras = company.delete("dora")
    work()
    assert company.status(doras) == "on_hold"
    alices, bobs = company.delete("alice"), company.delete("bob")
    decisions.approve(request_id=UUID(alices), actor="user:7")
    postpone(alices)
    with restored():
        carols = company.delete("carol")
        for one in (bobs, carols, doras):
            decisions.approve(request_id=UUID(one), actor="command")
        for one in (bobs, carols):
            postpone(one)
        write_journal()
        work()
        assert company.status(doras) == "completed"

    replay()
    let_time_pass()
    work()

    assert [company.status(one) for one in (alices, bobs, carols)] == ["completed", "on_hold", "on_hold"]
    assert gone(number, *others) == [True, False, False, True]
    assert ComplianceRequest.objects.get(pk=doras).approved_by == "command"


@pytest.mark.django_db(transaction=True)
def test_what_a_worker_had_begun_is_neither_held_nor_withdrawn(company, storage, monkeypatch) -> None:
    """Files are gone by then, which no restore brings back: conversations without them would be left.

    The backup has the deletion of Alice.
    """
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    numbers = [company.talk(f"c-{who}", who, has_file=True) for who in ("alice", "bob")]
    company.make_day()
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    deletions = [company.delete("alice")]
    work()
    with restored():
        deletions.append(company.delete("bob"))
        write_journal()
        refusals.unwritable.add(EXTRACTS)
        work()
        for deletion in deletions:
            assert company.status(deletion) == "on_hold"
            decisions.approve(request_id=UUID(deletion), actor="user:7")
        work()
        assert [company.status(deletion) for deletion in deletions] == ["accepted"] * 2
        assert gone(*numbers) == [True] * 2
        assert not list(storage.keys(FILES))
        assert {line["request"] for line in lines_of(storage, "intended")} == set(deletions)
    refusals.end()
    assert became_of(replay()) == dict.fromkeys(deletions, "filed_again")

    for deletion in deletions:
        problem(company.caller.post(f"requests/{deletion}/cancel", {}), 409, "not_cancellable")
    work()

    assert [company.status(deletion) for deletion in deletions] == ["completed"] * 2
    assert gone(*numbers) == [True] * 2


@pytest.mark.django_db(transaction=True)
def test_but_it_waits_for_an_export_that_was_filed_before_it(company, storage, monkeypatch) -> None:
    """Which the backup has as open, and which fails for good: it may be tried again, and deliver what it is for."""
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    number = company.talk("c-alice", "alice", has_file=True)
    company.make_day()
    export, deletion = company.export("alice"), company.delete("alice")

    def became() -> tuple[str, str, list[bool]]:
        return company.status(export), company.status(deletion), gone(number)

    with restored():
        refusals.unwritable.add(EXTRACTS)
        work()
        work()
        assert became() == ("completed", "accepted", [True])
    refusals.end()
    replay()
    refusals.forbidden.add(EXPORTS)
    for _ in range(4):
        work()
        ComplianceRequest.objects.update(not_before=None)
    assert became() == ("failed", "on_hold", [False])

    with pytest.raises(Refused, match="had begun"):
        decisions.reject(request_id=UUID(deletion), actor="user:7", reason="other")
    refusals.end()
    decisions.retry(request_id=UUID(export), actor="user:7")
    work()
    work()

    key = Export.objects.get(request_id=UUID(export)).key
    assert "words in c-alice" in storage.read(str(key)).decode()
    assert became() == ("completed", "completed", [True])


@pytest.mark.django_db(transaction=True)
def test_an_approval_for_another_hold_is_none_for_four_eyes(company: Company) -> None:
    """In a database that was not restored: it was taken up, its rows were in use, and four eyes came since."""
    Chatbot.objects.filter(pk=company.chatbot.pk).update(max_conversations_per_deletion=1)
    numbers = company.talk("c-1", "alice"), company.talk("c-2", "alice")
    deletion = company.delete("alice")
    work()
    decisions.approve(request_id=UUID(deletion), actor="command")
    with transaction.atomic():
        Conversation.objects.select_for_update().get(chatbot=company.chatbot, pk=numbers[0])
        Elsewhere(work).end()
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    ComplianceRequest.objects.update(not_before=None)
    work()
    assert company.request_object(deletion)["hold_reason"] == "awaiting_approval"

    replay("--restored")
    work()

    assert (company.status(deletion), gone(*numbers)) == ("on_hold", [False, False])


def test_nor_is_a_redaction_held(company: Company, storage: ObjectStorage) -> None:
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    number = talk(company, "c-1", "alice")
    with restored():
        redaction = redact(company, number)
        ComplianceRequest.objects.filter(pk=redaction).update(started_at=Now())
        objects.write(lines.accepted([UUID(redaction)]), request_ids=[UUID(redaction)])

    assert became_of(replay()) == {redaction: "filed_again"}
    work()

    assert message_of(number).kind == "redacted"
