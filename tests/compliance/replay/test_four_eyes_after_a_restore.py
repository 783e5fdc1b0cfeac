"""Whoever has filed a deletion does not approve it alone, also not after a restore."""

from uuid import UUID

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.errors import Refused
from compliance.ledger import lines, objects
from compliance.models import ComplianceRequest, LineKind
from compliance.requests import decisions
from compliance.requests.selectors import ByUci
from compliance.requests.submit import submit
from tests.calls import problem
from tests.compliance.replay.conftest import became_of, gone, replay, work, write_journal
from tests.functional.company import Company
from tests.functional.redacting import message_of, redact, talk
from tests.functional.refusing import EXTRACTS, FILES, Refusals
from tests.people import Role, staff
from tests.restoring import restored

pytestmark = pytest.mark.django_db


@pytest.fixture
def number(company: Company) -> int:
    """A conversation of Alice's, in a chatbot with four eyes."""
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    return company.talk("c-1", "alice")


def test_no_key_approves_what_is_held_since_a_restore(company: Company, number: int) -> None:
    with restored():
        deletion = company.delete("alice")
        write_journal()
    assert became_of(replay()) == {deletion: "on_hold"}

    problem(company.caller.post(f"requests/{deletion}/approve", {}), 403, "officers_only")

    work()
    assert (gone(number), company.request_object(deletion)["hold_reason"]) == ([False], "restored")
    decisions.approve(request_id=UUID(deletion), actor="user:7")
    work()
    assert gone(number) == [True]


def test_nobody_approves_what_they_have_filed_themselves(company: Company, number: int) -> None:
    filer, another = (f"user:{staff(company.chatbot, Role.OFFICER).pk}" for _ in range(2))
    with restored():
        by_console = {"origin": ComplianceRequest.Origin.CONSOLE, "actor": filer}
        about = ByUci("member_id", "alice")
        deletion = submit(chatbot=company.chatbot, kind="deletion", about=about, **by_console).pk
        write_journal()
    assert became_of(replay()) == {str(deletion): "on_hold"}

    with pytest.raises(Refused, match="four eyes"):
        decisions.approve(request_id=deletion, actor=filer)

    decisions.approve(request_id=deletion, actor=another)
    work()
    assert gone(number) == [True]


def test_an_approval_of_the_lost_life_is_kept(company: Company) -> None:
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    number = company.talk("c-1", "alice")
    deletion = company.delete("alice")
    work()
    assert company.status(deletion) == "on_hold"
    with restored():
        decisions.approve(request_id=UUID(deletion), actor="command")
        work()

    replay()

    assert gone(number) == [True]
    assert ComplianceRequest.objects.get(pk=deletion).approved_by == "command"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("backup_has_it", ["", "four eyes", "accepted", "on hold"])
def test_what_a_worker_had_begun_is_neither_held_nor_withdrawn(
    company: Company, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch, backup_has_it: str
) -> None:
    """Files are gone by then, which no restore brings back: a conversation without them would be left."""
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    number = company.talk("c-1", "alice", has_file=True)
    company.make_day()
    has_four_eyes = backup_has_it in {"four eyes", "on hold"}
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=has_four_eyes)
    deletion = company.delete("alice") if backup_has_it in {"accepted", "on hold"} else ""
    if backup_has_it == "on hold":
        work()
    with restored():
        deletion = deletion or company.delete("alice")
        if has_four_eyes:
            work()
            assert company.status(deletion) == "on_hold"
            decisions.approve(request_id=UUID(deletion), actor="user:7")
        refusals.unwritable.add(EXTRACTS)
        work()
        assert (company.status(deletion), gone(number)) == ("accepted", [True])
        assert not list(storage.keys(FILES))
    refusals.end()
    assert became_of(replay()) == {deletion: "filed_again"}
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)

    problem(company.caller.post(f"requests/{deletion}/cancel", {}), 409, "not_cancellable")
    work()

    assert (company.status(deletion), gone(number)) == ("completed", [True])


def test_nor_is_a_redaction_held(company: Company, storage: ObjectStorage) -> None:
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    number = talk(company, "c-1", "alice")
    with restored():
        redaction = redact(company, number)
        objects.write(lines.accepted([UUID(redaction)], LineKind.INTENDED), request_ids=[UUID(redaction)])

    assert became_of(replay()) == {redaction: "filed_again"}
    work()

    assert message_of(number).kind == "redacted"
