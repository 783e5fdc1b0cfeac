from datetime import timedelta

import pytest

from compliance.reconciliation import scan


@pytest.fixture(autouse=True)
def everything_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat objects just written as old; S3 returns whole seconds."""
    monkeypatch.setattr(scan, "SAFETY_AGE", timedelta(seconds=-2))
