"""A small file system that can be filled: a tmpfs, if this process may mount one."""

import os
import subprocess
from pathlib import Path
from typing import Self


class SmallDisk:
    """A context in which `folder` is a file system of a given size. Raises OSError if it must not be mounted."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if problem := _mount(self.folder, f"mode=0700,size={self.size}"):
            raise OSError(f"No small disk can be mounted: {problem}")
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a server that was killed may hold its files for a moment.
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False, capture_output=True)

    def fill(self) -> None:
        """Leave no room, by making the disk as small as its contents. Later deletions make room again."""
        # Its contents may grow meanwhile.
        if not any(self._resize(self.used()) for _ in range(100)):
            raise OSError("The small disk cannot be filled.")

    def free(self) -> None:
        if not self._resize(self.size):
            raise OSError("The small disk does not get its room back.")

    def used(self) -> int:
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def _resize(self, size: int) -> bool:
        words = ["mount", "-o", f"remount,size={size}", str(self.folder)]
        return subprocess.run(words, check=False, capture_output=True).returncode == 0


def _mount(folder: Path, options: str) -> str:
    """Mount a tmpfs, and return what prevents it, or nothing."""
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        return str(error)
    return done.stderr.strip() or f"code {done.returncode}" if done.returncode else ""
