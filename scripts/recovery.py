"""`make recovery`: measure how soon work continues after a fault. Prints the table of docs/reliability.md.

Everything runs at a site of its own under var/recovery: PostgreSQL, an S3 server, a web server with two processes,
and clusters of two workers each. In each round requests are filed, the fault is caused while they run, and mended at
once if it lasts. Another request is filed as soon as the service accepts it. Two times are measured from the fault:
until that one is completed, and until all earlier ones are. Half of the requests are exports, half are deletions; a
neighbour's conversation must survive.
"""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(ROOT))

from scripts.processes import exit_on_sigterm  # noqa: E402
from tests.faults.catalogue import FAULTS, Fault  # noqa: E402
from tests.faults.client import Client, until_known  # noqa: E402
from tests.faults.people import Person, about, invent, store, word  # noqa: E402
from tests.faults.site import Site  # noqa: E402

VAR_DIR = ROOT / "var" / "recovery"
SLUG = "recovery"
_CHANCE = random.Random()  # noqa: S311  words that nothing else has, no secrets
BEFORE = 20  # requests filed before the fault
LONGEST = 300.0
# A cluster that ended soon after its start waits before it restarts; this must not be measured.
BETWEEN_SECONDS = 11.0
# Those of which the service is to recover while nothing stays broken.
MEASURED = [
    "no fault",
    *(f"{kind} {how}" for kind in ("worker", "monitor", "pusher", "guard") for how in ("killed", "frozen")),
    "whole cluster killed, started again",
    "one web process killed",
    "web server killed, started again",
    "PostgreSQL restarted",
    "PostgreSQL killed, started again",
    "all its backends ended",
    "S3 killed, started again",
]

_OPEN = "SELECT id::text FROM compliance_compliancerequest WHERE id = ANY(%s::uuid[]) AND status <> 'completed'"
_COMPLETED = """
SELECT count(*), count(DISTINCT request_id) FROM chatbots_changelogentry WHERE event = 'request.completed'
"""
_REQUESTS = """
SELECT count(*), count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE attempts > 0)
  FROM compliance_compliancerequest
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="Rounds of each fault (5).")
    parser.add_argument("--clusters", type=int, default=1, help="Clusters of two workers (1).")
    parser.add_argument("--only", default="", help="Only faults whose name contains this.")
    options = parser.parse_args()
    exit_on_sigterm()
    names = [name for name in MEASURED if options.only in name]
    with Site(VAR_DIR, clusters=options.clusters) as site:
        client = site.create_chatbot(SLUG, timeout=30)
        neighbour = _person("neighbour")
        store(client, neighbour)
        time.sleep(BETWEEN_SECONDS)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for number in range(options.rounds):
            for name in names:
                times[name].append(_round(site, client, FAULTS[name]))
                print(f"{number + 1} {name}: {times[name][-1][0]:.1f} {times[name][-1][1]:.1f}", file=sys.stderr)
                time.sleep(BETWEEN_SECONDS)
        _print_times(times)
        return _report_losses(site, client, neighbour)


def _person(name: str) -> Person:
    return invent(_CHANCE, name, SLUG, messages=1)


def _round(site: Site, client: Client, fault: Fault) -> tuple[float, float]:
    people = [_person("somebody") for _ in range(BEFORE + 1)]
    store(client, *people)
    before = [_file(client, person, number) for number, person in enumerate(people[:-1])]
    began = time.monotonic()
    fault.cause(site, _CHANCE)
    fault.mend(site)
    after = _file(client, people[-1], 1)
    first = last = 0.0
    while not (first and last):
        if time.monotonic() - began > LONGEST:
            raise TimeoutError("The service did not recover.")
        open_ones = _open_ones(site, [*before, after])
        if open_ones is not None:
            now = time.monotonic() - began
            first = first or (now if after not in open_ones else 0.0)
            last = last or (now if not open_ones - {after} else 0.0)
        time.sleep(0.05)
    return first, last


def _file(client: Client, person: Person, number: int) -> str:
    """File a request, retrying until the service accepts it, and return its id."""
    path, key = "data-deletion" if number % 2 else "data-export", word(_CHANCE)
    answer = until_known(lambda: client.file(path, about(person), key=key), seconds=LONGEST)
    if answer.status != 200:
        raise RuntimeError(f"A filing was answered {answer.status}.")
    return str(answer.body["request_id"])


def _open_ones(site: Site, ids: list[str]) -> set[str] | None:
    """Return the requests that are not completed yet, or None while the database does not answer."""
    try:
        return {request for (request,) in site.sql(_OPEN, [ids])}
    except psycopg.Error:
        return None


def _print_times(times: dict[str, list[tuple[float, float]]]) -> None:
    print("| fault | the next request, median | worst | all of before, median | worst |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rounds in times.items():
        firsts, lasts = [first for first, _ in rounds], [last for _, last in rounds]
        cells = [statistics.median(firsts), max(firsts), statistics.median(lasts), max(lasts)]
        print(f"| {name} | " + " | ".join(f"{seconds:.1f}" for seconds in cells) + " |")


def _report_losses(site: Site, client: Client, neighbour: Person) -> int:
    """Print whether anything was lost or done twice, and return the exit code."""
    [(entries, completed)] = site.sql(_COMPLETED)
    [(requests, done, attempts)] = site.sql(_REQUESTS)
    [number] = neighbour.numbers.values()
    whole = client.get(f"conversations/{number}/messages").status == 200
    print(
        f"\n{requests} requests, {done} completed, {entries - completed} completed twice, {attempts} lost an attempt;"
        f" the neighbour's conversation is {'whole' if whole else 'NOT WHOLE'}."
    )
    return 0 if done == requests and entries == completed and whole else 1


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
