"""A replay from start to end: what it believes, how it goes on after a kill, and when it does nothing."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import engine, objects, rows
from compliance.ledger import content, service
from compliance.ledger.content import Header
from compliance.models import ComplianceRequest, LedgerLine, LedgerObject, Service
from compliance.replay import filing, loading, operation, runner
from compliance.work import claims
from conversations.models import Conversation
from tests.clients import empty
from tests.commands import run
from tests.compliance.replay.conftest import became_of, gone, replay, work, write_journal
from tests.functional.company import Company
from tests.functional.redacting import redact, talk
from tests.functional.support import dump
from tests.patches import Killed, after, before, failing
from tests.restoring import restored


def erased_since(company: Company, *, state: str = "restored") -> tuple[int, str]:
    """Make the database look restored, after a chatter was erased; return the conversation and the deletion."""
    number = company.talk("c-1", "alice")
    with restored(state=state):
        deletion = company.delete("alice")
        work()
    return number, deletion


def told(*options: str, code: int = 0) -> str:
    ran = run("replay_erasures", *options)
    assert ran.code == code
    return ran.out


def sealed(key: str, *lines: dict[str, Any], **header: Any) -> bytes:
    ours = Service.objects.get()
    made = {"service_id": ours.service_id, "incarnation": ours.incarnation, "at": timezone.now()} | header
    return content.seal(Header(key, **made), lines)


def test_only_objects_that_this_service_wrote_there_and_lately_are_believed(company, storage, settings) -> None:
    """Any other is named, with where to read on, and not used."""
    people = ("alice", "bob", "carol")
    numbers = [company.talk(f"c-{who}", who) for who in people]
    keys: list[list[str]] = []
    with restored():
        for who in people:
            company.delete(who)
            before = set(storage.keys("erasure_ledger/"))
            work()
            keys.append(sorted(set(storage.keys("erasure_ledger/")) - before))
    faults: dict[str, str] = {}
    for key in keys[0]:
        storage.put(key, storage.read(key).replace(b'"request":"', b'"request":"f'), "text/plain")
        faults[key] = "forged"
    for key in keys[1]:
        moved = key.replace(".jsonl", "-again.jsonl")
        storage.put(moved, storage.read(key), "text/plain")
        storage.purge(key)
        faults[moved] = "moved"
    folder = f"erasure_ledger/{Service.objects.get().service_id}/2026/"
    long_ago = timezone.now() - settings.ERASURE_LEDGER_DAYS - timedelta(minutes=1)
    bad = {
        "foreign": sealed(f"{folder}foreign", service_id=uuid4()),
        "expired": sealed(f"{folder}expired", at=long_ago),
        "unreadable": sealed(f"{folder}unreadable", {"kind": "hold_placed", "request": str(uuid4())}),
    }
    for name, one in bad.items():
        storage.put(f"{folder}{name}", one, "text/plain")
        faults[f"{folder}{name}"] = name
    lacking = sealed(f"{folder}lacking", {"kind": "withdrawn", "request": str(uuid4()), "chatbot": str(uuid4())})
    storage.put(f"{folder}lacking", lacking, "text/plain")
    faults[f"{folder}lacking"] = "unreadable"
    # That of another service is none of ours.
    storage.put(f"erasure_ledger/{uuid4()}/2026/01/01/000000-x.jsonl", b"x", "text/plain")

    planned = replay("--dry-run", code=3)
    text = told(code=3)

    assert {one["key"]: one["fault"] for one in planned["objects"]["refused"]} == faults
    assert (planned["plans"], gone(*numbers)) == ({"erase": 1}, [False, False, True])
    assert not LedgerObject.objects.filter(key__in=faults).exists()
    for each in (text, told(code=3)):
        assert f"{len(faults)} objects of the ledger not believed" in each.splitlines()[-1]
        assert "DcaLedgerForeign" in each.splitlines()[-1]
    assert Service.objects.get().state == "open"


def test_a_second_run_does_nothing_more(company: Company, storage: ObjectStorage) -> None:
    erased_since(company)
    replay()
    rows_, objects, life = dump(), list(storage.versions()), Service.objects.get().incarnation

    report = replay()

    assert (report["requests"], report["opened"]) == ([], False)
    assert "nothing to be done" in run("replay_erasures").out
    assert (dump(), list(storage.versions())) == (rows_, objects)
    assert Service.objects.get().incarnation == life


# In the order in which they are reached, until one of two deletions is completed, and afterwards.
STEPS = [
    (before, loading, "merge"),
    (after, loading, "merge"),
    (before, loading, "load"),
    (after, loading, "load"),
    (before, filing, "_mark"),
    (after, filing, "_mark"),
    (before, filing, "file"),
    (after, filing, "file"),
    (before, claims, "take_by_ids"),
    (after, claims, "take_by_ids"),
    (before, runner.ReplayRunner, "_carry_out"),
    (before, objects, "erase_files"),
    (after, objects, "erase_files"),
    (before, engine.ErasureRun, "_erase_rows"),
    (before, rows, "erase_chunk"),
    (after, rows, "erase_chunk"),
    (after, engine.ErasureRun, "_erase_rows"),
    (before, engine.ErasureRun, "_verify"),
    (after, engine.ErasureRun, "_verify"),
    (before, engine.ErasureRun, "_complete"),
    (after, engine.ErasureRun, "_complete"),
    (after, runner.ReplayRunner, "_carry_out"),
    (before, runner.ReplayRunner, "_finish"),
    (after, runner.ReplayRunner, "_finish"),
    (before, service, "begin_incarnation"),
    (after, service, "begin_incarnation"),
]


@pytest.mark.long(reason="26 replays that are killed")
def test_it_goes_on_after_a_kill_at_each_step(company, monkeypatch) -> None:
    numbers = [company.talk(f"c-{who}", who, has_file=True) for who in ("alice", "bob", "carol")]
    with restored():
        deletions = [company.delete("alice"), company.delete("bob")]
        work()
    kept = Conversation.objects.filter(pk=numbers[2]).values()[0]
    monkeypatch.setattr(runner, "claim_size", lambda _kind, _lane: 1)

    for when, where, step in STEPS:
        with monkeypatch.context() as patched:
            when(patched, where, step, failing(Killed))
            with pytest.raises(Killed):
                run("replay_erasures")
        assert Service.objects.get().state == "restored"

    replay()

    assert gone(*numbers) == [True, True, False]
    assert Conversation.objects.filter(pk=numbers[2]).values()[0] == kept
    for request in ComplianceRequest.objects.filter(pk__in=deletions):
        assert (request.status, request.conversations, request.attempts) == ("completed", 1, 0)
    assert Service.objects.get().state == "open"
    assert not LedgerLine.objects.filter(outcome__in=["", "filed"]).exists()


def test_an_open_service_is_not_replayed_unless_its_operator_says_that_it_was_restored(company: Company) -> None:
    number = company.talk("c-1", "alice")
    with restored(state="open"):
        deletion = company.delete("alice")
        work()
    rows_ = dump()

    with pytest.raises(CommandError, match="adopt") as refused:
        call_command("replay_erasures")
    assert refused.value.returncode == 3
    planned = replay("--dry-run")
    assert dump() == rows_
    report = replay("--restored")

    assert [one["numbers"] for one in planned["requests"]] == [[number]]
    assert became_of(report) == {deletion: "erased"}
    assert gone(number) == [True]


def test_a_ledger_that_knows_nothing_of_a_restored_database_is_doubted(company: Company) -> None:
    number = company.talk("c-1", "alice")
    with restored():
        pass

    for options in (("--dry-run",), ()):
        assert "S3_BUCKET is not the bucket that has its ledger" in told(*options)
        assert (service.is_open(), gone(number)) == (not options, [False])


def test_a_service_is_not_opened_without_its_ledger(company: Company, storage: ObjectStorage) -> None:
    company.talk("c-1", "alice")
    company.delete("alice")
    work()
    with restored():
        pass
    empty(storage)

    for options in (("--dry-run",), ()):
        with pytest.raises(CommandError, match="--without-ledger") as caught:
            told(*options)
        assert caught.value.returncode == 3
        assert service.state() == "restored"

    told("--without-ledger")
    assert service.is_open()


def test_it_stays_closed_while_the_storage_does_not_answer_and_after_ctrl_c(company, monkeypatch) -> None:
    """Which says how to go on, and shows no traceback."""
    number, _ = erased_since(company)

    for fault, code, said in (
        (None, 1, "storage_unavailable"),
        (KeyboardInterrupt, 130, "Interrupted.*run it again"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(loading, "read", failing(fault))
            with pytest.raises(CommandError, match=said) as ended:
                told()
        assert ended.value.returncode == code
        assert (Service.objects.get().state, gone(number)) == ("restored", [False])

    assert "The service is open." in told()
    assert gone(number) == [True]


def test_a_worker_replays_by_turns(company: Company) -> None:
    number, _ = erased_since(company, state="catching_up")
    turns = 0
    while not operation.replay(work=worker.work, seconds=0 if turns < 2 else 20):
        turns += 1
        assert Service.objects.get().state == "catching_up"
    assert (turns, gone(number)) == (2, [True])


def test_the_report_for_people_names_whom_it_erases_and_what_was_redacted_or_is_lost(company: Company) -> None:
    number, card = company.talk("c-1", "alice"), talk(company, "c-2", "bob")
    with restored():
        deletion, redaction = company.delete("alice"), redact(company, card)
        work()
        export = company.export("bob")
        write_journal()

    text = told()

    assert f"deletion {deletion} of acme: Erase again, 1 conversation ({number}) -> Erased again" in text
    assert f"redaction {redaction} of acme: Redact again, 1 conversation ({card}) -> Redacted again" in text
    assert "1 x redact again: redacted again" in text
    assert f"export {export} of acme: Name as lost -> A lost export" in text.splitlines()
    assert "reconcile_storage" in text
    assert "alice" not in text
    assert not ComplianceRequest.objects.filter(kind="export").exists()


def test_a_key_cannot_forge_a_line_of_the_report(storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ObjectStorage, "stream", lambda _storage, _key: iter([b"{}"]))

    refused = loading.read("erasure_ledger/a\nreplay.ended resolved=True", service.current())

    assert isinstance(refused, loading.Refused)
    assert refused.key == "erasure_ledger/a\\nreplay.ended resolved=True"
