"""`make soak`: the whole service under traffic and one fault after another, and then a look at everything.

Clients send, file, withdraw, read and download over HTTP. A seeded driver kills, freezes, cuts and fills; each fault
is mended after a while. At the end nothing may be lost, done twice, mixed up, or left of anybody who was erased.
"""

import argparse
import json
import sys
from pathlib import Path

from scripts.processes import exit_on_sigterm
from tests.faults.catalogue import FAULTS
from tests.faults.soak import report
from tests.faults.soak.soak import Plan, Soak

ROOT = Path(__file__).resolve().parents[3]
_EXAMPLES = """\
It runs on servers of its own below var/soak, in two cores and some 2 GB of memory. Progress goes to stderr each 30
seconds, the report to stdout. docs/reliability.md says how to read it.

examples:
  make soak MINUTES=20 SEED=7
  make soak SECONDS=60                       the shortest that means something
  .venv/bin/python -m tests.faults.soak --minutes 5 --only S3 --json > soak.json

The seed decides what clients do and which faults come in which order; how they meet depends on the machine.

exit codes: 0 no violation; 1 violations, which the report names; 2 the command line is wrong
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make soak", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="how long there are traffic and faults (20)")
    parser.add_argument("--seconds", type=float, help="the same in seconds, in place of the minutes")
    parser.add_argument("--seed", type=int, default=1, help="what chance decides (1)")
    parser.add_argument("--clients", type=int, default=3, help="threads of clients, and one more (3)")
    parser.add_argument("--rate", type=float, default=1.5, help="things that each of them does in a second (1.5)")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="only faults whose name has this")
    parser.add_argument("--faults", action="store_true", help="list those of processes and servers, and end")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if options.faults:
        sys.stdout.write("\n".join(FAULTS) + "\n")
        return 0
    exit_on_sigterm()
    seconds = options.minutes * 60 if options.seconds is None else options.seconds
    plan = Plan(
        ROOT / "var" / "soak",
        seed=options.seed,
        seconds=seconds,
        clients=options.clients,
        rate=options.rate,
        only=tuple(options.only),
    )
    with Soak(plan) as soak:
        soak.run()
        soak.look()
        found = report.document(soak)
    sys.stdout.write((json.dumps(found) if options.json else "\n".join(report.lines(found))) + "\n")
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
