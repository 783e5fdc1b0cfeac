"""A request that cannot be carried out again keeps only its own chatbot closed, until an operator decides."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from chatbots.models import Variable
from common.storage import ObjectStorage
from compliance.ledger import service
from compliance.models import LedgerLine
from compliance.replay import filing
from compliance.requests import decisions
from compliance.retention import expiry
from tests import databases
from tests.compliance.replay.conftest import became_of, gone, replay, sweep_and_work, work, write_journal
from tests.factories import ready_chatbot
from tests.functional.company import DAY, NOON, Company, became, document, words_in
from tests.functional.support import dump, everything_in
from tests.patches import failing
from tests.people import Role, client_of, staff
from tests.restoring import Backup, restored

# As a line that contradicts what the database has.
_REFUSE = """
CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'made up' USING ERRCODE = 'unique_violation';
END $$;
CREATE TRIGGER refuse_one BEFORE INSERT ON compliance_compliancerequest
   FOR EACH ROW WHEN (NEW.id = '{request_id}') EXECUTE FUNCTION refuse_one();
"""


@pytest.fixture
def third(storage: ObjectStorage) -> Company:
    return Company(ready_chatbot(slug="third"))


@pytest.fixture
def undecided(company: Company, other: Company, third: Company) -> tuple[list[str], list[int]]:
    """Three deletions to be carried out again, and a conversation of each.

    The database has cancelled the first, refuses the second, and takes the third.
    """
    numbers = [one.talk("c-1", "alice") for one in (company, other, third)]
    deletions = [company.delete("alice")]
    with restored():
        deletions += [one.delete("alice") for one in (other, third)]
        work()
        assert gone(*numbers) == [True] * 3
    decisions.cancel(request_id=UUID(deletions[0]), actor="user:7")
    with connection.cursor() as cursor:
        cursor.execute(_REFUSE.format(request_id=UUID(deletions[1])))
    return deletions, numbers


CLOSED, OPEN = (503, "restored_database"), (200, None)


def answer(company: Company) -> tuple[int, str | None]:
    """Return the status of a call, and the code of a problem."""
    answer = company.caller.get("requests")
    return answer.status_code, answer.json().get("code")


def plans(report: dict[str, Any]) -> dict[str, str]:
    return {one["request_id"]: one["plan"] for one in report["requests"]}


def test_it_keeps_its_own_chatbot_closed_and_no_other_until_somebody_leaves_it(undecided, company, other, third):
    deletions, numbers = undecided
    rows = dump()

    planned = replay("--dry-run", code=3)

    assert (dump(), planned["resolved"]) == (rows, False)
    report = replay(code=3)
    assert plans(planned) == plans(report) == dict(zip(deletions, ("conflict", "unfiled", "erase"), strict=True))
    companies = (company, other, third)
    assert [answer(one) for one in companies] == [CLOSED, CLOSED, OPEN]
    work()
    assert gone(*numbers) == [False, False, True]

    # What a backup has of it is tried again and told.
    with restored():
        pass
    planned, report = replay("--dry-run", code=3), replay(code=3)
    assert plans(report) == plans(planned)
    assert plans(report).keys() == set(deletions[:2])

    replay("--leave", *deletions[:2])

    assert gone(*numbers) == [False, False, True]
    assert [answer(one) for one in companies] == [OPEN] * 3
    # It lasts, whatever is read again, also a line that says less.
    write_journal()
    again = replay("--restored")
    assert {one["advice"] for one in again["requests"] if one["request_id"] in deletions[:2]} == {""}
    assert (gone(*numbers), answer(company), answer(other)) == ([False, False, True], OPEN, OPEN)
    with pytest.raises(CommandError, match="No decision is awaited"):
        call_command("replay_erasures", "--leave", deletions[0])


def test_it_is_tried_again_and_goes_on_after_a_kill(undecided, other, monkeypatch) -> None:
    deletions, numbers = undecided
    for where, step in ((service, "begin_incarnation"), (filing, "file_next")):
        with monkeypatch.context() as patched:
            patched.setattr(where, step, failing(KeyboardInterrupt))
            with pytest.raises(CommandError, match="run it again"):
                call_command("replay_erasures")
        if where is service:
            replay(code=3)
            with connection.cursor() as cursor:
                cursor.execute("DROP TRIGGER refuse_one ON compliance_compliancerequest")

    planned, report = replay("--dry-run", code=3), replay(code=3)

    assert plans(planned) == plans(report)
    assert became_of(report)[deletions[1]] == "erased"
    assert (gone(*numbers), answer(other)) == ([False, True, True], OPEN)


def test_nothing_of_a_closed_chatbot_is_taken_in_or_sent_until_that_is_decided_or_it_is_a_copy(
    undecided: Any, company: Company, storage: ObjectStorage
) -> None:
    replay(code=3)
    slug = company.chatbot.slug

    for command in (
        ("daily_extract", slug, "--date", DAY.isoformat()),
        ("request_export", slug, "member_id", "alice"),
        ("import_conversations", slug, "-"),
    ):
        with pytest.raises(CommandError, match="closed since a restore"):
            call_command(*command)
    officer = client_of(staff(company.chatbot, Role.OFFICER))
    assert officer.get(f"/admin/chatbots/{slug}/").status_code == 404
    sweep_and_work()
    assert words_in("c-1") not in everything_in(storage)
    LedgerLine.objects.update(at=NOON - timedelta(days=1000))
    expiry.remove_expired()
    assert LedgerLine.objects.filter(outcome="undecided").exists()
    assert answer(company) == CLOSED

    call_command("adopt", "--new-service", "--yes")

    assert answer(company) == OPEN


@pytest.fixture
def without_variable(company: Company) -> tuple[str, int, Backup]:
    """A deletion that was carried out, its conversation, and a backup. The restored database has another UCI."""
    number = company.talk("c-1", "alice")
    backup = Backup()
    deletion = company.delete("alice")
    work()
    lose_variable(company, backup)
    return deletion, number, backup


def lose_variable(company: Company, backup: Backup) -> None:
    backup.restore()
    with databases.triggers_off():
        Variable.objects.filter(chatbot=company.chatbot, is_uci=True).update(public_id=uuid4())


def test_a_better_backup_decides_it_and_remembers_the_chatter_and_no_other_restore_does(company, without_variable):
    """The replay without the variable has named conversations alone, in a later line."""
    deletion, number, backup = without_variable
    for _ in range(2):
        assert became_of(replay(code=3)) == {deletion: "undecided"}
        assert answer(company) == CLOSED
        lose_variable(company, backup)

    backup.restore()
    replay()
    work()

    assert gone(number) == [True]
    assert became(company.send(document("c-9", "alice"))) == ["chatter_erased"]


def test_a_decision_lasts_where_the_replay_was_killed_before(company, without_variable, monkeypatch) -> None:
    """The replay has written a later line of what it erased by conversations."""
    with monkeypatch.context() as patched:
        patched.setattr(service, "begin_incarnation", failing(KeyboardInterrupt))
        with pytest.raises(CommandError):
            call_command("replay_erasures")
    replay("--leave", without_variable[0])

    replay()

    assert answer(company) == OPEN
    write_journal()
    replay("--restored")
    assert answer(company) == OPEN
