"""What a claim does of slow work, files and long texts, so that no request waits long for another chatbot's."""

import time
from collections.abc import Callable

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.models import ComplianceRequest, ExportFile
from compliance.work import sizes
from compliance.work.sizes import Size
from conversations import uploads
from conversations.models import Conversation, UploadedFile
from tests.compliance.work.test_claims import taken
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.refusing import FILES, Refusals, in_the_gap

Kind = ComplianceRequest.Kind
Lane = ComplianceRequest.Lane
Status = ComplianceRequest.Status
TURN = ComplianceRequest.WaitingFor.TURN

pytestmark = pytest.mark.django_db(transaction=True)

File = Callable[[Chatbot, str], ComplianceRequest]


def with_files(chatbot: Chatbot, value: str, number: int) -> Conversation:
    conversation = conversation_of(chatbot, value)
    for _ in range(number):
        uploads.receive(conversation=conversation, name="a.jpg", content_type="image/jpeg", chunks=[b"content"])
    return conversation


def export_with_files(chatbot: Chatbot, value: str) -> ComplianceRequest:
    return export_of(chatbot, value, include_files=True)


def states(*requests: ComplianceRequest) -> list[tuple[str, str | None, int]]:
    for request in requests:
        request.refresh_from_db()
    return [(request.status, request.waiting_for, request.attempts) for request in requests]


DONE = (Status.COMPLETED, None, 0)
LATE = (Status.ACCEPTED, TURN, 0)


def work_on_next(kind: Kind) -> None:
    worker.work(taken(kind), deadline=time.monotonic() + 60)


@pytest.mark.one_postgresql(reason="one place for all chatbots")
@pytest.mark.parametrize(("kind", "file"), [(Kind.EXPORT, export_with_files), (Kind.DELETION, deletion_of)])
def test_a_claim_has_no_more_files_than_what_is_large_in_turns(
    chatbot: Chatbot,
    neighbour: Chatbot,
    storage: ObjectStorage,
    monkeypatch: pytest.MonkeyPatch,
    *,
    kind: Kind,
    file: File,
) -> None:
    monkeypatch.setitem(sizes.LARGE_FILES, kind, 6)
    for number in range(4):
        with_files(chatbot, f"many-{number}", 2)
    with_files(chatbot, "last", 1)
    with_files(neighbour, "single", 1)
    many = [file(chatbot, f"many-{number}") for number in range(4)]
    # It would fit, but does not overtake.
    last, single, none = file(chatbot, "last"), file(neighbour, "single"), file(neighbour, "none")
    places = {request.pk: request.queued_at for request in many}

    work_on_next(kind)
    assert states(*many, last) == [DONE, DONE, LATE, LATE, LATE]
    assert states(single, none) == [DONE, DONE]
    assert {request.pk: (request.queued_at, request.not_before) for request in many} == {
        request_id: (queued_at, None) for request_id, queued_at in places.items()
    }

    work_on_next(kind)
    assert states(*many, last) == [DONE] * 5


def test_exports_without_files_are_completed_before_files_are_copied(chatbot, storage, monkeypatch) -> None:
    with_files(chatbot, "42", 2)
    before, without = export_with_files(chatbot, "42"), export_of(chatbot, "43")
    completed = ComplianceRequest.objects.filter(status=Status.COMPLETED)
    seen: list[int] = []
    in_the_gap(monkeypatch, "write_parts", "_files/", "before", lambda: seen.append(completed.count()))
    work_on_next(Kind.EXPORT)
    assert seen == [1]
    assert states(before, without) == [DONE, DONE]
    assert ExportFile.objects.count() == 2


def test_a_deletion_of_many_files_moves_to_the_large_lane_also_when_only_they_are_left(chatbot, storage, monkeypatch):
    with_files(chatbot, "42", 3)
    request = deletion_of(chatbot, "42")
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    refusals.busy.add(FILES)
    work_on_next(Kind.DELETION)
    assert Conversation.objects.get().deleted_at
    assert UploadedFile.objects.count() == 3

    monkeypatch.setitem(sizes.LARGE_FILES, Kind.DELETION, 2)
    ComplianceRequest.objects.update(not_before=None)
    work_on_next(Kind.DELETION)
    request.refresh_from_db()
    assert (request.lane, request.attempts) == (Lane.LARGE, 1)


def test_long_texts_make_a_request_large(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "LARGE_TEXT_BYTES", 800_000)
    conversation_of(chatbot, "long", messages=9, text="é" * 50_000)
    conversation_of(chatbot, "less", messages=4, text="é" * 50_000)
    conversation_of(chatbot, "few", messages=1, text="hello")
    requests = [deletion_of(chatbot, value) for value in ("long", "less", "few", "nobody")]
    found = sizes.measure(taken())
    assert [found[each.pk] for each in requests] == [
        Size(1, 9, 1, 9 / 8),
        Size(1, 4, 1, 0.5),
        Size(1, 1, 1, 0),
        Size(0, 0, 0, 0),
    ]
    assert [found[each.pk].is_large for each in requests] == [True, False, False, False]
