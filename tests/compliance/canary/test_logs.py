"""Log files: what was written since the turn began is searched, whatever rotation does meanwhile."""

import gzip
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pytest_django import Settings

from compliance.canary import logs
from compliance.canary.report import Inconclusive
from compliance.canary.work import Work
from compliance.models import CanaryTurn
from tests.compliance.canary.support import WORDS, places

LINE = f"a line with {WORDS.value}\n"


@pytest.fixture
def log(tmp_path: Path, settings: Settings) -> Path:
    settings.CANARY_LOG_FILES = [str(tmp_path / "*.log*")]
    log = tmp_path / "worker.log"
    log.write_text("before\n" * 100)
    return log


def look(since: dict[str, Any]) -> tuple[list[str], str]:
    """Return the names of the files with a word, and what could not be looked at."""
    work = Work(CanaryTurn(id=UUID(int=1), began_at=datetime.now(UTC), logs=since))
    logs.scan(work)
    return [Path(where).name for where in places(work.report)], str(work.report.trouble or "")


def append(log: Path) -> None:
    with log.open("a") as file:
        file.write(LINE)


def rename(log: Path) -> None:
    append(log)
    log.rename(log.with_name("worker.log.1"))
    log.write_text("new\n")


def truncate(log: Path) -> None:
    log.with_name("worker.log.1").write_text(log.read_text() + LINE)
    log.write_text("")


def pack(log: Path) -> None:
    log.with_name("worker.log.1.gz").write_bytes(gzip.compress(log.read_bytes() + LINE.encode()))
    log.unlink()
    log.write_text("new\n")


def rename_and_begin_alike(log: Path) -> None:
    text = log.read_text()
    log.rename(log.with_name("worker.log.1"))
    log.write_text(text[: len(text) // 2] + LINE + text)


def truncate_and_grow(log: Path) -> None:
    text = log.read_text()
    log.with_name("worker.log.1").write_text(text)
    log.write_text(LINE + "after\n" * 200)
    assert log.stat().st_size > len(text)


@pytest.mark.parametrize(
    ("rotate", "name"),
    [
        (append, "worker.log"),
        (rename, "worker.log.1"),
        (truncate, "worker.log.1"),
        (pack, "worker.log.1.gz"),
        (rename_and_begin_alike, "worker.log"),
        (truncate_and_grow, "worker.log"),
    ],
)
def test_a_line_is_found_wherever_rotation_has_put_it(log: Path, rotate: Callable[[Path], None], name: str) -> None:
    since = logs.positions()
    assert look(since) == ([], "")

    rotate(log)

    assert look(since) == ([name], "")


def test_only_what_was_written_since_is_read(log: Path) -> None:
    append(log)

    assert look(logs.positions()) == ([], "")


def test_a_file_that_nothing_is_known_of_is_read_whole_if_it_has_changed(log: Path) -> None:
    append(log)
    old = log.with_name("old.log")
    old.write_text(LINE)
    os.utime(old, ((datetime.now(UTC) - timedelta(days=1)).timestamp(),) * 2)

    assert look({}) == (["worker.log"], "")


def test_a_process_that_reads_no_logs_does_not_speak_for_one_that_does(log: Path, settings: Settings) -> None:
    # Nor does its own look, which reads none, count for the next turn.
    known = [logs.positions(), logs.positions_after({"is_read": True})]
    settings.CANARY_LOG_FILES = []
    for since in known:
        with pytest.raises(Inconclusive, match="log_missing CANARY_LOG_FILES"):
            look(since)
    assert look(logs.positions()) == ([], "")


@pytest.mark.parametrize("what", ["no file", "a pipe"])
def test_a_pattern_without_a_file_is_not_taken_for_clean(tmp_path: Path, settings: Settings, what: str) -> None:
    path = tmp_path / "none.log"
    settings.CANARY_LOG_FILES = [str(path)]
    if what == "a pipe":
        os.mkfifo(path)

    assert look(logs.positions()) == ([], f"log_missing {path}")


def test_a_file_that_cannot_be_searched_does_not_hide_the_next(log: Path) -> None:
    since = logs.positions()
    broken = log.with_name("a.log.1.gz")
    broken.write_bytes(b"\x1f\x8b" + b"no gzip at all")
    append(log)

    assert look(since) == (["worker.log"], f"too_much {broken}")


def test_a_file_that_was_begun_anew_is_searched_and_what_it_had_is_missed(log: Path) -> None:
    since = logs.positions()
    log.write_text(LINE * 100)

    assert look(since) == (["worker.log"], f"log_missing {log}")


def test_what_was_written_between_two_looks_is_read_unless_it_is_very_much(log: Path, monkeypatch: Any) -> None:
    before = logs.positions() | {"is_read": True}
    append(log)
    assert look(logs.positions_after({**before})) == (["worker.log"], "")
    assert look(logs.positions_after({**before, "is_read": False})) == ([], "")

    monkeypatch.setattr(logs, "_MOST_BETWEEN_BYTES", 20)
    assert look(logs.positions_after({**before})) == ([], "")
