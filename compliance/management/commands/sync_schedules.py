from typing import Any

from compliance import queue
from compliance.management.base import TeachingCommand


class Command(TeachingCommand):
    help = "Make the schedules of the workers equal to those the code declares. Also runs after migrate."
    examples = """\
examples:
  manage.py sync_schedules
"""

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write("Scheduled: " + ", ".join(queue.sync_schedules()))
