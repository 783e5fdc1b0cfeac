"""A real cluster sends a callback to a real receiver at once."""

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.models import Callback, ComplianceRequest
from scripts.processes import Processes
from tests.calls import ALICE, SigningCaller
from tests.functional.support import manage, worker_environment
from tests.functional.test_killed_worker import wait_until
from tests.receivers import Receiver, receiving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.long(reason="a cluster is started")
def test_a_cluster_sends_a_callback_for_a_completion(chatbot: Chatbot, storage: ObjectStorage) -> None:
    signing = SigningCaller(chatbot)
    with receiving() as receiver, Processes(stop_timeout=0) as processes:
        processes.start(
            "worker", manage("qcluster"), env=worker_environment() | {"CALLBACK_PRIVATE_NETWORKS": "127.0.0.0/8"}
        )
        answer = signing.post("data-deletion", ALICE | {"callback_url": receiver.url()})
        wait_until(lambda: _delivered(receiver))
        [received] = receiver.received
    assert received.is_signed_with(signing.secret)
    assert received.payload["request_id"] == answer.json()["request_id"]
    assert ComplianceRequest.objects.get().callback_url == ""


def _delivered(receiver: Receiver) -> bool:
    return bool(receiver.received) and Callback.objects.filter(state="delivered").exists()
