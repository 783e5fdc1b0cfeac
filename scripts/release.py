"""`make release`: raise the version, tag it, and write the files of a release to `var/release/<version>/`.

The version is only in `pyproject.toml`. A dry run writes the same files, but makes no commit and no tag.
"""

import argparse
import hashlib
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from common.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
NAME = "data-compliance-api"
PROJECT, CHANGELOG, SETTINGS = "pyproject.toml", "CHANGELOG.md", "config/settings.py"

_UNRELEASED = re.compile(r"^## Unreleased\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"env\.[a-z_]+\(\s*\"([A-Z0-9_]+)\"")
# Kinds of changelog entries that an operator reads before an upgrade, in the order in which they are printed.
_NOTED = ("Upgrading", "Changed", "Deprecated", "Removed", "Security")


class Refused(Exception):
    """No release can be made. The text contains the reason."""


def git(*arguments: str) -> str:
    argv = ["git", *arguments]
    return subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def unreleased_entries() -> dict[str, str]:
    """Return the entries under "Unreleased" by kind; a kind can have several headings."""
    found = _UNRELEASED.search((ROOT / CHANGELOG).read_text())
    entries: dict[str, str] = {}
    for section in re.split(r"^### ", found[1] if found else "", flags=re.MULTILINE)[1:]:
        kind, _, text = section.partition("\n")
        if text.strip():
            entries[kind] = f"{entries.get(kind, '')}\n{text.strip()}".strip()
    return entries


def parse(version: str) -> tuple[int, int, int]:
    if not (found := re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)):
        raise Refused(f"A version has three numbers, such as 0.2.0, and not: {version}")
    return int(found[1]), int(found[2]), int(found[3])


def propose(kinds: set[str]) -> str:
    """Return the next version by Semantic Versioning, where versions before 1.0.0 may break in a minor one."""
    major, minor, patch = parse(VERSION)
    if kinds & {"Removed", "Upgrading"} and major:
        return f"{major + 1}.0.0"
    if kinds - {"Fixed", "Security"}:
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def check(version: str, entries: dict[str, str]) -> None:
    if git("status", "--porcelain"):
        raise Refused("There are changes that are not committed.")
    if (branch := git("branch", "--show-current")) != "main":
        raise Refused(f"Releases are made on main, and this is {branch or 'no branch'}.")
    if not entries:
        raise Refused(f'{CHANGELOG} has no entry under "Unreleased".')
    if git("tag", "--list", f"v{version}"):
        raise Refused(f"The tag v{version} exists.")
    if parse(version) <= parse(VERSION):
        raise Refused(f"{version} is not above {VERSION}.")


def upgrade_notes(entries: dict[str, str]) -> str:
    """Return what an operator reads before an upgrade: entries, migrations, and settings since the last tag."""
    notes = {kind: entries[kind] for kind in _NOTED if kind in entries}
    if last := git("tag", "--list", "v*", "--sort=-version:refname", "--merged", "HEAD").partition("\n")[0]:
        added = git("diff", "--name-only", "--diff-filter=A", last, "--", "*/migrations/[0-9]*.py").splitlines()
        before = _SETTING.findall(git("show", f"{last}:{SETTINGS}"))
        read = set(_SETTING.findall((ROOT / SETTINGS).read_text())).difference(before)
        lists = {"New migrations": added, "New settings": read}
        notes |= {title: "\n".join(f"- `{one}`" for one in sorted(found)) for title, found in lists.items() if found}
    sections = [f"### {title}\n\n{text}" for title, text in notes.items()]
    return "\n\n".join(sections) or "Nothing to do beyond docs/operators/upgrade.md."


def raise_version(version: str) -> None:
    today = datetime.now(UTC).date()
    for name, old, new in (
        (PROJECT, f'version = "{VERSION}"\n', f'version = "{version}"\n'),
        (CHANGELOG, "## Unreleased\n", f"## Unreleased\n\n## {version} - {today}\n"),
    ):
        (ROOT / name).write_text((ROOT / name).read_text().replace(old, new, 1))


def write_sbom(file: Path) -> None:
    # It warns that a requirements file contains no dependencies between packages.
    argv = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "requirements.txt"]
    # Validation takes 4 seconds each time, and this tool writes the document from its own model of the standard.
    options = ["--pyproject", PROJECT, "--output-reproducible", "--no-validate", "--output-file", str(file)]
    subprocess.run(argv + options, cwd=ROOT, check=True)


def release(version: str, notes: str, *, dry_run: bool) -> Path:
    """Write the files of the release and, but for a dry run, commit and tag. An error before that changes nothing."""
    tag, folder = f"v{version}", ROOT / "var/release" / version
    folder.mkdir(parents=True, exist_ok=True)
    try:
        raise_version(version)
        write_sbom(folder / f"{NAME}-{version}.cdx.json")
        git("add", PROJECT, CHANGELOG)
        source = git("write-tree")
        if not dry_run:
            git("commit", "--quiet", "--message", f"release: {version}")
            # By default git drops lines that begin with "#", which are headings here.
            message = f"Data Compliance API {version}\n\n{notes}"
            git("tag", "--annotate", "--cleanup=whitespace", "--message", message, tag)
            source = tag
    finally:
        git("restore", "--staged", "--worktree", PROJECT, CHANGELOG)
    archive = folder / f"{NAME}-{version}.tar.gz"
    git("archive", f"--prefix={NAME}-{version}/", f"--output={archive}", source)
    # The client has a version of its own.
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), "client"]
    subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    files = sorted([*folder.glob(f"{NAME}-*"), *folder.glob("data_compliance_client-*")])
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("version", nargs="?", help="the next version; without it one is proposed")
    parser.add_argument("--dry-run", action="store_true", help="make no commit and no tag")
    given = parser.parse_args()
    try:
        entries = unreleased_entries()
        version = given.version or propose(set(entries))
        check(version, entries)
        if not given.version and not given.dry_run:
            raise Refused(f"The changelog has {', '.join(sorted(entries))}. Proposed: make release VERSION={version}")
        notes = upgrade_notes(entries)
        folder = release(version, notes, dry_run=given.dry_run)
    except Refused as refused:
        sys.exit(f"No release. {refused}")
    print(f"Upgrade notes of {version}\n\n{notes}\n\nFiles in {folder.relative_to(ROOT)}:")
    print("\n".join(f"    {file.name}" for file in sorted(folder.iterdir())))
    if given.dry_run:
        print("Dry run: no commit and no tag.")
        return
    print(f"""Next:
    git push origin main v{version}
    publish the files with the notes: git tag --list --format='%(contents)' v{version}
    podman build --build-arg VERSION={version} -t {NAME}:{version} .
Before the push, this undoes all: git tag --delete v{version} && git reset --hard HEAD~1""")


if __name__ == "__main__":
    main()
