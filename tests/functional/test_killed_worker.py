"""A real cluster is killed with SIGKILL in the middle of a big deletion; another one finishes."""

import subprocess
import time
from collections.abc import Callable

import pytest
from django.db import connection

from chatbots.models import ChangeLogEntry, Chatbot
from common.storage import ObjectStorage
from compliance.models import ComplianceRequest
from compliance.work import notify
from conversations.models import Conversation, Identity, Message
from scripts.processes import Processes
from tests.factories import conversation_of, deletion_of
from tests.functional.support import manage, worker_environment

Status = ComplianceRequest.Status

CONVERSATIONS, MESSAGES_EACH = 40, 5_000

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.long(reason="two clusters, and 200,000 messages are erased"),
]

_FILL = """
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT c.chatbot_id, c.id, 'bulk-' || n, 'user', 'text', 'message ' || n || repeat(' and more', 10), now()
  FROM conversations_conversation c CROSS JOIN generate_series(1, %s) AS n WHERE c.id = ANY(%s)
"""


def wait_until(true: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def start_cluster(processes: Processes) -> subprocess.Popen[bytes]:
    return processes.start("worker", manage("qcluster"), env=worker_environment())


def test_another_worker_finishes_with_right_counts_and_one_completion(
    chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage
) -> None:
    ours = [conversation_of(chatbot, "42", messages=0, message_count=MESSAGES_EACH) for _ in range(CONVERSATIONS)]
    others = [conversation_of(chatbot, "43", messages=3), conversation_of(neighbour, "42", messages=3)]
    with connection.cursor() as cursor:
        cursor.execute(_FILL, [MESSAGES_EACH, [conversation.pk for conversation in ours]])
    untouched = list(Message.objects.filter(conversation__in=others).order_by("pk").values())
    request = deletion_of(chatbot, "42")
    notify.notify_workers()
    total = CONVERSATIONS * MESSAGES_EACH

    with Processes() as processes:
        start_cluster(processes)
        wait_until(lambda: ComplianceRequest.objects.get(pk=request.pk).messages > 0)
        processes.kill("worker")
        request.refresh_from_db()
        assert request.status == Status.PROCESSING
        assert 0 < request.messages < total, "it was killed too late to show anything"
        assert Message.objects.filter(conversation__in=ours).count() == total - request.messages

        # The next cluster of this machine detects that it is dead, and requeues its work.
        start_cluster(processes)
        wait_until(lambda: ComplianceRequest.objects.get(pk=request.pk).status == Status.COMPLETED)

    request.refresh_from_db()
    assert (request.conversations, request.messages, request.identities) == (CONVERSATIONS, total, CONVERSATIONS)
    assert (request.attempts, request.uci_value) == (1, None)
    events = list(ChangeLogEntry.objects.filter(request_id=request.pk).values_list("event", flat=True))
    assert events.count("request.completed") == 1
    assert not Message.objects.filter(conversation__in=ours).exists()
    assert (
        Conversation.objects.filter(deletion_request_id=request.pk, deleted_at__isnull=False).count() == CONVERSATIONS
    )
    assert list(Message.objects.filter(conversation__in=others).order_by("pk").values()) == untouched
    assert Identity.objects.count() == 2
