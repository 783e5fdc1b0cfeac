from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from tests.compliance.conftest import caller, server
from tests.functional.company import Company
from tests.functional.elsewhere import Gate
from tests.functional.refusing import Refusals

__all__ = ["caller", "company", "refusals", "server"]


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


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lets the next call of a module's function wait, before or after it."""

    def gate_at(module: Any, name: str, *, after: bool = False) -> Gate:
        gate, original = Gate(), getattr(module, name)

        def slow(*given: Any, **options: Any) -> Any:
            monkeypatch.setattr(module, name, original)
            if not after:
                gate.passed()
            result = original(*given, **options)
            if after:
                gate.passed()
            return result

        monkeypatch.setattr(module, name, slow)
        return gate

    return gate_at


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
