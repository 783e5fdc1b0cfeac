"""Retention runs that meet exports, daily extracts, refusing storage, and the API's keys."""

import csv
import io
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db.models import F

from chatbots.models import Chatbot
from common.db import execute
from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import extracts, verify
from compliance.export import records
from compliance.models import Claim, ComplianceRequest, Export, ExportConversation, RetentionRun
from compliance.requests import decisions
from compliance.requests.selectors import ByConversations, ByUci
from compliance.requests.submit import submit
from compliance.retention import due, engine, policy
from conversations.models import Conversation
from conversations.placement import machines
from tests import factories
from tests.calls import TokenCaller, problem
from tests.clients import PREFIX
from tests.compliance.conftest import Drain
from tests.compliance.exporting import carry_out, patch_pieces, taken
from tests.compliance.retention.runs import (
    ago,
    begin_now,
    conversation_aged,
    deleted,
    file_run,
    first_run,
    keep_for,
    period_of,
    run_of,
    set_period,
    zone_where_it_is,
)
from tests.extracting import conversation_on, make_all, planned, texts
from tests.functional.elsewhere import Elsewhere
from tests.functional.refusing import FILES, Refusals
from tests.patches import failing
from tests.under_roles import role

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

pytestmark = pytest.mark.django_db(transaction=True)


def status_of(request: ComplianceRequest) -> str:
    return ComplianceRequest.objects.get(pk=request.pk).status


def texts_in(storage: ObjectStorage, key: str | None) -> set[str]:
    return {row["text"] for row in csv.DictReader(io.StringIO(storage.read(str(key)).decode("utf-8-sig")))}


@pytest.mark.long(reason="each age by each selector", beyond=1)
@pytest.mark.parametrize("by_ids", [False, True], ids=["by value", "by ids"])
@pytest.mark.parametrize(("days", "is_kept"), [(1, True), (31, False)])
def test_an_export_that_is_being_written_has_all_or_what_the_run_left(
    chatbot: Chatbot,
    storage: ObjectStorage,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    *,
    is_kept: bool,
    by_ids: bool,
) -> None:
    """The run passes after everything was read, and before the file ends."""
    old = conversation_aged(chatbot, 91, external_id="c-old", text="old words")
    young = conversation_aged(chatbot, 5, external_id="c-young", text="young words")
    about = ByConversations(("c-old", "c-young")) if by_ids else ByUci("member_id", "42")
    export = submit(chatbot=chatbot, kind=Kind.EXPORT, selector=about, origin="api", actor="command")
    ComplianceRequest.objects.filter(pk=export.pk).update(received_at=ago(days), queued_at=ago(days))
    held = taken(export)
    request = file_run(chatbot)

    with monkeypatch.context() as patch:
        patch_pieces(patch, lambda: worker.drain(seconds=60))
        carry_out(held)
    assert not worker.drain(seconds=60)

    for one in (export, request):
        one.refresh_from_db()
        assert one.status == Status.COMPLETED
    assert deleted(old, young) == [not is_kept, False]
    assert texts_in(storage, Export.objects.get(request=export).key) == {"young words", *(["old words"] * is_kept)}
    assert (run_of(request).left_out, request.conversations) == ((1, 0) if is_kept else (0, 1))
    assert not verify.audit([request.pk]).left


def test_the_rest_of_an_old_export_in_a_clients_bucket_is_removed_and_the_run_goes_on(
    chatbot: Chatbot, clients: ObjectStorage, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls the bucket for that slice alone: a client whose bucket is down does not keep the others for long."""
    monkeypatch.setattr(due, "SLICE", 2)
    conversations = [conversation_aged(chatbot, 91, str(number)) for number in range(6)]
    filed = factories.export_of(
        chatbot, "1", status=Status.FAILED, failed_at=ago(39), error_code="storage_locked", received_at=ago(40)
    )
    key = f"{PREFIX}chatter_data_exports/1/left.csv"
    clients.put(key, b"whole, but never told", "text/csv")
    place = {"hosting": "client", "bucket": "clients", "endpoint": clients.endpoint_url}
    left = factories.ExportFactory.create(request=filed, key=key, **place)
    ExportConversation.objects.create(chatbot=chatbot, export=left, conversation_id=conversations[1].pk)
    request = file_run(chatbot)

    drain()

    request.refresh_from_db()
    assert (request.status, request.conversations, request.exports) == (Status.COMPLETED, 6, 1)
    assert (list(clients.keys(key)), request.lane) == ([], "large")


def _on(chatbot: Chatbot, value: str, *days: datetime, last_message_at: datetime) -> None:
    conversation = conversation_on(chatbot, value, *days, text=f"words of {value}")
    Conversation.objects.filter(pk=conversation.pk).update(last_message_at=last_message_at)


def test_daily_extracts_are_rebuilt_and_counted_for_all_slices(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(due, "SLICE", 1)
    days = [ago(100 + number).replace(hour=12) for number in range(2)]
    for number, day in enumerate(days):
        _on(chatbot, f"old {number}", day, last_message_at=day)
    _on(chatbot, "young", *days, last_message_at=ago(1))
    planned(chatbot, days[-1].date(), days[0].date())
    make_all()
    assert texts(storage, chatbot, days[0].date()) == {"words of old 0", "words of young"}
    request = file_run(chatbot)

    for _ in range(4):
        assert not worker.drain(seconds=60)
        ComplianceRequest.objects.update(not_before=None)

    request.refresh_from_db()
    assert (request.status, request.conversations, request.extracts) == (Status.COMPLETED, 2, 2)
    assert all(texts(storage, chatbot, day.date()) == {"words of young"} for day in days)


def test_keys_read_runs_and_decide_nothing(chatbot: Chatbot, neighbour: Chatbot, drain: Drain) -> None:
    """Nor does it matter whether requests may be filed."""
    Chatbot.objects.update(compliance_enabled=False)
    conversation_aged(chatbot, 91)
    request = file_run(chatbot)
    caller, path = TokenCaller(chatbot), f"requests/{request.pk}"

    problem(caller.post(f"{path}/cancel", {}), 409, "not_cancellable")
    for action in ("approve", "reject"):
        problem(caller.post(f"{path}/{action}", {"reason": "other"}), 403, "officers_only")
    problem(TokenCaller(neighbour).get(path), 404, "not_found")
    drain()

    shown = caller.get(path).json()
    assert caller.get("requests?kind=retention").json()["results"] == [shown]
    assert (shown["status"], shown["selector"], shown["retention"]["days"]) == ("completed", "age", 90)


def test_a_run_that_comes_as_an_export_notes_a_conversation_leaves_it(chatbot, drain, storage, monkeypatch) -> None:
    """Otherwise nothing would lead the deletion of the other person to the file."""
    shared = factories.conversation_of(chatbot, "a", "b", started_at=ago(91), last_message_at=ago(91))
    # Filed so long ago that a run does not wait for it any more.
    export = factories.export_of(chatbot, "a", include_shared=True, received_at=ago(31))
    found: list[list[bool]] = []

    def after_a_run(statement: str, values: Any) -> int:
        if statement is records._HOLD:
            Elsewhere(lambda: file_run(chatbot)).end()
            Elsewhere(lambda: worker.drain(seconds=60)).end()
            found.append(deleted(shared))
        return execute(statement, values)

    monkeypatch.setattr("compliance.export.records.execute", after_a_run)
    carry_out(taken(export))
    assert found == [[False]]
    assert deleted(shared) == [False]
    [key] = Export.objects.values_list("key", flat=True)
    assert texts_in(storage, key)

    factories.deletion_of(chatbot, "b")
    drain()

    assert deleted(shared) == [True]
    assert Export.objects.get().expires_at is not None


def next_night() -> None:
    Chatbot.objects.update(timezone=zone_where_it_is(hour=12))
    RetentionRun.objects.update(day=F("day") - timedelta(days=2))
    ComplianceRequest.objects.update(failed_at=F("failed_at") - timedelta(days=2))
    worker.sweep()
    worker.drain(seconds=60)


def killed_as_it_begins(request: ComplianceRequest) -> ComplianceRequest:
    """Its claim lasts, so that no change of the period cancels it."""

    begin_now(request)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_reason_to_hold", failing(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            worker.drain(seconds=60)
    return request


def test_a_first_period_after_none_is_announced_though_a_first_run_is_claimed(chatbot: Chatbot) -> None:
    keep_for(chatbot, 365)
    old = conversation_aged(chatbot, 800)
    set_period(chatbot, 90, confirmed=1)
    killed_as_it_begins(first_run(chatbot))
    set_period(chatbot, None)

    with pytest.raises(ValidationError, match="Type the number"):
        set_period(chatbot, 730)

    Claim.objects.update(expires_at=ago(1))
    next_night()
    assert deleted(old) == [False]


def test_cancelling_a_replaced_first_run_sets_nothing_back(chatbot: Chatbot) -> None:
    keep_for(chatbot, 365)
    old = conversation_aged(chatbot, 400)
    set_period(chatbot, 90, confirmed=1)
    replaced = killed_as_it_begins(first_run(chatbot))
    set_period(chatbot, None)
    set_period(chatbot, 90, confirmed=1)
    second = first_run(chatbot)
    assert second != replaced
    Claim.objects.update(expires_at=ago(1))
    worker.sweep()

    decisions.cancel(request_id=replaced.pk, actor="user:7")

    assert period_of(chatbot) == 90
    next_night()
    assert deleted(old) == [False]


def test_a_replaced_first_run_that_fails_does_not_stop_the_period_in_force(chatbot, monkeypatch) -> None:
    keep_for(chatbot, 365)
    old = conversation_aged(chatbot, 400)
    set_period(chatbot, 90, confirmed=1)
    run = first_run(chatbot)
    begin_now(run)
    change = role("owner")(lambda: set_period(chatbot, 365))

    def fail(*_args: Any, **_options: Any) -> None:
        change()
        raise RuntimeError("cannot be counted")

    with monkeypatch.context() as patch:
        patch.setattr(due, "count", fail)
        for _ in range(6):
            worker.drain(seconds=60)
            ComplianceRequest.objects.filter(pk=run.pk, status="accepted").update(not_before=None)

    for _ in range(2):
        next_night()

    assert deleted(old) == [True]


@pytest.mark.usefixtures("refused_at_once")
def test_what_a_failed_run_has_closed_is_erased_whatever_the_period_is_now(chatbot, storage, monkeypatch) -> None:
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    monkeypatch.setattr(due, "SLICE", 2)
    off, on_hold = (factories.ready_chatbot(slug=slug) for slug in ("off", "on-hold"))
    conversations = {one: [conversation_aged(one, 400) for _ in range(3)] for one in (chatbot, off, on_hold)}
    for first, *_ in conversations.values():
        file = factories.UploadedFileFactory.create(conversation=first, stored=True)
        storage.put(file.object_key, b"picture", "image/png")
    refusals.locked.add(FILES)
    failed = {one: file_run(one, 365) for one in conversations}
    worker.drain(seconds=60)
    refusals.end()
    set_period(off, None)
    Chatbot.objects.filter(pk=on_hold.pk).update(four_eyes=True)
    set_period(on_hold, 90, confirmed=0)
    begin_now(first_run(on_hold))
    worker.sweep()
    assert {status_of(one) for one in failed.values()} == {"failed"}, (
        "They are not tried again before the next night."
    )

    next_night()

    for one, run in failed.items():
        run.refresh_from_db()
        assert (run.status, run.files) == ("completed", 1)
        assert deleted(*conversations[one]) == [True, True, one == chatbot]
    assert not list(storage.keys(FILES))


def test_a_clock_that_is_set_back_ends_no_first_run(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    old = conversation_aged(chatbot, 400)
    now = policy._now
    with monkeypatch.context() as patch:
        patch.setattr(policy, "_now", lambda: now() + timedelta(milliseconds=500))
        set_period(chatbot, 90, confirmed=1)
    request = first_run(chatbot)
    begin_now(request)

    worker.drain(seconds=60)

    assert deleted(old) == [True]


def test_a_failed_retention_run_of_a_silent_machine_stops_no_other_chatbots_night(shards, silence, monkeypatch):
    here, there = factories.ready_chatbot(slug="here"), factories.ready_chatbot(slug="there")
    shards([here], [there])
    Chatbot.objects.update(timezone=zone_where_it_is(hour=12))
    for each in (here, there):
        each.refresh_from_db()
    old, _ = conversation_aged(here, 400), conversation_aged(there, 400)
    failed = file_run(there, 90)
    ComplianceRequest.objects.filter(pk=failed.pk).update(
        status="failed", failed_at=ago(2), cutoff_at=ago(2), cutoff_number=1, slice=[], error_code="x"
    )
    keep_for(here, 90)
    silence(1)
    machines.ask_if_due()
    tried: list[Any] = []
    monkeypatch.setattr(extracts, "retry", lambda ids, **_: tried.append(ids))  # reads the run's scope
    worker.sweep()
    assert not worker.drain(seconds=60)
    assert deleted(old) == [True]
    assert not tried
