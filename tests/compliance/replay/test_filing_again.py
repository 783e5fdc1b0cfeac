"""What a replay makes of requests that had not ended: filed again, held, withdrawn; keys; exports that are lost."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from chatbots.models import ApiKey, ChangeLogEntry, Chatbot, Variable
from chatbots.operations.keys import create_api_key, revoke_api_key
from common.storage import ObjectStorage
from compliance.ledger import lines, objects
from compliance.models import Callback, ComplianceRequest, Export
from compliance.redaction import filing
from compliance.requests import decisions
from compliance.requests.decisions import cancel
from compliance.requests.early_start import start_now
from compliance.requests.selectors import ByUci
from compliance.requests.submit import submit
from tests.compliance.replay.conftest import became_of, gone, replay, work, write_journal
from tests.functional.company import Company, Subject, words_in
from tests.functional.redacting import message_of, talk
from tests.functional.refusing import FILES, Refusals
from tests.restoring import Backup, notice, restored

TIMES = ("received_at", "requested_at", "due_at")


def test_a_deletion_that_was_accepted_is_filed_again_under_its_id(company: Company, other: Company) -> None:
    """It can be cancelled again for as long as the chatbot says."""
    number, theirs = company.talk("c-1", "alice"), other.talk("c-1", "alice")
    Chatbot.objects.filter(pk=other.chatbot.pk).update(grace_minutes=30)
    other.chatbot.refresh_from_db()
    with restored():
        cancellable = other.delete("alice")
        asked = f"{timezone.now() - timedelta(days=3):%Y-%m-%d}"
        deletion = company.delete("alice", erase_exports=True, requested_at=asked)
        before = ComplianceRequest.objects.get(pk=deletion)
        write_journal()
    Chatbot.objects.filter(pk=company.chatbot.pk).update(callback_url="https://hooks.example.com/privacy")

    report = replay()

    assert became_of(report) == dict.fromkeys([deletion, cancellable], "filed_again")
    assert {tuple(one["numbers"]) for one in report["requests"]} == {(number,), (theirs,)}
    after = ComplianceRequest.objects.get(pk=deletion)
    assert (after.status, after.origin, after.uci_value, after.erase_exports) == ("accepted", "replay", "alice", True)
    assert before.requested_at is not None
    assert [getattr(after, name) for name in TIMES] == [getattr(before, name) for name in TIMES]
    assert gone(number) == [False]
    work()
    assert gone(number) == [True]
    assert company.status(deletion) == "completed"
    assert (gone(theirs), other.status(cancellable)) == ([False], "accepted")
    decisions.cancel(request_id=UUID(cancellable), actor="user:7")
    assert list(Callback.objects.values_list("status", flat=True)) == ["completed"]
    entries = ChangeLogEntry.objects.filter(request_id=deletion).order_by("pk")
    assert next(iter(entries.values_list("event", "actor"))) == ("request.accepted", "replay")


def test_a_deletion_that_had_failed_is_announced_when_it_is_completed(company, monkeypatch) -> None:
    """Of which the client has heard nothing but the failure, as far as this database knows."""
    company.talk("c-1", "alice", has_file=True)
    deletion = company.delete("alice")
    own = "https://hooks.example.com/of-this-one"
    ComplianceRequest.objects.filter(pk=deletion).update(callback_url=own)
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    refusals.locked.add(FILES)
    work()
    assert company.failure(deletion) == "storage_locked"
    refusals.end()
    with restored():
        company.retry(deletion)
        work()
        assert company.status(deletion) == "completed"

    assert became_of(replay()) == {deletion: "erased"}

    sent = Callback.objects.order_by("occurred_at").values_list("url", "status")
    assert list(sent) == [(own, "failed"), (own, "completed")]


def test_it_is_held_where_somebody_had_to_approve(company: Company, other: Company) -> None:
    settings: list[dict[str, int]] = [{"four_eyes": True}, {"max_conversations_per_deletion": 1}]
    numbers = [one.talk(f"c-{place}", "alice") for one in (company, other) for place in (1, 2)]
    for one, setting in zip((company, other), settings, strict=True):
        callback_url = "https://hooks.example.com/privacy"
        Chatbot.objects.filter(pk=one.chatbot.pk).update(**setting, callback_url=callback_url)
    with restored():
        deletions = [one.delete("alice") for one in (company, other)]
        write_journal()

    report = replay()

    assert became_of(report) == dict.fromkeys(deletions, "on_hold")
    held = ComplianceRequest.objects.values_list("status", "hold_reason")
    assert list(held) == list(Callback.objects.values_list("status", "hold_reason")) == [("on_hold", "restored")] * 2
    work()
    assert gone(*numbers) == [False] * 4
    # One approval is for all that it was held for.
    for deletion in deletions:
        decisions.approve(request_id=UUID(deletion), actor="user:7")
    work()
    assert gone(*numbers) == [True] * 4


def test_what_was_withdrawn_since_the_restore_reaches_the_ledger(company: Company) -> None:
    """Before the restore was noticed. Another one, to the same backup, must not carry it out."""
    number = company.talk("c-1", "alice")
    deletion = company.delete("alice")
    backup = Backup()
    write_journal()
    backup.restore(state="open")
    decisions.cancel(request_id=UUID(deletion), actor="user:7")
    notice()
    replay()
    write_journal()
    backup.restore()

    assert became_of(replay()) == {deletion: "withdrawn"}
    work()
    assert (gone(number), company.status(deletion)) == ([False], "cancelled")


def designate_email(chatbot: Chatbot) -> None:
    Variable.objects.filter(chatbot=chatbot, is_uci=True).update(is_uci=False, was_uci=True)
    Variable.objects.create(chatbot=chatbot, name="email", category="custom", is_uci=True)


@pytest.mark.parametrize(("is_made_again", "outcome"), [(False, "nothing_found"), (True, "undecided")])
def test_a_uci_that_was_lost_is_a_former_one_unless_it_is_another_by_now(company, is_made_again, outcome) -> None:
    with restored():
        designate_email(company.chatbot)
        selector = ByUci("email", "a@example.com")
        by_email: dict[str, Any] = {"selector": selector, "kind": "deletion", "actor": "command"}
        filed = submit(chatbot=company.chatbot, origin=ComplianceRequest.Origin.COMMAND, **by_email)
        write_journal()
        lost = Variable.objects.get(chatbot=company.chatbot, name="email")
    if is_made_again:
        designate_email(company.chatbot)

    report = replay(code=3 if is_made_again else 0)

    assert became_of(report) == {str(filed.pk): outcome}
    variable = Variable.objects.get(chatbot=company.chatbot, name="email")
    assert (variable.public_id == lost.public_id, variable.was_uci) == (not is_made_again, not is_made_again)


def test_what_was_withdrawn_stays_so(company: Company) -> None:
    numbers = company.talk("c-1", "alice"), company.talk("c-2", "bob")
    cancelled, rejected = company.delete("alice"), company.delete("bob")
    ComplianceRequest.objects.update(status="on_hold", hold_reason="awaiting_approval", held_at=timezone.now())

    def withdrawn() -> list[tuple[Any, ...]]:
        of_each = ComplianceRequest.objects.order_by("seq")
        return list(of_each.values_list("status", "uci_value", "cancelled_at", "rejected_at"))

    with restored():
        decisions.cancel(request_id=UUID(cancelled), actor="user:7")
        decisions.reject(request_id=UUID(rejected), actor="user:7", reason="other")
        before = withdrawn()
        decisions.cancel(request_id=UUID(company.delete("alice")), actor="user:7")
        write_journal()

    assert became_of(replay()) == {cancelled: "withdrawn", rejected: "withdrawn"}

    assert withdrawn() == before
    assert [row[:2] for row in before] == [("cancelled", None), ("rejected", None)]
    work()
    assert gone(*numbers) == [False, False]


def test_keys_are_revoked_again_and_told_once(company: Company, other: Company) -> None:
    made = create_api_key(
        chatbot=company.chatbot, type=ApiKey.Type.TOKEN, label="x", actor="user:7", scopes=["requests:read"]
    )
    with restored():
        revoke_api_key(prefix=made.api_key.prefix, actor="user:7")
        at = ApiKey.objects.get(prefix=made.api_key.prefix).revoked_at
        # As after a kill between the object and its confirmation.
        objects.write(lines.revoked([made.api_key.prefix]), request_ids=[], key_prefixes=[made.api_key.prefix])
        write_journal()

    planned, report = replay("--dry-run"), replay()

    assert planned["keys_revoked"] == report["keys_revoked"] == [{"chatbot": "acme", "key": made.api_key.prefix}]
    assert list(ApiKey.objects.filter(revoked_at__isnull=False).values_list("prefix", "revoked_at")) == [
        (made.api_key.prefix, at)
    ]
    assert ChangeLogEntry.objects.filter(event="apikey.revoked", actor="replay").count() == 1


# Whose export is open in the backup, what was erased after it, and which conversations are left for it to deliver.
MET: list[tuple[Subject, Subject | None, tuple[str, ...]]] = [
    ("ann", "ann", ()),
    ("ben", ["c-ben"], ()),
    (["c-cat"], "cat", ()),
    (["c-dan", "c-eve"], "dan", ("c-eve",)),
    # With what is shared.
    ("fay", "gus", ()),
    # The one that is left is shared.
    ("hal", ["c-hal"], ()),
    (["c-hal-ida"], None, ("c-hal-ida",)),
]


@pytest.mark.django_db(transaction=True)
def test_an_open_export_of_which_nothing_is_left_is_cancelled_and_named(company: Company, storage: ObjectStorage):
    """In the former life it was delivered first. One that has something left delivers that."""
    for one in ("ann", "ben", "cat", "dan", "eve", "hal"):
        company.talk(f"c-{one}", one)
    company.talk("c-fay-gus", "fay", "gus")
    company.talk("c-hal-ida", "hal", "ida")
    exports = [company.export(subject, include_shared=subject == "fay") for subject, _, _ in MET]
    with restored():
        write_journal()
        work()
        deletions = [company.delete(subject) for _, subject, _ in MET if subject]
        work()

    planned, report = replay("--dry-run"), replay()
    lost = {one for one, (_, _, left) in zip(exports, MET, strict=True) if not left}
    assert became_of(report) == dict.fromkeys(deletions, "erased") | dict.fromkeys(lost, "lost_export")
    assert sorted(one["request_id"] for one in planned["requests"]) == sorted([*deletions, *lost])
    work()

    cancelled = ComplianceRequest.objects.filter(status="cancelled", uci_value=None).values_list("pk", flat=True)
    assert {str(pk) for pk in cancelled} == lost
    for one, (_, _, left) in zip(exports, MET, strict=True):
        if left:
            text = storage.read(str(Export.objects.get(request_id=UUID(one)).key)).decode()
            assert [each for each in left if words_in(each) in text] == list(left)
            assert text.count("words in") == len(left)


# --- Redactions that waited in the console, were cancelled since, or started -----------------------------


# What became of it, whether the backup has it -> its status after the replay, and whether the message is redacted.
AFTERWARDS = {
    ("waits", True): ("accepted", False),
    ("waits", False): ("completed", True),
    ("cancelled", True): ("cancelled", False),
    ("cancelled", False): (None, False),
    ("started", True): ("completed", True),
    ("started", False): ("completed", True),
}


def select(company: Company, number: int) -> UUID:
    filed = filing.redact(
        chatbot=company.chatbot,
        number=number,
        ids=["m1"],
        reason="payment_data",
        origin=ComplianceRequest.Origin.CONSOLE,
        actor="user:1",
    )
    return filed.pk


def test_a_restore_keeps_what_became_of_it(company: Company) -> None:
    numbers = {case: talk(company, "-".join(map(str, case)), "alice") for case in AFTERWARDS}
    redactions = {case: select(company, numbers[case]) for case in AFTERWARDS if case[1]}
    with restored():
        redactions |= {case: select(company, numbers[case]) for case in AFTERWARDS if not case[1]}
        for (meanwhile, _), redaction in redactions.items():
            if meanwhile == "cancelled":
                cancel(request_id=redaction, actor="user:1")
            elif meanwhile == "started":
                start_now(request_id=redaction, actor="user:1")
        work()
        write_journal()

    replay()
    work()

    statuses = dict(ComplianceRequest.objects.values_list("pk", "status"))
    became = {
        case: (statuses.get(redactions[case]), message_of(number).kind == "redacted")
        for case, number in numbers.items()
    }
    assert became == AFTERWARDS
    start_now(request_id=redactions["waits", True], actor="user:1")
    work()
    assert ComplianceRequest.objects.get(pk=redactions["waits", True]).status == "completed"
    assert message_of(numbers["waits", True]).kind == "redacted"
