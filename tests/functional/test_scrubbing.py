"""The runbook docs/operators/scrub-freed-pages.md, run as written, leaves no value in PostgreSQL's files."""

import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from compliance import worker
from compliance.inventory import STORES, Disposition
from devservers import control
from devservers.postgres import DATABASE, postgres_program
from tests import factories, under_roles
from tests.functional.company import NOON, Company, document
from tests.functional.redacting import redact
from tests.functional.support import ROOT, dump

RUNBOOK = (ROOT / "docs/operators/scrub-freed-pages.md").read_text()
HOLDERS, STOP_RECYCLING, REWRITE, REMOVE_LOG, HELD_LOG, RECYCLE_AGAIN = re.findall(
    r"^```sql\n(.*?)^```", RUNBOOK, re.MULTILINE | re.DOTALL
)
HELD = re.compile(r"^DETAIL:  (\d+) dead row versions cannot be removed yet", re.MULTILINE)


def test_the_runbook_names_each_table_that_held_personal_data() -> None:
    [listed] = re.findall(r"^VACUUM \(FULL, ANALYZE, VERBOSE\)\s(.*?);", REWRITE, re.MULTILINE | re.DOTALL)
    held = [store.table for store in STORES if {one for one, _ in store.fields.values()} != {Disposition.KEPT}]
    assert re.split(r",\s+", listed.strip()) == sorted(held), "See docs/operators/scrub-freed-pages.md, step 3."


class Planted:
    """A chatter whose values occur nowhere else, not even in part."""

    def __init__(self, name: str) -> None:
        self._mark = f"zqj{name}"
        self._pattern = re.compile(rf"{self._mark}[0-9a-f]{{12}}".encode())
        self._kinds: dict[str, str] = {}
        self.uci, self.plan = self._plant("uci"), self._plant("plan")

    def _plant(self, kind: str) -> str:
        value = self._mark + secrets.token_hex(6)
        self._kinds[value] = kind
        return value

    def documents(self, *, number: int = 20, **fields: Any) -> Iterator[dict[str, Any]]:
        # Too long for a page, and cannot be compressed.
        long_text = " ".join(f"{secrets.token_urlsafe(750)} {self._plant('long text')}" for _ in range(20))
        texts = enumerate([self._plant("text"), long_text])
        at = NOON.isoformat()
        fields |= {
            "messages": [
                {"id": f"m{place}", "sender": "user", "kind": "text", "text": text, "sent_at": at}
                for place, text in texts
            ],
            "user_name": self._plant("name"),
            "csat": {"comment": self._plant("comment")},
        }
        for _ in range(number):
            yield document(self._plant("id"), self.uci, **fields)

    def found_in(self, path: Path) -> set[str]:
        """Return the kinds of values that a file, or any file below a folder, contains."""
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
        return {self._kinds[value.decode()] for each in files for value in self._pattern.findall(each.read_bytes())}


class OwnServer:
    """A server of PostgreSQL whose files this test may read."""

    def __init__(self, folder: Path) -> None:
        self._at = control.database(folder)
        self.data = folder / "postgres" / "data"

    def psql(self, script: str, role: str = DATABASE) -> str:
        """Run a script as an operator does, and return all that is shown."""
        words = ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self._at["HOST"], "-p", self._at["PORT"]]
        done = subprocess.run(
            [postgres_program("psql"), *words, "-U", role, "-d", DATABASE],
            input=script,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout + done.stderr

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=self._at["HOST"], port=self._at["PORT"], user=DATABASE, dbname=DATABASE, autocommit=True
        )

    def copy_tables(self) -> None:
        """Make the tables of this test's database, owned by a role that can do nothing else."""
        ours = connection.settings_dict
        where = ["-h", ours["HOST"], "-p", ours["PORT"], "-U", ours["USER"]]
        dumped = subprocess.run(
            [postgres_program("pg_dump"), "--no-owner", "--no-privileges", *where, ours["NAME"]],
            check=True,
            capture_output=True,
            text=True,
        )
        with self.connect() as admin:
            under_roles.make(admin.cursor())
            # Its sessions would be listed as holding dead rows.
            admin.execute("ALTER SYSTEM SET autovacuum = off")
            admin.execute("SELECT pg_reload_conf()")
            admin.execute(f"ALTER DATABASE {DATABASE} OWNER TO {under_roles.OWNER}")
        self.psql(dumped.stdout, role=under_roles.OWNER)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let this process work on this server meanwhile."""
        ours = connection.settings_dict
        before = dict(ours)
        connection.close()
        ours.update({name: self._at[name] for name in ("HOST", "NAME")})
        try:
            under_roles.grant()
            yield
        finally:
            connection.close()
            ours.update(before)

    def file_of(self, table: str) -> Path:
        with self.connect() as admin:
            [path] = admin.execute("SELECT pg_relation_filepath(%s)", [table]).fetchone() or [""]
        return self.data / path


@pytest.fixture
def server(tmp_path: Path, transactional_db: None) -> Iterator[OwnServer]:
    instance = control.Instance(tmp_path, s3=None)
    instance.start()
    try:
        own = OwnServer(tmp_path)
        own.copy_tables()
        with own.serving():
            yield own
    finally:
        instance.stop()


@pytest.mark.long(reason="a server of its own, whose tables are rewritten twice")
@pytest.mark.one_postgresql(reason="the files of one server")
def test_nothing_of_an_erased_chatter_is_in_the_files_after_the_runbook(server, storage) -> None:
    ada, eve, dan, neighbour = (Planted(name) for name in ("ada", "eve", "dan", "bob"))
    base, log = server.data / "base", server.data / "pg_wal"
    company = Company(factories.ready_chatbot(slug="acme"))
    # No other chatter has a value of this variable: its table is empty when she is erased.
    company.send(*ada.documents(user_channel_variables={"plan": ada.plan}))
    company.send(*eve.documents(), *neighbour.documents())
    # Few: PostgreSQL compresses a long sample of ids, and then no search finds them.
    rated = company.send(*dan.documents(number=2))
    # As time does: statistics, and segments of the log that are kept for reuse.
    server.psql("ANALYZE; SELECT pg_switch_wal(); CHECKPOINT")
    for one in rated:
        redact(company, one["number"], ids=[], csat_comment=True)
    worker.drain(seconds=60)
    server.psql("CHECKPOINT")
    assert "comment" in dan.found_in(base)
    erase(company, ada)
    server.psql("CHECKPOINT")
    assert ada.found_in(base) >= {"uci", "name", "comment", "id", "long text"}
    # Words of names, in their table and in each of its indexes.
    for name in ("conversations_nameword", "conversations_nameword_pkey", "nameword_lookup"):
        assert ada.found_in(server.file_of(name)) == {"name"}
    assert ada.found_in(log) == {"uci", "name", "comment", "id", "text", "long text", "plan"}

    # Vacuumed and analyzed, as autovacuum does.
    server.psql("VACUUM (ANALYZE); CHECKPOINT")
    assert "long text" in ada.found_in(base)
    assert "plan" in ada.found_in(server.file_of("pg_statistic"))

    with server.connect() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        erase(company, eve)
        assert f"session {reader.info.backend_pid}|" in server.psql(HOLDERS)
        shown = server.psql(REWRITE, role=under_roles.OWNER)
        assert set(HELD.findall(shown)) > {"0"}
        server.psql("CHECKPOINT")
        assert eve.found_in(base) >= {"uci", "name", "comment", "id", "long text"}
    kept = dump()
    connection.close()

    assert server.psql(HOLDERS).strip() == ""
    server.psql(STOP_RECYCLING)
    shown = server.psql(REWRITE, role=under_roles.OWNER)
    assert set(HELD.findall(shown)) == {"0"}
    server.psql("CHECKPOINT")
    assert ada.found_in(base) | eve.found_in(base) == set()
    assert "comment" not in dan.found_in(base)
    assert ada.found_in(log)

    server.psql(REMOVE_LOG)
    assert server.psql(HELD_LOG).strip() == ""
    assert ada.found_in(server.data) | eve.found_in(server.data) == set()
    assert "comment" not in dan.found_in(server.data)

    server.psql("SELECT pg_create_physical_replication_slot('replica', true)")
    server.psql(REMOVE_LOG)
    assert server.psql(HELD_LOG).strip()
    server.psql("SELECT pg_drop_replication_slot('replica')")
    server.psql(REMOVE_LOG)
    assert server.psql(HELD_LOG).strip() == ""

    server.psql(RECYCLE_AGAIN)
    assert "wal_recycle" not in (server.data / "postgresql.auto.conf").read_text()
    assert neighbour.found_in(base) >= {"uci", "name", "comment", "id", "text", "long text"}
    assert dump() == kept


def erase(company: Company, chatter: Planted) -> None:
    deletion = company.delete(chatter.uci)
    worker.drain(seconds=60)
    assert company.status(deletion) == "completed"
