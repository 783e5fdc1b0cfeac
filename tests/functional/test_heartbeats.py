"""Real clusters: alive, stopped, and killed."""

from datetime import timedelta

import pytest
from django.utils import timezone

from compliance.models import Heartbeat
from compliance.work import health, notify
from compliance.work.heartbeats import Condition
from scripts.processes import Processes
from tests.functional.support import manage, worker_environment
from tests.functional.test_killed_worker import wait_until


@pytest.mark.long(reason="clusters are started, stopped and killed")
def test_clusters_are_shown_as_alive_stopped_and_missing(storage: object) -> None:
    """Over two seconds: two clusters have to start."""
    notify.notify_workers()
    with Processes() as processes:
        for name in ("killed", "stopped"):
            processes.start(name, manage("qcluster"), env=worker_environment())
        wait_until(lambda: health.check().alive == 2 and Heartbeat.objects.filter(worked_at__isnull=False).exists())
        assert not health.check().problems
        processes.kill("killed")
    wait_until(lambda: Heartbeat.objects.filter(stopped_at__isnull=False).count() == 1)

    # Simulate the passing of three minutes.
    Heartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=3))

    assert {cluster.condition for cluster in health.check().clusters} == {Condition.GONE, Condition.STOPPED}
    assert [problem.code for problem in health.check().problems] == ["no_cluster"]
