"""Legal holds of a restored database: they are in force again before anything is erased, as they were in the end."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from django.utils import timezone

from common import crypto
from common.storage import ObjectStorage
from compliance import hold_coverage, holds
from compliance.ledger import journal, lines
from compliance.models import ComplianceRequest, JournalEntry, LegalHold
from compliance.requests import decisions
from compliance.work import restriction
from conversations.models import Message, UploadedFile
from tests.compliance.replay.conftest import became_of, gone, replay, work, write_journal
from tests.compliance.retention.runs import file_run
from tests.functional.company import Company, document, postpone
from tests.functional.elsewhere import Elsewhere
from tests.functional.redacting import redact, talk
from tests.holding import PLACER, guarded, place, release
from tests.ledger import keys_of, lines_of
from tests.patches import after
from tests.restoring import restored

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _guarded(db) -> Iterator[None]:
    with guarded():
        yield


def held_for(company: Company, request_id: str) -> tuple[str, str | None]:
    found = company.request_object(request_id)
    return found["status"], found["hold_reason"]


def rest_of(request_id: str) -> str:
    return str(ComplianceRequest.objects.get(continues=UUID(request_id)).pk)


def test_a_hold_is_placed_again_and_keeps_what_the_restore_has_brought_back(company, other, storage) -> None:
    """On a chatter, on a conversation, and on all of a chatbot. What no hold covers is erased again."""
    numbers = [company.talk("c-1", "alice"), company.talk("c-2", "bob"), other.talk("c-1", "alice")]
    uncovered = company.talk("c-3", "bob")
    with restored():
        deletions = [company.delete("alice"), company.delete("bob"), other.delete("alice")]
        work()
        assert gone(*numbers, uncovered) == [True] * 4
        subjects = ((company, "alice"), (company, ["c-2"]), (other, None))
        before = [
            place(one.chatbot, subject, matter=f"case-{number}")[0] for number, (one, subject) in enumerate(subjects)
        ]
        write_journal()

    assert became_of(replay()) == dict.fromkeys(deletions, "erased")

    holds_ = list(LegalHold.objects.order_by("matter"))
    fields = ("id", "scope", "matter", "basis", "placed_at", "placed_by", "review_at", "uci_digest", "released_at")
    assert [[getattr(hold, name) for name in fields] for hold in holds_] == [
        [getattr(hold, name) for name in fields] for hold in before
    ]
    assert {hold.value_encrypted for hold in holds_} == {""}
    assert not JournalEntry.objects.filter(kind="hold").exists()
    work()
    companies = (company, company, other)
    rests = [rest_of(deletion) for deletion in deletions]
    for one, deletion, rest in zip(companies, deletions, rests, strict=True):
        assert one.request_object(deletion)["result"] == "partial"
        assert held_for(one, rest) == ("on_hold", "legal_hold")
    assert gone(*numbers, uncovered) == [False] * 3 + [True]
    assert [release(hold) for hold in holds_] == [[rest] for rest in rests]
    work()
    assert gone(*numbers) == [True] * 3
    assert {one.status(rest) for one, rest in zip(companies, rests, strict=True)} == {"completed"}
    # The ledger contains no value.
    assert "alice" not in str(lines_of(storage, "hold"))


def test_a_hold_that_was_released_holds_nothing(company: Company) -> None:
    """Neither a deletion that was carried out since, nor one that is carried out only now."""
    numbers = [company.talk("c-1", "alice"), company.talk("c-2", "bob")]
    hold, _ = place(company.chatbot, None)
    deletions = [company.delete("alice"), company.delete("bob")]
    work()
    write_journal()
    with restored():
        assert release(hold) == deletions
        postpone(deletions[1])
        work()
        assert gone(*numbers) == [True, False]
        write_journal()

    assert became_of(replay()) == {deletions[0]: "erased"}
    work()
    assert [company.status(deletion) for deletion in deletions] == ["completed"] * 2
    assert gone(*numbers) == [True, True]
    assert LegalHold.objects.get().release_reason == "matter_closed"


def test_a_review_is_restored(company: Company) -> None:
    hold, _ = place(company.chatbot, "alice")
    write_journal()
    later = timezone.now() + timedelta(days=200)
    with restored():
        holds.review(chatbot=company.chatbot, hold_id=hold.pk, review_at=later, actor=PLACER)
        write_journal()
    assert LegalHold.objects.get().review_at < later

    replay()
    found = LegalHold.objects.get()
    assert (found.review_at, found.reviewed_by) == (later, PLACER)
    assert holds.value_of(found) == "alice"


def test_a_partial_deletion_erases_its_part_again_and_is_continued_once(company: Company) -> None:
    numbers = [company.talk(f"c-{place_}", "alice") for place_ in (1, 2)]
    hold, _ = place(company.chatbot, ["c-1"])
    write_journal()
    with restored():
        deletion = company.delete("alice")
        work()
        decisions.erase_unheld(request_id=UUID(deletion), actor=PLACER)
        work()
        rest = rest_of(deletion)
        write_journal()
        assert gone(*numbers) == [False, True]

    assert became_of(replay()) == {deletion: "erased", rest: "filed_again"}

    assert gone(*numbers) == [False, True]
    assert company.request_object(deletion)["result"] == "partial"
    work()
    assert held_for(company, rest) == ("on_hold", "legal_hold")
    assert ComplianceRequest.objects.count() == 2
    assert release(hold) == [rest]
    work()
    assert gone(*numbers) == [True, True]


def test_a_redaction_waits_for_the_release_and_a_retention_run_leaves_it_out(company: Company) -> None:
    old = timezone.now() - timedelta(days=400)
    numbers = [company.talk("c-1", "alice", at=old), company.talk("c-2", "bob", at=old)]
    shown = talk(company, "c-3", "alice")
    with restored():
        redaction = redact(company, shown)
        run = file_run(company.chatbot)
        work()
        assert gone(*numbers) == [True, True]
        hold, _ = place(company.chatbot, "alice")
        write_journal()

    assert became_of(replay()) == {redaction: "on_hold", str(run.pk): "erased"}
    work()
    assert gone(*numbers) == [False, True]
    assert not Message.objects.filter(kind="redacted").exists()
    assert release(LegalHold.objects.get(pk=hold.pk)) == [redaction]
    work()
    assert Message.objects.filter(kind="redacted").count() == 1


def test_a_hold_is_in_an_object_that_is_written_again(company: Company, storage: ObjectStorage) -> None:
    hold, _ = place(company.chatbot, ["c-1"])
    write_journal()
    [line] = lines_of(storage, "hold")
    assert line == lines.held([hold.pk])[0]
    assert line["conversations"] == [crypto.digest("conversation", company.chatbot.public_id, "c-1").hex()]
    for key in list(keys_of(storage)):
        storage.purge(key)
    journal.begin_mending(1)
    journal.mend()
    assert lines_of(storage, "hold") == [line]


def test_a_second_hold_before_a_replayed_deletion_continues_keeps_its_new_files(company, storage) -> None:
    number = company.talk("c-1", "alice")
    with restored():
        deletion = company.delete("alice")
        work()
        place(company.chatbot, "alice")
        write_journal()
    replay()
    work()
    assert company.upload(number, "picture").status_code == 201
    [key] = UploadedFile.objects.values_list("object_key", flat=True)
    rest = rest_of(deletion)
    assert release(LegalHold.objects.get()) == [rest]
    second, covered = place(company.chatbot, ["c-1"], matter="second")
    assert covered.held == 1

    work()

    assert held_for(company, rest) == ("on_hold", "legal_hold")
    assert storage.exists(key)
    assert UploadedFile.objects.count() == 1
    release(second)
    work()
    assert gone(number) == [True]
    assert not storage.exists(key)


def test_the_rest_of_a_replayed_deletion_is_erased_after_the_release(company: Company) -> None:
    numbers = [company.talk(f"c-{n}", "alice") for n in (1, 2)]
    hold, _ = place(company.chatbot, ["c-1"])
    write_journal()
    with restored():
        deletion = company.delete("alice")
        write_journal()
    replay()
    work()
    assert held_for(company, deletion) == ("on_hold", "legal_hold")
    decisions.erase_unheld(request_id=UUID(deletion), actor=PLACER)
    work()
    assert gone(*numbers) == [False, True]

    release(hold)
    work()
    assert gone(*numbers) == [True, True]


def test_a_hold_on_what_came_after_a_replay_neither_keeps_its_deletion_nor_is_restricted_by_it(company) -> None:
    held = company.talk("c-1", "alice")
    with restored():
        deletion = company.delete("alice")
        work()
        hold, _ = place(company.chatbot, ["c-1"])
        write_journal()
    replay()
    work()
    [sent] = company.send(document("c-9", "alice", at=timezone.now()))
    newer = sent["number"]
    place(company.chatbot, ["c-9"], matter="other")
    for some in (None, [held, newer]):
        assert restriction.find_restricted(company.chatbot.pk, some) == {held}

    assert release(hold) == [rest_of(deletion)]
    work()
    assert company.status(rest_of(deletion)) == "completed"
    assert gone(held, newer) == [True, False]


def test_a_deletion_that_was_limited_before_the_backup_keeps_its_rest(company: Company) -> None:
    numbers = [company.talk(f"c-{n}", "alice") for n in (1, 2)]
    hold, _ = place(company.chatbot, ["c-1"])
    deletion = company.delete("alice")
    work()
    decisions.erase_unheld(request_id=UUID(deletion), actor=PLACER)
    write_journal()
    with restored():
        # The entry of the rest is not in the ledger when the database is lost.
        work()
        assert ComplianceRequest.objects.filter(continues=UUID(deletion)).exists()
    replay()
    work()
    release(hold)
    work()
    assert gone(*numbers) == [True, True]


def test_a_cancellation_while_a_hold_is_released_is_final(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    number = company.talk("c-1", "alice")
    hold, _ = place(company.chatbot, "alice")
    deletion = company.delete("alice")
    work()
    cancel = partial(decisions.cancel, request_id=UUID(deletion), actor="api:x")
    after(monkeypatch, hold_coverage, "find_held", lambda _: Elsewhere(cancel).end())
    release(hold)
    work()
    assert company.status(deletion) == "cancelled"
    assert gone(number) == [False]
