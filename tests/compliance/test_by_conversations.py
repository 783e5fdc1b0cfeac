"""Requests that name conversations by the platform's ids, instead of a chatter."""

import csv
import io
from typing import Any

import pytest

from chatbots.buckets import ObjectStorage
from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from conversations.models import Conversation, Identity, Message
from tests.calls import TokenCaller
from tests.compliance.conftest import Drain
from tests.factories import conversation_of

Status = ComplianceRequest.Status

pytestmark = pytest.mark.django_db(transaction=True)


def file(chatbot: Chatbot, path: str, *ids: str, **fields: object) -> ComplianceRequest:
    answer = TokenCaller(chatbot).post(path, {"conversation_ids": ids, **fields})
    assert answer.status_code == 200, answer.json()
    return ComplianceRequest.objects.get(pk=answer.json()["request_id"])


def status(request: ComplianceRequest) -> dict[str, Any]:
    answer: dict[str, Any] = TokenCaller(request.chatbot).get(f"requests/{request.pk}").json()
    return answer


def ids_in(storage: ObjectStorage, request: ComplianceRequest) -> set[str]:
    export = ComplianceRequest.objects.get(pk=request.pk).export
    return {row["conversation_id"] for row in csv.DictReader(io.StringIO(storage.read(str(export.key)).decode()))}


def test_a_deletion_erases_the_named_conversations_and_no_other(
    chatbot: Chatbot, neighbour: Chatbot, drain: Drain
) -> None:
    for one in (chatbot, neighbour):
        conversation_of(one, external_id="c-1")
        conversation_of(one, "42", "43", external_id="c-2")
        conversation_of(one, "42", external_id="c-3")

    request = file(chatbot, "data-deletion", "c-1", "c-2", "c-unknown")
    drain()

    told = status(request)
    assert (told["status"], told["result"]) == ("completed", "done")
    assert told["counts"]["conversations"] == 2
    live = Conversation.objects.filter(deleted_at=None).values_list("chatbot__slug", "external_id")
    assert set(live) == {(chatbot.slug, "c-3"), *((neighbour.slug, f"c-{n}") for n in (1, 2, 3))}
    assert Message.objects.count() == 8
    assert Identity.objects.filter(chatbot=chatbot).count() == 1


def test_an_export_holds_the_named_conversations_and_no_other(
    chatbot: Chatbot, neighbour: Chatbot, drain: Drain, storage: ObjectStorage
) -> None:
    conversation_of(neighbour, "42", external_id="c-1")
    for name, values in {"c-1": (), "c-2": ("42", "43"), "c-3": ("42",)}.items():
        conversation_of(chatbot, *values, external_id=name)
    request = file(chatbot, "data-export", "c-1", "c-2", "c-unknown")
    none = file(chatbot, "data-export", "c-unknown")
    drain()

    told = status(request)
    assert (told["status"], told["counts"]["conversations"], told["counts"]["messages"]) == ("completed", 2, 4)
    assert ids_in(storage, request) == {"c-1", "c-2"}
    assert told["export"]["key"].startswith(f"{chatbot.slug}/chatter_data_exports/!conversations/")
    assert status(none)["result"] == "nothing_found"
    assert status(none)["export"]["key"] != told["export"]["key"]
