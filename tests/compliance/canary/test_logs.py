"""Log files: what was written since the turn began is searched, whatever rotation does meanwhile."""

import gzip
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pytest_django import Settings

from compliance.canary import logs
from compliance.canary.trouble import Budget, CannotTell
from compliance.canary.words import Search, planted
from tests.compliance.canary.support import collect

WORDS = planted(UUID(int=1))
LINE = f"a line with {WORDS.value}\n"


@pytest.fixture
def log(tmp_path: Path, settings: Settings) -> Path:
    settings.CANARY_LOG_FILES = [str(tmp_path / "*.log*")]
    log = tmp_path / "worker.log"
    log.write_text("before\n" * 100)
    return log


def found(since: dict[str, object]) -> list[str]:
    now = datetime.now(UTC)
    return [Path(one.where).name for one in logs.look(Search(WORDS), since, now, budget=Budget(10))]


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
    log.write_text("")


def pack_alone(log: Path) -> None:
    log.with_name("worker.log.1.gz").write_bytes(gzip.compress(log.read_bytes() + LINE.encode()))
    log.unlink()
    log.write_text("new\n")


def truncate_and_grow(log: Path) -> None:
    text = log.read_text()
    log.with_name("worker.log.1").write_text(text)
    log.write_text(LINE + "after\n" * 200)
    assert log.stat().st_size > len(text)


def test_a_machine_that_reads_no_logs_does_not_speak_for_one_that_does(log: Path, settings: Settings) -> None:
    since = logs.positions()
    settings.CANARY_LOG_FILES = []
    with pytest.raises(CannotTell, match="log_missing CANARY_LOG_FILES"):
        found(since)


@pytest.mark.parametrize(
    ("rotate", "name"),
    [
        (append, "worker.log"),
        (rename, "worker.log.1"),
        (truncate, "worker.log.1"),
        (pack, "worker.log.1.gz"),
        (pack_alone, "worker.log.1.gz"),
        (truncate_and_grow, "worker.log"),
    ],
)
def test_a_line_is_found_wherever_rotation_has_put_it(log: Path, rotate: Callable[[Path], None], name: str) -> None:
    since = logs.positions()
    assert found(since) == []

    rotate(log)

    assert found(since) == [name]


def test_only_what_was_written_since_is_read(log: Path) -> None:
    append(log)
    since = logs.positions()

    assert found(since) == []


def test_on_another_machine_files_that_have_changed_are_read_whole(log: Path, tmp_path: Path) -> None:
    append(log)
    old = tmp_path / "old.log"
    old.write_text(LINE)
    os.utime(old, ((datetime.now(UTC) - timedelta(days=1)).timestamp(),) * 2)

    assert found({"machine": "another", "files": {}}) == ["worker.log"]


@pytest.mark.parametrize("what", ["no file", "a pipe", "a folder"])
def test_a_pattern_without_a_file_is_not_taken_for_clean(tmp_path: Path, settings: Settings, what: str) -> None:
    path = tmp_path / "none.log"
    settings.CANARY_LOG_FILES = [str(path)]
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        path.mkdir()

    with pytest.raises(CannotTell, match="log_missing"):
        found(logs.positions())


def test_a_file_that_cannot_be_searched_does_not_hide_the_next(log: Path) -> None:
    since = logs.positions()
    log.with_name("a.log.1.gz").write_bytes(b"\x1f\x8b" + b"no gzip at all")
    append(log)
    names: list[str] = []

    with pytest.raises(CannotTell, match="too_much"):
        collect(logs.look(Search(WORDS), since, datetime.now(UTC), budget=Budget(10)), names)

    assert names == [str(log)]


def test_a_file_that_was_begun_anew_is_searched_and_what_it_had_is_missed(log: Path) -> None:
    since = logs.positions()
    log.write_text(LINE * 100)
    names: list[str] = []

    with pytest.raises(CannotTell, match=f"log_missing {log}"):
        collect(logs.look(Search(WORDS), since, datetime.now(UTC), budget=Budget(10)), names)

    assert names == [str(log)]


def test_a_file_that_is_searched_no_more_is_not_missed(log: Path, settings: Settings) -> None:
    since = logs.positions()
    settings.CANARY_LOG_FILES = [str(log.with_name("*.txt"))]
    log.rename(log.with_name("worker.txt"))

    assert found(since) == []


def test_what_was_written_between_two_looks_is_read_unless_it_is_very_much(log, monkeypatch) -> None:
    before = logs.positions() | {"is_read": True}
    append(log)
    assert found(logs.positions_after(before)) == ["worker.log"]
    assert found(logs.positions_after({**before, "machine": "another"})) == []

    monkeypatch.setattr(logs, "_MOST_BETWEEN_BYTES", 20)
    assert found(logs.positions_after(before)) == []


def test_a_file_in_use_that_is_gone_is_not_taken_for_clean(log: Path, tmp_path: Path) -> None:
    since = logs.positions()
    append(log)
    log.rename(tmp_path / "kept elsewhere")
    log.write_text("new\n")

    with pytest.raises(CannotTell, match="log_missing"):
        found(since)


def test_without_patterns_nothing_is_read(settings: Settings) -> None:
    settings.CANARY_LOG_FILES = []

    assert found(logs.positions()) == []
