"""`make recovery`: measure how soon work continues after a fault. Prints the table of docs/reliability.md.

Everything runs in a copy of its own under var/recovery: PostgreSQL, an S3 server, a web server with two processes,
and clusters of two workers each. In each round requests are filed, the fault is caused while they run, and another
request is filed as soon as the service accepts it. Two times are measured: until that one is completed, and until all
earlier ones are. Half of the requests are exports, half are deletions; a neighbour's conversation must survive.
"""

import argparse
import io
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

ROOT = Path(__file__).resolve().parent.parent
VAR_DIR = ROOT / "var" / "recovery"

sys.path.insert(0, str(ROOT))

from scripts import own_copy  # noqa: E402

ENVIRONMENT = own_copy.begin(VAR_DIR)

from django.core.management import call_command  # noqa: E402
from django.db import Error, connection  # noqa: E402

from scripts.demo_client import Client  # noqa: E402
from scripts.processes import Processes, children_of, exit_on_sigterm  # noqa: E402

SLUG, UCI = "recovery", "member_id"
BEFORE = 20  # requests filed before the fault
LONGEST = 300.0
# A cluster that ended soon after its start waits before it restarts; this must not be measured.
BETWEEN_SECONDS = 11.0

_OPEN = "SELECT id FROM compliance_compliancerequest WHERE id = ANY(%s::uuid[]) AND status <> 'completed'"


@dataclass
class Bench:
    """The service that faults are caused in."""

    processes: Processes
    client: Client
    clusters: list[str]
    web_bind: str
    argv: dict[str, list[str]] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)

    def start(self, name: str) -> None:
        log = VAR_DIR / f"{name}.log"
        environment = ENVIRONMENT | ({"WEB_BIND": self.web_bind} if name == "web" else {})
        self.pids[name] = self.processes.start(name, self.argv[name], environment, cwd=ROOT, log=log).pid

    def restart(self, name: str) -> None:
        """Restart a program like a process manager."""
        self.processes.kill(name)
        self.start(name)

    def guard(self) -> int:
        return children_of(self.pids[self.clusters[0]])[0]

    def process(self, kind: str) -> int:
        """Return a process of the first cluster, before any of its workers was replaced."""
        return dict(zip(("worker", "other", "monitor", "pusher"), children_of(self.guard()), strict=True))[kind]


def _signal(how: signal.Signals, which: Callable[[Bench], int]) -> Callable[[Bench], None]:
    return lambda bench: os.kill(which(bench), how)


def _of(kind: str) -> Callable[[Bench], int]:
    return lambda bench: bench.guard() if kind == "guard" else bench.process(kind)


def _kill_cluster(bench: Bench) -> None:
    bench.restart(bench.clusters[0])


def _kill_web(bench: Bench) -> None:
    bench.restart("web")


def _kill_web_process(bench: Bench) -> None:
    os.kill(children_of(bench.pids["web"])[0], signal.SIGKILL)


def _server(name: str) -> Any:
    from devservers import control  # noqa: PLC0415  after the settings

    [server] = [one for one in control._instance._servers if one.name == name]  # type: ignore[union-attr]
    return server


def _kill_server(server: Any) -> None:
    pid = int(server._pid_file.read_text())
    victims = [pid, *children_of(pid)]
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    while server.alive():
        time.sleep(0.02)


def _start_server(server: Any) -> None:
    server.begin(alone=True)
    server.wait()


def _restart_postgres(_: Bench) -> None:
    connection.close()
    server = _server("PostgreSQL")
    server.stop()
    _start_server(server)


def _kill_postgres(_: Bench) -> None:
    connection.close()
    server = _server("PostgreSQL")
    _kill_server(server)
    _start_server(server)


def _end_backends(_: Bench) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )


def _kill_s3(_: Bench) -> None:
    server = _server("S3 server")
    _kill_server(server)
    _start_server(server)


FAULTS: dict[str, Callable[[Bench], None]] = {
    "no fault": lambda _: None,
    **{
        f"{kind} {word}": _signal(how, _of(kind))
        for kind in ("worker", "monitor", "pusher", "guard")
        for word, how in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP))
    },
    "whole cluster killed, started again": _kill_cluster,
    "one web process killed": _kill_web_process,
    "web server killed, started again": _kill_web,
    "PostgreSQL restarted": _restart_postgres,
    "PostgreSQL killed, started again": _kill_postgres,
    "all its backends ended": _end_backends,
    "S3 killed, started again": _kill_s3,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="Rounds of each fault (5).")
    parser.add_argument("--clusters", type=int, default=1, help="Clusters of two workers (1).")
    parser.add_argument("--only", default="", help="Only faults whose name contains this.")
    options = parser.parse_args()
    exit_on_sigterm()
    faults = {name: fault for name, fault in FAULTS.items() if options.only in name}
    with own_copy.servers(VAR_DIR), Processes() as processes:
        bench = _set_up(processes, options.clusters)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in faults}
        for number in range(options.rounds):
            for name, fault in faults.items():
                times[name].append(_round(bench, fault))
                print(f"{number + 1} {name}: {times[name][-1][0]:.1f} {times[name][-1][1]:.1f}", file=sys.stderr)
                time.sleep(BETWEEN_SECONDS)
        _print_times(times)
        return _report_losses()


def _set_up(processes: Processes, clusters: int) -> Bench:
    call_command("migrate", verbosity=0)
    address = own_copy.start_web_and_worker(processes, ENVIRONMENT, VAR_DIR)
    words = ["--name", "Recovery", "--timezone", "UTC", "--variable", f"custom:{UCI}", "--uci", UCI]
    _manage("create_chatbot", SLUG, *words, "--enable-compliance", "--hosted-bucket")
    signing = _manage("create_api_key", SLUG, "--type", "signing", "--label", "recovery")
    scopes = ("--scope", "requests:read", "--scope", "conversations:write")
    token = _manage("create_api_key", SLUG, "--type", "token", "--label", "recovery", *scopes)
    client = Client(address, SLUG, secret=signing["secret"], token=token["secret"])
    bench = Bench(processes, client, ["worker"], urlsplit(address).netloc)
    for name in ("web", "worker"):
        process = processes._running[name]
        bench.argv[name], bench.pids[name] = list(map(str, process.args)), process.pid  # type: ignore[arg-type]
    for number in range(1, clusters):
        name = f"worker-{number}"
        bench.clusters.append(name)
        bench.argv[name] = bench.argv["worker"]
        bench.start(name)
    _send(bench, ["neighbour"])
    time.sleep(BETWEEN_SECONDS)
    return bench


def _round(bench: Bench, fault: Callable[[Bench], None]) -> tuple[float, float]:
    people = [str(uuid4()) for _ in range(BEFORE + 1)]
    _send(bench, people)
    before = [_file(bench, person, number) for number, person in enumerate(people[:-1])]
    began = time.monotonic()
    fault(bench)
    after = _file(bench, people[-1], 1)
    first = last = 0.0
    while not (first and last):
        if time.monotonic() - began > LONGEST:
            raise TimeoutError("The service did not recover.")
        open_ones = _open_ones([*before, after])
        if open_ones is not None:
            now = time.monotonic() - began
            first = first or (now if after not in open_ones else 0.0)
            last = last or (now if not open_ones - {after} else 0.0)
        time.sleep(0.05)
    return first, last


def _send(bench: Bench, people: list[str]) -> None:
    at = "2026-01-01T09:00:00Z"
    documents = [
        {
            "id": f"c-{person}",
            "channel": "widget",
            "started_at": at,
            "custom_variables": {UCI: person},
            "messages": [{"id": "m", "sender": "user", "kind": "text", "text": "Hello.", "sent_at": at}],
        }
        for person in people
    ]
    answer = bench.client.post("conversations", documents)
    if answer.status != 200:
        raise RuntimeError(f"Intake returned {answer.status}.")


def _file(bench: Bench, person: str, number: int) -> str:
    """File a request, retrying until the service accepts it, and return its id."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        with suppress(OSError):
            body = {"unique_chatter_identifier_key": UCI, "unique_chatter_identifier_value": person}
            answer = bench.client.file("data-deletion" if number % 2 else "data-export", body)
            if answer.status == 200:
                return str(answer.body["request_id"])
        time.sleep(0.1)
    raise TimeoutError("The service accepts no request.")


def _open_ones(ids: list[str]) -> set[str] | None:
    """Return the requests that are not completed yet, or None while the database does not answer."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_OPEN, [ids])
            return {str(number) for (number,) in cursor.fetchall()}
    except Error:
        connection.close()
        return None


def _print_times(times: dict[str, list[tuple[float, float]]]) -> None:
    print("| fault | the next request, median | worst | all of before, median | worst |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rounds in times.items():
        firsts, lasts = [first for first, _ in rounds], [last for _, last in rounds]
        cells = [statistics.median(firsts), max(firsts), statistics.median(lasts), max(lasts)]
        print(f"| {name} | " + " | ".join(f"{seconds:.1f}" for seconds in cells) + " |")


def _report_losses() -> int:
    """Print whether anything was lost or done twice, and return the exit code."""
    from chatbots.models import ChangeLogEntry  # noqa: PLC0415  after the settings
    from compliance.models import ComplianceRequest  # noqa: PLC0415
    from conversations.models import Conversation  # noqa: PLC0415

    requests = ComplianceRequest.objects.count()
    completed = ChangeLogEntry.objects.filter(event="request.completed")
    doubled = completed.count() - completed.values("request_id").distinct().count()
    whole = Conversation.objects.filter(identity__value="neighbour", deleted_at=None).count() == 1
    attempts = ComplianceRequest.objects.filter(attempts__gt=0).count()
    done = ComplianceRequest.objects.filter(status="completed").count()
    print(
        f"\n{requests} requests, {done} completed, {doubled} completed twice, {attempts} lost an attempt;"
        f" the neighbour's conversation is {'whole' if whole else 'NOT WHOLE'}."
    )
    return 0 if done == requests and not doubled and whole else 1


def _manage(command: str, *words: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command(command, *words, json=True, stdout=out)
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
