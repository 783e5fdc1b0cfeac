from pathlib import Path
from typing import Any

from django.conf import settings

from common.commands import TeachingCommand
from devdata import doc_tables


class Command(TeachingCommand):
    help = "Rewrite the tables in docs/ that are printed from code."
    examples = """\
examples:
  manage.py doc_tables

exit codes: 0 done
"""

    def handle(self, *args: Any, **options: Any) -> None:
        for name in doc_tables.pages():
            page = Path(settings.BASE_DIR) / name
            page.write_text(doc_tables.with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
