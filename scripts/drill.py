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
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "var" / "drill"

sys.path.insert(0, str(ROOT))

from devservers.processes import EmbeddedError, exclusively  # noqa: E402
from scripts import own_copy  # noqa: E402
from scripts.demo_story import Wrong, require  # noqa: E402
from scripts.drill_site import Keys, Log, bucket, new_keys  # noqa: E402
from scripts.processes import exit_on_sigterm  # noqa: E402

WAYS = ("dump", "copy", "replica", "staging")


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
            keys = _set_up_django(folder)
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
        print("\n Every line was checked.\n")
        return 0
    print(f"   Logs: below {folder}", file=sys.stderr)
    return 1


def _run(name: str, folder: Path, keys: Keys, story: Log) -> None:
    from scripts import drill_ways  # noqa: PLC0415  needs django.setup()

    way = getattr(drill_ways, name)
    story.begin(name)
    story.title(name.title(), (way.__doc__ or "").strip())
    with bucket(folder, keys):
        drill = drill_ways.Drill(folder / name, keys, story)
        try:
            drill.begin()
            way(drill)
        finally:
            drill.close()


def _set_up_django(folder: Path) -> Keys:
    """Give this process the settings of a service without a database, and return the keys of those that it starts."""
    import django  # noqa: PLC0415  after the settings

    keys = new_keys(folder)
    for variable in own_copy.foreign_variables():
        del os.environ[variable]
    os.environ |= keys.environment
    os.environ |= {"DJANGO_SETTINGS_MODULE": "config.settings", "DATABASE_URL": "postgresql://none@localhost:1/none"}
    django.setup()
    return keys


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Empty the folder, of which only logs stay afterwards. Keep a second drill out: it would empty it again."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        require(exclusively(lock.fileno()), "Another drill runs in this folder. Wait until it has ended.")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield
        shutil.rmtree(folder / "s3", ignore_errors=True)


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
