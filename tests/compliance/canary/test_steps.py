"""What a step sends fits the service's settings."""

import pytest
from pytest_django import Settings

from compliance.canary import steps


@pytest.mark.parametrize(
    ("taken", "sent"),
    [
        (["image/png", "text/*"], "text/plain"),
        (["application/pdf", "audio/*"], "application/pdf"),
        (["audio/*"], "audio/x"),
    ],
)
def test_the_file_is_of_a_type_that_the_service_takes(settings: Settings, taken: list[str], sent: str) -> None:
    settings.UPLOAD_TYPES = taken

    assert steps._media_type() == sent
