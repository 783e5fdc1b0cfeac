from typing import Any

from common.commands import TeachingCommand
from common.db import sessions_find_by_index
from compliance.cluster import supervision
from compliance.tasks import DUTIES


class Command(TeachingCommand):
    help = (
        "Run a cluster of WORKERS workers until it is stopped. If one of its processes is killed or hangs, it "
        "restarts within seconds."
    )
    examples = """\
examples:
  manage.py qcluster
  WORKERS=4 manage.py qcluster

Any number of clusters may run, on any machines. To stop one, send SIGTERM or Ctrl-C: its workers finish their
tasks. If you cannot wait, kill it; nothing is lost. Have a process manager start it again when its first process is
killed (docs/operators/without-containers.md).
"""

    def handle(self, *args: Any, **options: Any) -> None:
        with sessions_find_by_index():
            supervision.run(DUTIES)
