"""One replay at a time, also behind a pooler, and none that goes on without its lock."""

from contextlib import closing
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from chatbots.models import Chatbot
from common.db import fetch
from compliance import worker
from compliance.ledger import service
from compliance.models import LedgerLine
from compliance.replay import filing, loading, operation, runner
from compliance.replay.report import Report
from compliance.work.claims import HeldClaim
from conversations.locks import LOCK_SPACE
from tests.compliance.replay.conftest import gone, replay, work, write_journal
from tests.functional.company import Company
from tests.functional.support import wait_until
from tests.patches import before
from tests.restoring import restored
from tests.under_roles import role


def test_two_do_not_replay_at_once(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    number = company.talk("c-1", "alice")
    with restored():
        company.delete("alice")
        work()
    with operation._alone(patience=0.0), monkeypatch.context() as impatient:
        impatient.setattr(operation, "PATIENCE_SECONDS", 0.0)
        with pytest.raises(CommandError, match="Another replay"):
            call_command("replay_erasures")
    assert gone(number) == [False]
    replay()
    assert gone(number) == [True]


_HOLDER = """
SELECT pid, state, backend_xmin IS NULL FROM pg_locks JOIN pg_stat_activity USING (pid)
 WHERE locktype = 'advisory' AND objid = %s AND granted AND datname = current_database()
"""


def holder() -> tuple[int, str, bool]:
    """Return the backend that holds the lock of the replay: its state, and whether it keeps nothing from vacuum."""
    with role("owner"):
        fetch("SELECT pg_stat_clear_snapshot()")  # that of this transaction
        [found] = fetch(_HOLDER, [service.REPLAY_LOCK])
    return found[0], found[1], found[2]


def test_the_lock_is_that_of_a_transaction_on_another_connection(company, monkeypatch) -> None:
    """In transaction mode a pooler gives each transaction of the first one another session."""
    company.talk("c-1", "alice")
    with restored():
        company.delete("alice")
        work()
    monkeypatch.setitem(
        connection.settings_dict["OPTIONS"], "options", "-c idle_in_transaction_session_timeout=100ms"
    )
    held: list[tuple[int, str, bool]] = []

    def work_slowly(claim: HeldClaim, deadline: float) -> None:
        fetch("SELECT pg_sleep(0.3)")
        held.append(holder())
        worker.work(claim, deadline)

    assert operation.replay(work=work_slowly)

    [(pid, state, is_without_snapshot)] = held
    assert (state, is_without_snapshot) == ("idle in transaction", True)
    assert [(pid,)] != fetch("SELECT pg_backend_pid()")
    with role("owner"):
        # The server notices soon that the connection was closed.
        wait_until(lambda: not fetch(_HOLDER, [service.REPLAY_LOCK]), seconds=10)


def test_a_replay_that_has_lost_its_lock_stops_at_the_next_step_and_goes_on(company, monkeypatch) -> None:
    numbers = company.talk("c-1", "alice"), company.talk("c-2", "bob")
    with restored():
        company.delete("alice")
        company.delete("bob")
        work()
    monkeypatch.setattr(runner, "claim_size", lambda _kind, _lane: 1)
    calls: list[str] = []

    def losing(step: str, original: Any) -> Any:
        def lose(*args: Any, **kwargs: Any) -> Any:
            done = original(*args, **kwargs)
            if step not in calls:
                with role("owner"):
                    fetch("SELECT pg_terminate_backend(%s, 5000)", [holder()[0]])
            calls.append(step)
            return done

        return lose

    steps = [(loading, "load"), (filing, "file"), (runner, "fetch"), (runner.ReplayRunner, "_carry_out")]
    for where, step in steps:
        with monkeypatch.context() as patched:
            patched.setattr(where, step, losing(step, getattr(where, step)))
            with pytest.raises(CommandError, match="was lost"):
                call_command("replay_erasures")

    assert calls == [step for _, step in steps]
    assert not service.is_open()
    replay()
    assert gone(*numbers) == [True, True]


@pytest.mark.django_db(transaction=True)  # other locks end with the calls that took them
def test_a_dry_run_keeps_nobody_waiting_and_nothing_locked_while_it_is_read(company, monkeypatch) -> None:
    """The service can be open."""
    number = company.talk("c-1", "alice")
    Chatbot.objects.filter(pk=company.chatbot.pk).update(four_eyes=True)
    waiting = company.delete("bob")
    work()
    write_journal()
    with restored(state="open"):
        company.delete("alice")
        write_journal()
    free: list[bool] = []
    left: list[tuple[int, int]] = []

    def look(_report: Report) -> None:
        with closing(connection.copy()) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock_shared(%s, %s)", [LOCK_SPACE, company.chatbot.pk])
            free.append(cursor.fetchone()[0])
            cursor.execute("SELECT FROM compliance_compliancerequest WHERE id = %s FOR UPDATE SKIP LOCKED", [waiting])
            free.append(cursor.rowcount == 1)

    def show(report: Report) -> None:
        left.append((len(list(report.requests())), LedgerLine.objects.count()))

    before(monkeypatch, Report, "count", look)
    operation.replay(work=worker.work, show=show, is_dry_run=True, is_restored=True)

    assert (free, left, gone(number)) == ([True, True], [(1, 0)], [False])
