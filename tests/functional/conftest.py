from collections.abc import Iterator

import pytest
from django.conf import settings
from django.db import connection

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from tests.compliance.conftest import server
from tests.functional.company import Company
from tests.functional.refusing import Refusals

__all__ = ["company", "refusals", "server"]


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """The refusals of the storage: none until the test adds some."""
    refusals = Refusals()
    refusals.set_up(monkeypatch)
    return refusals


@pytest.fixture
def company(chatbot: Chatbot, storage: ObjectStorage) -> Company:
    """The chatbot's owner, with an empty hosted bucket."""
    return Company(chatbot)


@pytest.fixture(autouse=True)
def _nothing_is_denied() -> Iterator[None]:
    """Fail where PostgreSQL has denied something to a web server, a cluster or a command that ran meanwhile.

    They may continue, and report it only in their own log. Other test processes write into the same file.
    """
    ours = f"] {connection.settings_dict['NAME']} ERROR:"
    log = settings.VAR_DIR / "postgres" / "log"
    begin = log.stat().st_size
    yield
    with log.open(errors="replace") as lines:
        lines.seek(begin)
        denied = sorted(
            {line.partition("ERROR:")[2].strip() for line in lines if ours in line and "permission denied" in line}
        )
    assert not denied, f"{denied}: see compliance/database_rights.py"
