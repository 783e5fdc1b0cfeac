"""`make soak`: the whole service under traffic and one fault after another, and then a check of everything.

Clients send, file, withdraw, read and download over HTTP. A seeded driver kills, freezes, cuts and fills; each fault
is mended after a while. At the end no data may be lost, doubled or mixed up, and none may be left of erased chatters.

It runs on servers of its own below var/soak, in two cores and some 2 GB of memory. Progress goes to stderr each 30
seconds, the report, a JSON document, to stdout. docs/explanation/reliability.md explains it.

    make soak MINUTES=20 SEED=7
    make soak SECONDS=60                       the shortest that means something
    make soak MINUTES=5 ARGS="--only S3"

The seed decides what clients do and which faults come in which order; how they meet depends on the machine. Exit code
1 means that there are violations.
"""

import argparse
import json
import sys

from scripts.processes import exit_on_sigterm
from tests.faults.catalogue import FAULTS
from tests.faults.soak.soak import Soak
from tests.operated import ROOT


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="how long there are traffic and faults (20)")
    parser.add_argument("--seconds", type=float, help="the same in seconds, in place of the minutes")
    parser.add_argument("--seed", type=int, default=1, help="what chance decides (1)")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="only faults whose name has this")
    parser.add_argument("--faults", action="store_true", help="list those of processes and servers, and end")
    options = parser.parse_args()
    if options.faults:
        sys.stdout.write("\n".join(FAULTS) + "\n")
        return 0
    exit_on_sigterm()
    seconds = options.minutes * 60 if options.seconds is None else options.seconds
    with Soak(ROOT / "var" / "soak", options.seed, seconds, only=options.only) as soak:
        soak.run()
        soak.look()
        found = soak.report()
    sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
