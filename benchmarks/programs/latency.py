"""One deletion on an idle cluster: from the answer to the POST until it is completed, in poll intervals.

The POST is signed and goes to the web server as the Procfile starts it. The row is looked at in the database every
two milliseconds. The floor is the interval at which a cluster looks for tasks: on average half of it is waiting.
"""

import random
import time
from statistics import quantiles

from django.conf import settings
from psycopg import Connection

from benchmarks import world
from benchmarks.calling import Line, Signer
from benchmarks.filing import NotCompleted
from benchmarks.filling import fill
from benchmarks.results import Result, Run
from benchmarks.running import cluster, web


def run(run: Run) -> None:
    samples = run.size(100, 15)
    poll = float(str(settings.Q_CLUSTER["poll"]))
    filled = fill("acme", chatters=samples + 1)
    world.settle()
    signer, waits = Signer(filled), []
    watch = world.plain_connection(autocommit=True)
    with watch, cluster() as workers, web() as (server, port), Line(port) as line:
        for value in filled.values:
            # At every phase of the poll alike.
            time.sleep(poll + random.uniform(0, poll))  # noqa: S311
            answer = line.call(signer.deletion(value))
            waits.append(_wait(watch, answer["request_id"]))
        peak = max(workers.peak_mib(), server.peak_mib())
    cuts = quantiles(waits[1:], n=100, method="inclusive")  # the first one warms the web server up
    for percent, target in ((50, (poll + 0.3) / poll), (99, 2 / poll)):
        run.add(
            Result(f"one deletion, p{percent}, in polls", samples, poll, cuts[percent - 1], target, peak_mib=peak)
        )


def _wait(watch: Connection, request_id: str) -> float:
    began = time.perf_counter()
    while time.perf_counter() - began < 60:
        row = watch.execute(
            "SELECT status = 'completed' FROM compliance_compliancerequest WHERE id = %s", [request_id]
        ).fetchone()
        if row and row[0]:
            return time.perf_counter() - began
        time.sleep(0.002)
    raise NotCompleted("A deletion was not completed within a minute.")
