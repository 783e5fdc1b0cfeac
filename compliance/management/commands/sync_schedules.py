from typing import Any

from chatbots.management.base import TeachingCommand
from compliance import queue


class Command(TeachingCommand):
    help = "Make the schedules of the workers equal to those the code declares. Also runs after migrate."
    examples = """\
examples:
  manage.py sync_schedules

exit codes: 0 done
"""

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write("Scheduled: " + ", ".join(queue.sync_schedules()))
