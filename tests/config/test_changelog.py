"""CHANGELOG.md is one that a reader, and a release, can rely on."""

import re
from datetime import date
from pathlib import Path

from django.conf import settings

from common.version import VERSION

HEADINGS = re.findall(r"^## (.+)$", (Path(settings.BASE_DIR) / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_newest_release_is_the_version_of_the_project() -> None:
    unreleased, newest, *_ = HEADINGS

    assert unreleased == "Unreleased"
    version, _, released = newest.partition(" - ")
    assert version == VERSION
    assert date.fromisoformat(released)
