"""What cannot be carried out again keeps its own chatbot closed, until somebody decides, and no other."""

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
from compliance.retention import cleanup
from tests import databases
from tests.compliance.replay.conftest import became_of, gone, replay, work, write_journal
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


@pytest.fixture(params=["what it has cancelled", "what cannot be filed"])
def unresolved(request: pytest.FixtureRequest, company: Company, other: Company) -> tuple[str, int, int]:
    """Two deletions to be carried out again, of which one cannot be; return it, and a conversation of each."""
    numbers = company.talk("c-1", "alice"), other.talk("c-1", "alice")
    is_known = request.param == "what it has cancelled"
    deletion = company.delete("alice") if is_known else ""
    with restored():
        deletion = deletion or company.delete("alice")
        other.delete("alice")
        work()
        assert gone(*numbers) == [True, True]
    if is_known:
        decisions.cancel(request_id=UUID(deletion), actor="user:7")
    else:
        with connection.cursor() as cursor:
            cursor.execute(_REFUSE.format(request_id=UUID(deletion)))
    return deletion, *numbers


def answer(company: Company) -> tuple[int, str | None]:
    """Return the status of a call, and the code of a problem."""
    answer = company.caller.get("requests")
    return answer.status_code, answer.json().get("code")


def plans(report: dict[str, Any]) -> dict[str, str]:
    return {one["request_id"]: one["plan"] for one in report["requests"]}


def test_it_keeps_its_own_chatbot_closed_and_no_other_until_somebody_leaves_it(company, other, unresolved) -> None:
    deletion, mine, theirs = unresolved
    rows = dump()

    planned = replay("--dry-run", code=3)

    assert (dump(), planned["resolved"]) == (rows, False)
    report = replay(code=3)
    assert deletion in plans(report)
    assert plans(planned) == plans(report)
    assert gone(mine, theirs) == [False, True]
    assert (answer(company), answer(other)) == ((503, "restored_database"), (200, None))
    work()
    assert gone(mine) == [False]

    # What a backup has of it is tried again and told.
    with restored():
        pass
    planned, report = replay("--dry-run", code=3), replay(code=3)
    assert plans(report) == plans(planned)
    assert deletion in plans(report)

    replay("--leave", deletion)

    assert gone(mine, theirs) == [False, True]
    assert (answer(company), answer(other)) == ((200, None), (200, None))
    # It lasts, whatever is read again, also a line that says less.
    write_journal()
    again = replay("--restored")
    assert [one["advice"] for one in again["requests"] if one["request_id"] == deletion] == [""]
    assert (gone(mine, theirs), answer(company)) == ([False, True], (200, None))
    with pytest.raises(CommandError, match="No decision is awaited"):
        call_command("replay_erasures", "--leave", deletion)


def mend() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER refuse_one ON compliance_compliancerequest")


@pytest.mark.parametrize("unresolved", ["what cannot be filed"], indirect=True)
@pytest.mark.parametrize("step", ["file_next", "begin_incarnation"])
def test_it_is_tried_again_and_goes_on_after_a_kill(company, unresolved, monkeypatch, step) -> None:
    _, mine, theirs = unresolved
    if step == "file_next":
        replay(code=3)
        mend()

    with monkeypatch.context() as patched:
        patched.setattr(filing if step == "file_next" else service, step, failing(KeyboardInterrupt))
        with pytest.raises(CommandError, match="run it again"):
            call_command("replay_erasures")
    if step == "begin_incarnation":
        mend()

    planned, report = replay("--dry-run"), replay()

    assert plans(planned) == plans(report)
    assert (gone(mine, theirs), answer(company)) == ([True, True], (200, None))


@pytest.mark.parametrize("unresolved", ["what it has cancelled"], indirect=True)
def test_nothing_of_a_closed_chatbot_is_taken_in_or_sent_until_that_is_decided_or_it_is_a_copy(
    company: Company, storage: ObjectStorage, unresolved: tuple[str, int, int]
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
    work()
    assert words_in("c-1") not in everything_in(storage)
    LedgerLine.objects.update(at=NOON - timedelta(days=1000))
    cleanup.remove_expired()
    assert LedgerLine.objects.filter(outcome="undecided").exists()
    assert answer(company) == (503, "restored_database")

    call_command("adopt", "--new-service", "--yes")

    assert answer(company) == (200, None)


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
        assert answer(company) == (503, "restored_database")
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

    assert answer(company) == (200, None)
    write_journal()
    replay("--restored")
    assert answer(company) == (200, None)
