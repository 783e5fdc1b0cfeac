"""Measure how fast the work is done, each figure as a ratio to a floor: the same effect with nothing around it,
measured in the same run on the same data. Real PostgreSQL, S3 server, workers and web server, in a copy of its
own below var/bench that is removed afterwards.
"""

import argparse
import ast
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.place import ROOT, VAR_DIR, Busy, exclusive_folder
from benchmarks.programs import NAMES
from benchmarks.results import Run, machine, table, write
from devservers.control import EmbeddedError
from scripts.processes import exit_on_sigterm

EXAMPLES = """\
examples:
  python -m benchmarks                          all, at full size: the better part of an hour
  python -m benchmarks --quick                  all, small, in a minute or two: do they run?
  python -m benchmarks --only deletions latency
  make bench ARGS='--only deletions --rounds 5'

The table goes to stdout, progress to stderr, and benchmarks/results.json has the rows for programs. Only the
ratios travel from one machine to another. docs/explanation/benchmarks.md describes each program and its floor.

exit codes: 0 all ran, whatever their figures; 1 one failed, or the servers did not start; 130 interrupted
"""


def main() -> int:
    """Run what the command line asks for and return the exit code."""
    options = _parser().parse_args()
    if options.list:
        for name in NAMES:
            print(f"{name:15}{describe(name)}")
        return 0
    run = Run(quick=options.quick, wanted_rounds=options.rounds)
    exit_on_sigterm()
    try:
        with exclusive_folder():
            header, failed = _run_all(run, options.only or NAMES)
    except Busy:
        print("The benchmarks run already in this copy: wait for them, or set VAR_DIR.", file=sys.stderr)
        return 1
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    write(options.output, run.results)
    print("\n".join([*header, "", table(run.results), "", *(f"- {note}" for note in run.notes)]))
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def _run_all(run: Run, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Run the programs; return lines on the machine, and the names of those that failed."""
    from benchmarks import world  # noqa: PLC0415  it reads the settings, which makes files

    with world.servers():
        header = machine()
        failed = run_each(run, names, before=world.empty)
    return header, failed


def run_each(run: Run, names: Sequence[str], *, before: Callable[[], None]) -> list[str]:
    """Run each program after `before`; return the names of those that failed. A failure does not stop the others."""
    failed = []
    for name in names:
        print(f"{name}: {describe(name)}", file=sys.stderr, flush=True)
        try:
            before()
            importlib.import_module(f"benchmarks.programs.{name}").run(run)
        except Exception:  # any error
            traceback.print_exc()
            _show_logs()
            failed.append(name)
    return failed


def _show_logs() -> None:
    """Print the last lines of the logs of workers and web servers: the logs are removed at the end."""
    for log in sorted(VAR_DIR.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-20:]
        print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)


def describe(name: str) -> str:
    """Return the first line of a program's docstring, without importing it."""
    source = (Path(__file__).parent / "programs" / f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a number from 1 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: figures say little")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=NAMES, help="only these: see --list")
    parser.add_argument("--list", action="store_true", help="name the programs and what they measure, and stop")
    parser.add_argument("--rounds", type=_rounds, metavar="N", help="rounds of each program, not its own number")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        default=ROOT / "benchmarks" / "results.json",
        help="where the rows go as JSON (benchmarks/results.json)",
    )
    return parser


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
