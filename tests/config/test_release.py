"""`make release` raises the version, tags it, and writes source, checksums and SBOM; it refuses what is not ready."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from django.conf import settings

from common.version import VERSION
from scripts.release import NAME, parse

ROOT = Path(settings.BASE_DIR)
# What a release reads, but for the changelog.
READ = (
    *(".gitignore", "pyproject.toml", "requirements.txt", "config/settings.py"),
    *("common/__init__.py", "common/version.py", "scripts/__init__.py", "scripts/release.py"),
    *(str(path.relative_to(ROOT)) for path in (ROOT / "client").rglob("*") if path.suffix in {".toml", ".md", ".py"}),
)
CHANGELOG = (
    f"## Unreleased\n\n### Added\n\n- **A thing.**\n\n## {VERSION} - 2026-11-26\n\n### Requests\n\n- **Old.**\n"
)
MAJOR, MINOR, PATCH = parse(VERSION)
NEXT, SECOND, FIXED = f"{MAJOR}.{MINOR + 1}.0", f"{MAJOR}.{MINOR + 1}.1", f"{MAJOR}.{MINOR}.{PATCH + 1}"


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def commit(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", name)

    def release(self, *arguments: str) -> tuple[int, str]:
        argv = [sys.executable, "-m", "scripts.release", *arguments]
        done = subprocess.run(argv, cwd=self.folder, check=False, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def state(self) -> str:
        return self.git("rev-parse", "HEAD") + self.git("status", "--porcelain") + self.git("tag")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository on main with an entry under "Unreleased"."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A developer")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "developer@example.com")
    for name in READ:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    made = Repository(tmp_path)
    made.git("init", "--quiet", "--initial-branch=main")
    made.commit("CHANGELOG.md", CHANGELOG)
    return made


def test_a_release_has_a_tag_with_notes_and_files_that_match_it_and_a_dry_run_has_files_alone(repository) -> None:
    before = repository.state()
    assert repository.release("--dry-run")[0] == 0
    assert (repository.folder / "var/release" / NEXT / "SHA256SUMS").exists()
    assert repository.state() == before
    assert repository.release(NEXT)[0] == 0
    repository.commit("chatbots/migrations/0009_more.py", "")
    repository.commit("config/settings.py", 'MORE = env.str("MORE")\n')
    entries = "## Unreleased\n\n### Changed\n\n- **Another thing.**\n\n### Fixed\n\n- **A fault.**\n"
    changelog = repository.folder / "CHANGELOG.md"
    repository.commit("CHANGELOG.md", changelog.read_text().replace("## Unreleased\n", entries))

    code, printed = repository.release(SECOND)

    assert code == 0, printed
    message = repository.git("tag", "--list", "--format=%(objecttype) %(contents)", f"v{SECOND}")
    changed = "### Changed\n\n- **Another thing.**\n\n"
    added = "### New migrations\n\n- `chatbots/migrations/0009_more.py`\n\n### New settings\n\n- `MORE`\n"
    assert message.startswith(f"tag Data Compliance API {SECOND}\n\n{changed}{added}")
    assert changed + added in printed
    assert re.findall(r"^## (\S+)", changelog.read_text(), re.MULTILINE) == ["Unreleased", SECOND, NEXT, VERSION]
    assert repository.git("status", "--porcelain") == ""

    folder = repository.folder / "var/release" / SECOND
    checked = subprocess.check_output(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, text=True)
    names = (f"{NAME}-{SECOND}.cdx.json", f"{NAME}-{SECOND}.tar.gz", "data_compliance_client-0.1.0-py3-none-any.whl")
    assert checked == "".join(f"{name}: OK\n" for name in names)
    with tarfile.open(folder / f"{NAME}-{SECOND}.tar.gz") as archive:
        archive.extractall(repository.folder / "var", filter="data")
        assert archive.pax_headers["comment"] == repository.git("rev-parse", f"v{SECOND}^{{commit}}").strip()
    argv = [sys.executable, "-c", "from common.version import VERSION; print(VERSION)"]
    unpacked = repository.folder / "var" / f"{NAME}-{SECOND}"
    assert subprocess.check_output(argv, cwd=unpacked, text=True) == f"{SECOND}\n"
    sbom = json.loads((folder / f"{NAME}-{SECOND}.cdx.json").read_text())
    pinned = re.findall(r"^([\w.-]+)(?:\[.+?\])?==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert {(each["name"], each["version"]) for each in sbom["components"]} == set(pinned)
    assert sbom["metadata"]["component"]["version"] == SECOND


@pytest.mark.parametrize(
    ("prepare", "version", "reason"),
    [
        (lambda made: (made.folder / "new").touch(), NEXT, "not committed"),
        (lambda made: made.git("switch", "--quiet", "--create", "other"), NEXT, "this is other"),
        (lambda made: made.commit("CHANGELOG.md", CHANGELOG.replace("- **A thing.**", "")), NEXT, "no entry"),
        (lambda made: made.git("tag", f"v{NEXT}"), NEXT, "exists"),
        (lambda made: None, VERSION, "not above"),
        (lambda made: None, "next", "three numbers"),
        (lambda made: None, "", f"Proposed: make release VERSION={NEXT}"),
        (lambda made: made.commit("CHANGELOG.md", CHANGELOG.replace("Added", "Fixed")), "", f"VERSION={FIXED}"),
    ],
)
def test_a_repository_that_is_not_ready_is_refused(repository, prepare, version, reason) -> None:
    prepare(repository)
    before = repository.state()

    code, printed = repository.release(*filter(None, [version]))

    assert (code, repository.state()) == (1, before)
    assert reason in printed
