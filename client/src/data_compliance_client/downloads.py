"""Files of an export, as they are written on this machine."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from data_compliance_client.bodies import Request
from data_compliance_client.errors import DownloadIncomplete

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class File:
    name: str
    """Its name on this machine."""
    listed_as: str | None
    """Its name in the download call; None for the main file."""
    length: int
    sha256: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "File":
        """Return a file of the list in a request or a manifest."""
        return cls(_safe(data["name"]), data["name"], data["bytes"], data["sha256"])


def contents(request: Request) -> tuple[File, list[File], int]:
    """Return the main file of an export, the listed ones beside it, and how many are not listed.

    The main file is the CSV or the ZIP, or the manifest of a folder.
    """
    export = request.data["export"]
    name = PurePosixPath(export["key"] or "").name or f"{request.id}{'.zip' if request.data['archive'] else '.csv'}"
    main = File(_safe(name), None, export["bytes"], export["sha256"])
    copies = sum(one["file_id"] is not None for one in export["files"])
    left_out = 0 if request.data["archive"] else request.data["counts"]["files"] - copies
    return main, [File.of(one) for one in export["files"]], left_out


def listed_in(manifest: Path) -> list[File]:
    """Return all files that a manifest lists."""
    return [File.of(one) for one in json.loads(manifest.read_bytes())["files"]]


def _safe(name: str) -> str:
    """Return a name that stays in its folder. Raises DownloadIncomplete for any other."""
    if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise DownloadIncomplete("A file has a name that leads out of the folder.")
    return name


class Target:
    """A file that is being downloaded, under a name of its own until it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")

    def __enter__(self) -> Self:
        # It is personal data. And one that is left over from a broken-off attempt is begun anew.
        self._part.unlink(missing_ok=True)
        self._file = open(self._part, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))
        self.restart()
        return self

    def __exit__(self, *_error: object) -> None:
        is_ours = self._is_ours()
        self._file.close()
        if is_ours:
            self._part.unlink()

    def restart(self) -> None:
        """Forget what came: another attempt begins."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self._length = 0

    def write(self, part: bytes) -> None:
        """Take the next bytes."""
        self._file.write(part)
        self._digest.update(part)
        self._length += len(part)

    def finish(self, file: File) -> None:
        """Give the file its name. Raises DownloadIncomplete if it is not as listed."""
        if (self._length, self._digest.hexdigest()) != (file.length, file.sha256):
            raise DownloadIncomplete("The file differs from the one that the service wrote. Download it again.")
        self._file.flush()
        os.fsync(self._file.fileno())
        if not self._is_ours():
            raise DownloadIncomplete("Another download writes the same file.")
        self._part.replace(self._path)

    def _is_ours(self) -> bool:
        """Return whether no other download has taken the place of this one."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._file.fileno()), self._part.stat(follow_symlinks=False))
        return False
