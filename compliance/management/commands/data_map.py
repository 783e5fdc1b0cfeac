from typing import Any

from common.commands import TeachingCommand
from compliance.data_map import data_map


class Command(TeachingCommand):
    help = "Print the data map: each field that can hold personal data and what erasure does to it (Markdown)."
    examples = """\
examples:
  manage.py data_map > docs/reference/data-map.md

exit codes: 0 done
"""

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(data_map(), ending="")
