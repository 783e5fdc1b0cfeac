"""The canary in real clusters: one turn at a time, and one that is killed is taken up."""

import json
import subprocess

import pytest
from django.core.management import call_command

from chatbots.buckets import hosted_storage
from compliance.canary.client import Client
from compliance.models import Canary, CanaryTurn
from conversations.models import Conversation
from scripts.processes import Processes
from tests.clients import empty
from tests.functional.canary.turn_driver import versioned_bucket_and_server
from tests.functional.support import manage, worker_environment
from tests.functional.test_killed_worker import wait_until

pytestmark = pytest.mark.long(reason="two clusters take a turn, and one of them is killed")


def test_two_clusters_take_one_turn_and_outlive_a_kill(storage, settings, tmp_path) -> None:
    with versioned_bucket_and_server(tmp_path / "web.log") as (bucket, server), Processes() as processes:
        settings.S3_BUCKET, settings.CANARY_URL = bucket, f"http://127.0.0.1:{server.port}"
        empty(hosted_storage())
        call_command("create_canary")
        flying = worker_environment() | {
            "S3_BUCKET": bucket,
            "CANARY_URL": settings.CANARY_URL,
            "CANARY_MINUTES": "60",
            "CANARY_LOG_FILES": str(tmp_path / "*.log"),
        }
        for name in ("one", "two"):
            processes.start(name, manage("qcluster"), env=flying, log=tmp_path / f"{name}.log")
        wait_until(lambda: Conversation.objects.count() == 2)
        processes.kill("one")

        # An operator, who follows that turn.
        argv = manage("canary", "--json", "--timeout", "240")
        done = subprocess.run(argv, env=flying, check=False, capture_output=True, text=True)

        assert done.returncode == 0, done.stdout + done.stderr
        [turn] = CanaryTurn.objects.all()
        assert json.loads(done.stdout)["turn"] == str(turn.pk)
        assert (turn.state, turn.trouble, turn.trouble_at) == ("clean", "", "")
        logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
        assert logs.count("canary.began") == 1
        assert "canary.failed" not in logs
        keys = Client.of(Canary.objects.get())
        assert keys.token not in logs
        assert keys.secret not in logs
        empty(hosted_storage())
