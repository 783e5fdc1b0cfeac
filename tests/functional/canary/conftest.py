"""A canary on a web server and a versioned bucket of its own."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from compliance.canary import turns
from compliance.models import Canary
from tests.clients import empty
from tests.commands import run
from tests.functional.canary.turn_driver import versioned_bucket_and_server
from tests.functional.web import WebServer

HOUR = timedelta(hours=1)


@pytest.fixture(scope="session")
def place(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, WebServer, Path]]:
    log = tmp_path_factory.mktemp("canary") / "web.log"
    with versioned_bucket_and_server(log) as (name, server):
        yield name, server, log


@pytest.fixture
def canary(place: tuple[str, WebServer, Path], settings: Settings, tmp_path: Path) -> Iterator[Canary]:
    name, server, log = place
    settings.S3_BUCKET = name
    settings.CANARY_URL = f"http://127.0.0.1:{server.port}"
    settings.CANARY_EVERY = HOUR
    (tmp_path / "worker.log").write_text("before\n")
    settings.CANARY_LOG_FILES = [str(log), str(tmp_path / "worker.log*")]
    empty(hosted_storage())
    run("create_canary")
    yield Canary.objects.select_related("chatbot").get()
    empty(hosted_storage())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be searched is not tried again."""
    once = dict.fromkeys(["control", "look_api", "look_bucket", "look_rows", "look_logs"], 0)
    monkeypatch.setattr(turns, "_PATIENCE", turns._PATIENCE | once)
