"""Exports are locked in the order of their ids, so that workers that meet the same ones never block each other."""

from collections.abc import Iterable
from uuid import UUID

import pytest
from django.db import transaction

from common.storage import ObjectStorage
from compliance import worker
from compliance.erasure import exports, objects
from compliance.models import ComplianceRequest, Export, ExportConversation
from tests.functional.company import Company, attempts, settle
from tests.functional.elsewhere import Elsewhere
from tests.functional.refusing import EXPORTS, Refusals

pytestmark = pytest.mark.usefixtures("refused_at_once")


def given_up(company: Company, refusals: Refusals, subject: str, *conversations: int) -> Export:
    """A failed export of these conversations, as if it had been sent."""
    refusals.forbidden.add(EXPORTS)
    request = company.export(subject, include_shared=True)
    worker.drain(seconds=30)
    refusals.end()
    assert company.status(request) == "failed"
    export = Export.objects.get(request_id=UUID(request))
    for conversation in conversations:
        ExportConversation.objects.create(chatbot=company.chatbot, export=export, conversation_id=conversation)
    return export


def lose(export: Export) -> None:
    """Move an export to a bucket that is no longer the chatbot's."""
    Export.objects.filter(pk=export.pk).update(hosting="client", bucket="former", endpoint="http://127.0.0.1:1")


def expiring_meanwhile(monkeypatch: pytest.MonkeyPatch, conversation: int, deletion: str) -> list[Elsewhere]:
    """Let another worker erase the conversation just when one has cleared inaccessible files."""
    forget = objects.forget_out_of_reach
    others: list[Elsewhere] = []

    def expire() -> None:
        with transaction.atomic():
            exports.expire({conversation: UUID(deletion)})

    def forget_and_let_another_work(export_ids: Iterable[int]) -> None:
        forget(export_ids)
        if not others:
            others.append(Elsewhere(expire))
            assert others[0].waits

    monkeypatch.setattr(objects, "forget_out_of_reach", forget_and_let_another_work)
    return others


def test_a_deletion_that_gives_one_up_and_removes_another(
    company: Company, storage: ObjectStorage, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, bobs = company.talk("c-both", "alice", "bob"), company.talk("c-bob", "bob")
    company.exported(["c-both", "c-bob"])
    lose(given_up(company, refusals, "bob", both, bobs))
    deletion = company.delete("alice", erase_exports=True)
    others = expiring_meanwhile(monkeypatch, bobs, deletion)
    worker.drain(seconds=30)
    others[0].end()

    assert (company.status(deletion), attempts(deletion)) == ("completed", [0])


def test_exports_that_begin_anew_of_which_one_is_given_up(
    company: Company, storage: ObjectStorage, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = company.talk("c-both", "alice", "bob")
    anew = [given_up(company, refusals, value, both) for value in ("alice", "bob")]
    lose(anew[1])
    requests = [str(export.request_id) for export in anew]
    for each in requests:
        company.retry(each)
    ComplianceRequest.objects.update(lane="normal")
    others = expiring_meanwhile(monkeypatch, both, requests[0])
    worker.drain(seconds=30)
    others[0].end()
    settle()

    assert [company.status(each) for each in requests] == ["completed"] * 2
    assert attempts(*requests) == [0, 0]
