"""`make drill`: lose the database, restore it in each way, and check that no erased chatter comes back.

Everything is real and its own: PostgreSQL servers, an S3 server, a web server and workers, below var/drill. The steps
are those of docs/operators/restore.md. Exit code 0 if every check holds; 1 with the first that does not.

    dump      pg_dump, and pg_restore into an empty server
    copy      pg_basebackup, a physical copy, which is started in the place of the lost server
    replica   an asynchronous streaming replica, promoted without the last transactions
    staging   a copy beside the live service, on the same bucket
"""

import argparse
import shutil
import sys
from pathlib import Path

from devservers.processes import EmbeddedError, exclusively
from scripts import own_copy
from scripts.demo_story import CheckFailed, require
from scripts.processes import exit_on_sigterm
from tests.drill import WAYS, ways
from tests.drill.scene import Log
from tests.operated import ROOT


def main() -> int:
    """Run the ways and return the exit code. Everything that was started is stopped in any case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=WAYS, help="One of the ways.")
    parser.add_argument("--folder", type=Path, default=ROOT / "var" / "drill", help="It is emptied (var/drill).")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    exit_on_sigterm()
    story = Log()
    try:
        foreign = own_copy.foreign_settings()
        require(not foreign, f".env sets {', '.join(foreign)}. Move .env away while the drill runs.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            # A second drill would empty the folder again.
            require(exclusively(lock.fileno()), "Another drill runs in this folder. Wait until it has ended.")
            shutil.rmtree(folder, ignore_errors=True)
            for name in [options.only] if options.only else WAYS:
                way = getattr(ways, name)
                story.title(name.title(), way.__doc__)
                story.restart_clock()
                with ways.drilling(folder / name, story) as drill:
                    way(drill)
    except (CheckFailed, TimeoutError, EmbeddedError) as error:
        story.error(str(error))
        sys.stderr.write(f"   Logs: below {folder}\n")
        return 1
    sys.stdout.write("\n Every line was checked.\n\n")
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
