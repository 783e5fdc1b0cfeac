"""The drill's story, and a service whose database can be lost and restored. Neither knows what is restored."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from devservers.postgres import DATABASE, PORT
from scripts.demo_story import Story
from tests.operated import Database, Keys, Operated
from tests.oracle.http import ask


class Log(Story):
    """The story, with the minute and second since its clock was set, and what took how long."""

    def __init__(self) -> None:
        super().__init__()
        self._figures: dict[str, dict[str, float]] = {}
        self._way = ""
        self.restart_clock()

    def restart_clock(self, way: str = "") -> None:
        self._way = way or self._way
        self._began = time.monotonic()

    def fact(self, text: str) -> None:
        minutes, seconds = divmod(int(self.elapsed()), 60)
        super().fact(f"{minutes:02}:{seconds:02}  {text}")

    def elapsed(self) -> float:
        """Return the seconds since the clock was set."""
        return time.monotonic() - self._began

    def took(self, what: str, seconds: float) -> None:
        """Note a figure for the table at the end."""
        self._figures.setdefault(what, {})[self._way] = seconds

    def figures(self) -> list[str]:
        """Return a table of what was noted, in Markdown; nothing if nothing was."""
        ways = list(dict.fromkeys(way for each in self._figures.values() for way in each))
        rows = [f"| | {' | '.join(ways)} |", f"| --- |{' ---: |' * len(ways)}"]
        for what, seconds in self._figures.items():
            cells = [f"{seconds[way]:.1f}" if way in seconds else "" for way in ways]
            rows.append(f"| {what} | {' | '.join(cells)} |")
        return rows if ways else []


class Service(Operated):
    """A web server and workers, as in production, with a database role each.

    Their DATABASE_URL leads to a link, which can be turned to another server as a name in DNS can.
    """

    def __init__(self, name: str, folder: Path, keys: Keys, database: Database) -> None:
        super().__init__(folder / name, "web")
        self.name = name
        self.keys = keys
        self.folder.mkdir(parents=True)
        self._link = Path(tempfile.mkdtemp(prefix="dca-drill-")) / "db"
        self.turn_to(database)

    def turn_to(self, database: Database) -> None:
        """Have the link lead to this server from now on."""
        self.database = database
        draft = self._link.with_suffix(".new")
        draft.symlink_to(database.runtime)
        draft.replace(self._link)

    def environment(self, role: str) -> dict[str, str]:
        return {
            **self.keys.environment,
            "DATABASE_URL": f"postgresql://{role}@{quote(str(self._link), safe='')}:{PORT}/{DATABASE}",
            "VAR_DIR": str(self.folder),
        }

    def kill_during(self, command: str, *words: str, when: Callable[[], bool], seconds: float) -> bool:
        """Run a command and kill it so many seconds after `when` holds. Return whether it was still running."""
        with self.commanding(command, *words) as process:
            while process.poll() is None and not when():
                time.sleep(0.02)
            try:
                process.communicate("", timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return True
            return False

    def start_web(self) -> None:
        self.start("web")
        self.wait_for_web()

    def remove(self) -> None:
        self._processes.stop()
        shutil.rmtree(self._link.parent, ignore_errors=True)

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name with labels."""
        header = {"Authorization": f"Bearer {self.keys.environment['METRICS_TOKEN']}"}
        lines = ask(f"{self.address}/metrics", headers=header).raw.decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}
