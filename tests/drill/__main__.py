"""`make drill`: lose the database, restore it in three ways, and check that nobody who was erased comes back.

Everything is real and its own: PostgreSQL servers, an S3 server, a web server and workers, below var/drill. The
chapters are those of the runbook in docs/operating.md. Exit code 0 if every check holds; 1 with the first that does
not.

    dump      pg_dump, and pg_restore into an empty server
    copy      pg_basebackup, a physical copy, which is started in the place of the lost server
    replica   an asynchronous streaming replica, promoted without the last transactions
    staging   a copy beside the live service, on the same bucket
"""

import argparse
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devservers.processes import EmbeddedError, exclusively
from scripts import own_copy
from scripts.demo_story import Wrong, require
from scripts.processes import exit_on_sigterm
from tests.drill import WAYS, ways
from tests.drill.site import Log
from tests.operated import ROOT, Keys, new_keys

FOLDER = ROOT / "var" / "drill"


def main() -> int:
    """Run the ways and return the exit code. Everything that was started is stopped in any case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=WAYS, help="One of the ways.")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="Where everything runs; it is emptied (var/drill)."
    )
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    exit_on_sigterm()
    story = Log()
    try:
        foreign = own_copy.foreign_settings()
        require(not foreign, f".env sets {', '.join(foreign)}. Move .env away while the drill runs.")
        with _alone(folder):
            keys = new_keys(folder)
            for name in WAYS:
                if options.only in {None, name}:
                    _run(name, folder, keys, story)
    except (Wrong, TimeoutError, EmbeddedError) as error:
        story.wrong(str(error))
    except Exception as error:
        (folder / "drill.log").write_text(traceback.format_exc())
        story.wrong(f"The drill itself broke with {type(error).__name__}: see drill.log.")
    else:
        if figures := story.figures():
            story.chapter("How long it took, in seconds")
            story.show(*figures)
        sys.stdout.write("\n Every line was checked.\n\n")
        return 0
    sys.stderr.write(f"   Logs: below {folder}\n")
    return 1


def _run(name: str, folder: Path, keys: Keys, story: Log) -> None:
    way = getattr(ways, name)
    story.restart_clock(name)
    story.title(name.title(), (way.__doc__ or "").strip())
    with ways.drilling(folder / name, keys, story) as drill:
        way(drill)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Empty the folder, of which only logs stay afterwards. Keep a second drill out: it would empty it again."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        require(exclusively(lock.fileno()), "Another drill runs in this folder. Wait until it has ended.")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
