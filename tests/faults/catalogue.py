"""FAULTS: the faults of a site, how to cause them, and how to repair them, as an operator would.

The tests cause each while requests run. The soak causes one after another, and measures the time until the site has
recovered.
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

Cause = Callable[[Site, random.Random], object]
Mend = Callable[[Site], object]

# Promised from the mend of a fault until everything runs and all that was filed meanwhile is completed.
SOON = 15.0
# A storage that has not answered is not called for half a minute, and for longer each time (ADR 0018).
_REST = 75.0
# How long tasks are lost, doubled or delayed, and how long a delayed task waits.
_TASKS_SECONDS = 2.0
_LATE_SECONDS = 1.0
# A call of S3 has some 1,200 bytes one way and 500 the other: it takes seconds, and not its time limit.
_SLOW_BYTES, _SLOW_SECONDS = 400, 15.0
# Longer than the time limit of a call of S3 (`common/outbound.py`).
SILENT_SECONDS = 35.0
# Longer than a lease, and than PostgreSQL lets a transaction idle.
_FROZEN_SECONDS = 100.0


def _nothing(_: Site) -> None:
    """Leave it to the service to recover."""


@dataclass(frozen=True)
class Fault:
    """A fault of a site.

    `cause` returns when it has happened. It lasts until `mend`, if there is one. `recovers_within` are the seconds
    from the mend, or the cause, until the site is as before.
    """

    cause: Cause
    mend: Mend = _nothing
    # The least duration of a fault that must outlast a limit of the service.
    least: float = 0.0
    recovers_within: float = SOON
    # The reason why it is not possible at a site, or "".
    prevented: Callable[[Site], str] = lambda _: ""
    # Codes of refusals that are right while it lasts.
    excuses: frozenset[str] = frozenset()

    @property
    def lasts(self) -> bool:
        return self.mend is not _nothing


def _to_cluster(do: Callable[[Site, str], object]) -> Cause:
    return lambda site, random: do(site, random.choice(site.clusters))


def _signal_one(kind: str, how: signal.Signals) -> Cause:
    return _to_cluster(lambda site, name: os.kill(site.process(name, kind), how))


def _freeze(site: Site, name: str) -> None:
    site.freeze(site.pid(name))


def start_programs(site: Site) -> None:
    """Start the programs that do not run, and return when the web server answers."""
    for name in site.programs:
        if not site.is_started(name):
            site.start(name)
    site.wait_for_web()


def _kill_everything(site: Site, _: random.Random) -> None:
    for name in site.programs:
        site.kill(name)
    kill_server(site.database)
    kill_server(site.s3)


def _start_everything(site: Site) -> None:
    site.start_server(site.s3)
    site.start_server(site.database)
    start_programs(site)


def _change_tasks(statement: str) -> Cause:
    def change(site: Site, _: random.Random) -> None:
        end = time.monotonic() + _TASKS_SECONDS
        while time.monotonic() < end:
            site.sql(statement)
            time.sleep(0.02)

    return change


def _delay_tasks(site: Site, _: random.Random) -> None:
    """Prevent that waiting tasks are taken: because they wait, no others are inserted."""
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
    # It ends itself if it cannot write its log.
    with suppress(psycopg.Error):
        site.sql("CHECKPOINT")
        return
    site.start_server(site.database)


def fake_time() -> Path | None:
    """Return the library that gives a program another clock (Debian's libfaketime), if it is installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def _skew(program: str, by: str, site: Site, random: random.Random) -> None:
    name = program if program == "web" else random.choice(site.clusters)
    # On a machine with a wrong clock only the date is wrong.
    rest = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    site.restart(name, LD_PRELOAD=str(fake_time()), FAKETIME=by, **rest)
    site.skewed.add(name)
    site.wait_for_web()


def _right_clocks(site: Site) -> None:
    while site.skewed:
        site.restart(site.skewed.pop())
    site.wait_for_web()


def mend_everything(site: Site) -> None:
    """Repair all faults, also those of a test that then failed."""
    site.resume()
    site.s3_wire.restore()
    site.database_wire.restore()
    if site.disk:
        site.disk.free()
    _start_everything(site)
    _right_clocks(site)


_END_BACKENDS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_DOUBLE_TASKS = """
INSERT INTO django_q_ormq (key, payload, lock) SELECT key, payload, lock FROM django_q_ormq LIMIT 20
"""


def _of_postgres(
    cause: Callable[[Site], object], mend: Mend = lambda site: site.start_server(site.database)
) -> Fault:
    return Fault(lambda site, _: cause(site), mend)


def _of_s3(
    cause: Callable[[Site], object], mend: Mend = lambda site: site.s3_wire.restore(), least: float = 0.0
) -> Fault:
    return Fault(lambda site, _: cause(site), mend, least=least, recovers_within=_REST)


def _of_disk(site: Site) -> str:
    return "" if site.disk else "A full disk is not possible here: this process may not mount a small one."


def _of_clock(program: str, by: str, *excuses: str) -> Fault:
    missing = "" if fake_time() else "Another clock is not possible here: apt-get install libfaketime."
    cause = partial(_skew, program, by)
    return Fault(cause, _right_clocks, prevented=lambda _: missing, excuses=frozenset(excuses))


def _mend_wire(site: Site) -> None:
    site.database_wire.restore()


FAULTS: dict[str, Fault] = {
    "no fault": Fault(lambda *_: None),
    **{
        f"{kind} {word}": Fault(_signal_one(kind, how))
        for kind in ("worker", "monitor", "pusher", "guard")
        for word, how in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP))
    },
    "whole cluster killed, started again": Fault(_to_cluster(Site.kill), start_programs),
    "whole cluster frozen, continued": Fault(_to_cluster(_freeze), Site.resume),
    "whole cluster frozen for longer than its lease, continued": Fault(
        _to_cluster(_freeze), Site.resume, least=_FROZEN_SECONDS
    ),
    "parent of a cluster frozen, continued": Fault(
        _to_cluster(lambda site, name: site.freeze(site.pid(name), alone=True)), Site.resume
    ),
    "cluster stopped, started again": Fault(_to_cluster(Site.stop), start_programs),
    "one web process killed": Fault(
        lambda site, random: os.kill(random.choice(children_of(site.pid("web"))), signal.SIGKILL)
    ),
    "web server killed, started again": Fault(lambda site, _: site.kill("web"), start_programs),
    "web server frozen, continued": Fault(lambda site, _: _freeze(site, "web"), Site.resume),
    "PostgreSQL restarted": _of_postgres(lambda site: site.database.stop()),
    "PostgreSQL killed, started again": _of_postgres(lambda site: kill_server(site.database)),
    "PostgreSQL paused, continued": _of_postgres(lambda site: site.freeze(site.database.pid()), Site.resume),
    "all its backends ended": _of_postgres(lambda site: site.sql(_END_BACKENDS), _nothing),
    "its connections cut": _of_postgres(lambda site: site.database_wire.cut(), _nothing),
    "its connections refused": _of_postgres(lambda site: site.database_wire.refuse(), _mend_wire),
    "its connections silent": _of_postgres(lambda site: site.database_wire.hang(), _mend_wire),
    "its answers lost": _of_postgres(lambda site: site.database_wire.lose_next_answers(), _mend_wire),
    "its disk full": Fault(_fill_disk, _free_disk, prevented=_of_disk),
    "S3 killed, started again": _of_s3(lambda site: kill_server(site.s3), lambda site: site.start_server(site.s3)),
    "S3 paused, continued": _of_s3(lambda site: site.freeze(site.s3.pid()), Site.resume),
    "S3 refuses connections": _of_s3(lambda site: site.s3_wire.refuse()),
    "S3's connections cut": Fault(lambda site, _: site.s3_wire.cut()),
    "S3 slow": _of_s3(lambda site: site.s3_wire.slow(_SLOW_BYTES), least=_SLOW_SECONDS),
    "S3 silent": _of_s3(lambda site: site.s3_wire.hang(), least=SILENT_SECONDS),
    "S3's answers lost": _of_s3(lambda site: site.s3_wire.lose_answers()),
    "tasks lost": Fault(_change_tasks("DELETE FROM django_q_ormq")),
    "tasks doubled": Fault(_change_tasks(_DOUBLE_TASKS)),
    "tasks late": Fault(_delay_tasks),
    "everything killed, started again": Fault(_kill_everything, _start_everything, recovers_within=2 * SOON),
    "clock of a cluster ahead": _of_clock("cluster", "+20m"),
    "clock of a cluster behind": _of_clock("cluster", "-20m"),
    # Signatures are refused that are more than 5 minutes old (web server). Workers decide by the database's clock.
    "clock of the web server ahead": _of_clock("web", "+4m", "stale_timestamp", "invalid_identity_token"),
    "clock of the web server behind": _of_clock("web", "-4m", "stale_timestamp", "invalid_identity_token"),
}
