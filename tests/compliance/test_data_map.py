from io import StringIO
from pathlib import Path

from django.conf import settings
from django.core.management import call_command


def test_the_page_is_what_the_command_prints() -> None:
    printed = StringIO()
    call_command("data_map", stdout=printed)

    page = Path(settings.BASE_DIR) / "docs/data-map.md"
    again = "Run: manage.py data_map > docs/data-map.md"
    assert page.read_text(encoding="utf-8") == printed.getvalue(), again
