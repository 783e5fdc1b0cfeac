from pathlib import Path

from django.conf import settings

from tests.commands import run


def test_the_page_is_what_the_command_prints() -> None:
    page = Path(settings.BASE_DIR) / "docs/data-map.md"
    again = "Run: manage.py data_map > docs/data-map.md"
    assert page.read_text(encoding="utf-8") == run("data_map").out, again
