"""A real replay is killed with SIGKILL in the middle of a big deletion; the next one goes on."""

import pytest
from django.db import connection

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.models import ComplianceRequest, Service
from conversations.models import Conversation, Message
from scripts.processes import Processes
from tests.compliance.replay.conftest import became_of, replay
from tests.factories import conversation_of, deletion_of
from tests.functional.support import manage, worker_environment
from tests.functional.test_killed_worker import _FILL, wait_until
from tests.restoring import restored

CONVERSATIONS, MESSAGES_EACH = 30, 5_000

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.long(reason="150,000 messages are stored, erased, brought back and erased again"),
]


def test_the_next_one_goes_on_with_right_counts(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> None:
    ours = [conversation_of(chatbot, "42", messages=0, message_count=MESSAGES_EACH) for _ in range(CONVERSATIONS)]
    others = [conversation_of(chatbot, "43", messages=3), conversation_of(neighbour, "42", messages=3)]
    with connection.cursor() as cursor:
        cursor.execute(_FILL, [MESSAGES_EACH, [conversation.pk for conversation in ours]])
    untouched = list(Message.objects.filter(conversation__in=others).order_by("pk").values())
    with restored():
        deletion = deletion_of(chatbot, "42")
        assert not worker.drain(seconds=120)
        assert ComplianceRequest.objects.get(pk=deletion.pk).status == "completed"
    total = CONVERSATIONS * MESSAGES_EACH
    requests = ComplianceRequest.objects.filter(pk=deletion.pk)

    with Processes(stop_timeout=0) as processes:
        processes.start("replay", manage("replay_erasures"), env=worker_environment())
        wait_until(lambda: requests.filter(messages__gt=0).exists())
        processes.kill("replay")
    erased = requests.get().messages
    assert 0 < erased < total, "it was killed too late to show anything"
    assert Service.objects.get().state == "restored"

    report = replay()

    assert became_of(report) == {str(deletion.pk): "erased"}
    request = requests.get()
    assert (request.messages, request.conversations, request.attempts) == (total, CONVERSATIONS, 0)
    assert list(Message.objects.order_by("pk").values()) == untouched
    assert Conversation.objects.filter(deleted_at=None).count() == len(others)
