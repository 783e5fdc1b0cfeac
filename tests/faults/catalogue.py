"""FAULTS: what can happen to a site, how it is caused, and how it is mended, as an operator would.

The tests cause each while requests run. The soak causes one after another, and measures how soon all is as before.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from scripts.processes import children_of
from tests.faults.processes import kill_server
from tests.faults.site import Site

Cause = Callable[[Site, random.Random], None]
Mend = Callable[[Site], None]

# Promised from the mend of a fault until everything runs and all that was filed meanwhile is completed.
SOON = 15.0
# A storage that has not answered is left alone for half a minute, and for longer each time (ADR 0018).
_REST = 75.0
# For how long tasks are lost, doubled or delayed, and one that is delayed is.
_TASKS_SECONDS = 2.0
_LATE_SECONDS = 1.0
# A call of S3 has some 1,200 bytes one way and 500 the other: it takes seconds, and not its time limit.
_SLOW_BYTES, _SLOW_SECONDS = 400, 15.0
# Longer than the time limit of a call of S3 (`common/outbound.py`).
SILENT_SECONDS = 35.0
# Longer than a lease, and than PostgreSQL lets a transaction idle.
_FROZEN_SECONDS = 100.0
# Signatures are refused that are more than 5 minutes old (web server). Workers decide by the database's clock.
_WEB_SKEW, _CLUSTER_SKEW = "4m", "20m"


@dataclass(frozen=True)
class Fault:
    """What happens to a site.

    `cause` returns when it has happened. One that `lasts` stays so until `mend`; of the others the service recovers
    by itself, and `mend` does nothing. `recovers_within` are the seconds from the mend, or the cause, until the site
    is as before.
    """

    cause: Cause
    mend: Mend = lambda _: None
    lasts: bool = False
    # At least for so long, where it is to outlast a limit of the service.
    least: float = 0.0
    recovers_within: float = SOON
    # Why it is not possible at a site, or "".
    prevented: Callable[[Site], str] = lambda _: ""


def _any_cluster(site: Site, random: random.Random) -> str:
    return random.choice(site.clusters)


def _signal_one(kind: str, how: signal.Signals, site: Site, random: random.Random) -> None:
    os.kill(site.process(_any_cluster(site, random), kind), how)


def _kill_cluster(site: Site, random: random.Random) -> None:
    site.kill(_any_cluster(site, random))


def _stop_cluster(site: Site, random: random.Random) -> None:
    site.stop(_any_cluster(site, random))


def _freeze_cluster(site: Site, random: random.Random) -> None:
    site.freeze(site.pid(_any_cluster(site, random)))


def _freeze_parent(site: Site, random: random.Random) -> None:
    site.freeze(site.pid(_any_cluster(site, random)), alone=True)


def _kill_web(site: Site, _: random.Random) -> None:
    site.kill("web")


def _freeze_web(site: Site, _: random.Random) -> None:
    site.freeze(site.pid("web"))


def _kill_web_process(site: Site, random: random.Random) -> None:
    os.kill(random.choice(children_of(site.pid("web"))), signal.SIGKILL)


def start_programs(site: Site) -> None:
    """Start the programs that do not run, and return when the web server answers."""
    for name in site.programs:
        if not site.is_started(name):
            site.start(name)
    site.wait_for_web()


def _resume(site: Site) -> None:
    site.resume()


def _stop_postgres(site: Site, _: random.Random) -> None:
    site.database.stop()


def _kill_postgres(site: Site, _: random.Random) -> None:
    kill_server(site.database)


def _pause_postgres(site: Site, _: random.Random) -> None:
    site.freeze(site.database.pid())


def _pause_s3(site: Site, _: random.Random) -> None:
    site.freeze(site.s3.pid())


def _start_postgres(site: Site) -> None:
    site.start_server(site.database)


def _end_backends(site: Site, _: random.Random) -> None:
    site.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


def _kill_s3(site: Site, _: random.Random) -> None:
    kill_server(site.s3)


def _start_s3(site: Site) -> None:
    site.start_server(site.s3)


def _kill_everything(site: Site, _: random.Random) -> None:
    for name in site.programs:
        site.kill(name)
    kill_server(site.database)
    kill_server(site.s3)


def _start_everything(site: Site) -> None:
    site.start_server(site.s3)
    site.start_server(site.database)
    start_programs(site)


def _of_s3(how: str, site: Site, _: random.Random) -> None:
    getattr(site.s3_wire, how)()


def _slow_s3(site: Site, _: random.Random) -> None:
    site.s3_wire.slow(_SLOW_BYTES)


def _restore_s3(site: Site) -> None:
    site.s3_wire.restore()


def _of_database(how: str, site: Site, _: random.Random) -> None:
    getattr(site.database_wire, how)()


def _restore_database(site: Site) -> None:
    if site.database_wire:
        site.database_wire.restore()


def _without_wire(site: Site) -> str:
    return "" if site.database_wire else "The database has no wire."


def _change_tasks(statement: str, site: Site, _: random.Random) -> None:
    end = time.monotonic() + _TASKS_SECONDS
    while time.monotonic() < end:
        site.sql(statement)
        time.sleep(0.02)


def _delay_tasks(site: Site, _: random.Random) -> None:
    """Let nobody take the tasks that wait: because they wait, nobody inserts others."""
    end = time.monotonic() + _TASKS_SECONDS
    with site.database.connect() as connection:
        while time.monotonic() < end:
            with connection.transaction():
                found = connection.execute("SELECT id FROM django_q_ormq FOR UPDATE SKIP LOCKED").fetchall()
                time.sleep(_LATE_SECONDS if found else 0.02)


def _fill_disk(site: Site, _: random.Random) -> None:
    if site.disk:
        site.disk.fill()


def _free_disk(site: Site) -> None:
    if site.disk:
        site.disk.free()
    # It ends itself where it cannot write its log.
    with suppress(psycopg.Error):
        site.sql("CHECKPOINT")
        return
    _start_postgres(site)


def _without_disk(site: Site) -> str:
    return "" if site.disk else "A full disk is not possible here: this process may not mount a small one."


def fake_time() -> Path | None:
    """Return the library that gives a program another clock (Debian's libfaketime), if it is installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def _without_fake_time(_: Site) -> str:
    return "" if fake_time() else "Another clock is not possible here: apt-get install libfaketime."


def _skew(program: str, by: str, site: Site, random: random.Random) -> None:
    name = program if program == "web" else _any_cluster(site, random)
    faked = {
        "LD_PRELOAD": str(fake_time()),
        "FAKETIME": by,
        # Only what tells the date is wrong on a machine whose clock is.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    site.restart(name, **faked)
    site.skewed.add(name)
    if name == "web":
        site.wait_for_web()


def _right_clocks(site: Site) -> None:
    while site.skewed:
        site.restart(site.skewed.pop())
    site.wait_for_web()


def mend_everything(site: Site) -> None:
    """Mend whatever was caused, also by somebody who then failed."""
    site.resume()
    site.s3_wire.restore()
    _restore_database(site)
    if site.disk:
        site.disk.free()
    _start_everything(site)
    _right_clocks(site)


_DOUBLE_TASKS = """
INSERT INTO django_q_ormq (key, payload, lock) SELECT key, payload, lock FROM django_q_ormq LIMIT 20
"""

FAULTS: dict[str, Fault] = {
    "no fault": Fault(lambda *_: None),
    **{
        f"{kind} {word}": Fault(partial(_signal_one, kind, how))
        for kind in ("worker", "monitor", "pusher", "guard")
        for word, how in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP))
    },
    "whole cluster killed, started again": Fault(_kill_cluster, start_programs, lasts=True),
    "whole cluster frozen, continued": Fault(_freeze_cluster, _resume, lasts=True),
    "whole cluster frozen for longer than its lease, continued": Fault(
        _freeze_cluster, _resume, lasts=True, least=_FROZEN_SECONDS
    ),
    "parent of a cluster frozen, continued": Fault(_freeze_parent, _resume, lasts=True),
    "cluster stopped, started again": Fault(_stop_cluster, start_programs, lasts=True),
    "one web process killed": Fault(_kill_web_process),
    "web server killed, started again": Fault(_kill_web, start_programs, lasts=True),
    "web server frozen, continued": Fault(_freeze_web, _resume, lasts=True),
    "PostgreSQL restarted": Fault(_stop_postgres, _start_postgres, lasts=True),
    "PostgreSQL killed, started again": Fault(_kill_postgres, _start_postgres, lasts=True),
    "PostgreSQL paused, continued": Fault(_pause_postgres, _resume, lasts=True),
    "all its backends ended": Fault(_end_backends),
    "its connections cut": Fault(partial(_of_database, "cut"), prevented=_without_wire),
    "its connections refused": Fault(
        partial(_of_database, "refuse"), _restore_database, lasts=True, prevented=_without_wire
    ),
    "its connections silent": Fault(
        partial(_of_database, "hang"), _restore_database, lasts=True, prevented=_without_wire
    ),
    "its answers lost": Fault(
        partial(_of_database, "lose_next_answers"), _restore_database, lasts=True, prevented=_without_wire
    ),
    "its disk full": Fault(_fill_disk, _free_disk, lasts=True, prevented=_without_disk),
    "S3 killed, started again": Fault(_kill_s3, _start_s3, lasts=True, recovers_within=_REST),
    "S3 paused, continued": Fault(_pause_s3, _resume, lasts=True, recovers_within=_REST),
    "S3 refuses connections": Fault(partial(_of_s3, "refuse"), _restore_s3, lasts=True, recovers_within=_REST),
    "S3's connections cut": Fault(partial(_of_s3, "cut")),
    "S3 slow": Fault(_slow_s3, _restore_s3, lasts=True, least=_SLOW_SECONDS, recovers_within=_REST),
    "S3 silent": Fault(partial(_of_s3, "hang"), _restore_s3, lasts=True, least=SILENT_SECONDS, recovers_within=_REST),
    "S3's answers lost": Fault(partial(_of_s3, "lose_answers"), _restore_s3, lasts=True, recovers_within=_REST),
    "tasks lost": Fault(partial(_change_tasks, "DELETE FROM django_q_ormq")),
    "tasks doubled": Fault(partial(_change_tasks, _DOUBLE_TASKS)),
    "tasks late": Fault(_delay_tasks),
    "everything killed, started again": Fault(
        _kill_everything, _start_everything, lasts=True, recovers_within=2 * SOON
    ),
    **{
        f"{what} {'ahead' if sign == '+' else 'behind'}": Fault(
            partial(_skew, program, sign + by), _right_clocks, lasts=True, prevented=_without_fake_time
        )
        for what, program, by in (
            ("clock of a cluster", "cluster", _CLUSTER_SKEW),
            ("clock of the web server", "web", _WEB_SKEW),
        )
        for sign in "+-"
    },
}
