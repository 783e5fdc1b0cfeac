"""Accepting signed deletions over HTTP, against a DRF view that authenticates alike and inserts one row.

Both are served by the web server as the Procfile starts it, with the same settings, middleware and database. A
few threads keep their connections. The two take turns in short rounds, each with a chatbot and a key of its own.
No workers run: what they do is measured elsewhere, and it would take the processor from both.
"""

from statistics import median
from time import process_time

from benchmarks import world
from benchmarks.calling import Signer, call_all
from benchmarks.filling import fill
from benchmarks.results import Result, Run
from benchmarks.running import web


def run(run: Run) -> None:
    requests = run.size(2_000, 200)
    seconds: dict[str, list[float]] = {"floor": [], "ours": []}
    clients: list[float] = []
    with web("benchmarks.floor_settings") as (_, floor_port), web() as (server, port):
        ports = {"floor": floor_port, "ours": port}
        for side, number in ports.items():
            call_all(number, _requests(f"{side}-warm-up", 100))
        for turn in range(run.rounds(7, 3)):
            # The first of the two alternates too.
            for side in sorted(ports, reverse=bool(turn % 2)):
                filed = _requests(f"{side}-{turn}", requests)
                world.settle()
                client = process_time()
                seconds[side].append(call_all(ports[side], filed))
                clients.append((process_time() - client) / seconds[side][-1])
            run.log(", ".join(f"{side} {requests / took[-1]:,.0f} a second" for side, took in seconds.items()))
        peak = server.peak_mib()
    floor, ours = median(seconds["floor"]), median(seconds["ours"])
    run.add(Result("requests accepted over HTTP", requests, floor, ours, 0.6, "over", peak))
    run.note(
        f"requests accepted a second: floor {requests / floor:,.0f}, ours {requests / ours:,.0f}; "
        f"the client that sent them took {median(clients):.0%} of a core"
    )


def _requests(slug: str, number: int) -> list[bytes]:
    signer = Signer(fill(slug, chatters=0))
    return [signer.deletion(f"member-{chatter}") for chatter in range(number)]
