"""Log files: what was written lately is searched, whatever rotation does meanwhile."""

import gzip
import os
import time
from pathlib import Path

import pytest
from pytest_django import Settings

from chatbots.models import Chatbot
from compliance.canary import logs
from compliance.canary.work import Work
from compliance.models import CanaryTurn
from tests.compliance.canary.support import places
from tests.factories import NOON


@pytest.fixture
def log(tmp_path: Path, settings: Settings) -> Path:
    settings.CANARY_LOG_FILES = [str(tmp_path / "*.log*")]
    log = tmp_path / "worker.log"
    log.write_text("before\n" * 100)
    return log


@pytest.fixture
def work(chatbot: Chatbot) -> Work:
    return Work(CanaryTurn.objects.create(chatbot=chatbot, day=NOON.date()))


def look(work: Work) -> tuple[list[str], str]:
    """Return the names of the files with a word, and what could not be looked at."""
    logs.scan(work)
    return [Path(where).name for where in places(work)], str(work.trouble or "")


def append(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(line)


def rename(log: Path, line: str) -> None:
    append(log, line)
    log.rename(log.with_name("worker.log.1"))
    log.write_text("new\n")


def truncate(log: Path, line: str) -> None:
    log.with_name("worker.log.1").write_text(log.read_text() + line)
    log.write_text("")


def pack(log: Path, line: str) -> None:
    log.with_name("worker.log.1.gz").write_bytes(gzip.compress(log.read_bytes() + line.encode()))
    log.unlink()
    log.write_text("new\n")


@pytest.mark.parametrize(
    ("rotate", "name"),
    [
        (append, "worker.log"),
        (rename, "worker.log.1"),
        (truncate, "worker.log.1"),
        (pack, "worker.log.1.gz"),
    ],
)
def test_a_line_is_found_wherever_rotation_has_put_it(log, work, rotate, name, monkeypatch) -> None:
    # As long as the line. What is packed has to be read whole.
    monkeypatch.setattr(logs, "_MOST_BYTES", 60)
    rotate(log, f"a line with {work.planted.value}\n")

    assert look(work) == ([name], "")


def test_files_that_were_searched_since_and_the_beginnings_of_long_ones_are_not_read(log, work, monkeypatch) -> None:
    monkeypatch.setattr(logs, "_MOST_BYTES", 100)
    log.write_text(f"a line with {work.planted.value}\n" + "no word\n" * 20)
    old = log.with_name("worker.log.1")
    old.write_text(work.planted.value)
    a_day_and_an_hour_ago = time.time() - 25 * 3600
    os.utime(old, (a_day_and_an_hour_ago, a_day_and_an_hour_ago))

    assert look(work) == ([], "")


@pytest.mark.parametrize("what", ["no file", "a pipe"])
def test_a_pattern_without_a_file_is_not_taken_for_clean(tmp_path, settings, work, what) -> None:
    path = tmp_path / "none.log"
    settings.CANARY_LOG_FILES = [str(path)]
    if what == "a pipe":
        os.mkfifo(path)

    assert look(work) == ([], f"log_missing {path}")


def test_a_file_that_cannot_be_searched_does_not_hide_the_next(log: Path, work: Work) -> None:
    broken = log.with_name("a.log.1.gz")
    broken.write_bytes(b"\x1f\x8b" + b"no gzip at all")
    append(log, work.planted.value)

    assert look(work) == (["worker.log"], f"too_much {broken}")
