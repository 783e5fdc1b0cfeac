"""Find statements that read a big table from end to end, or more of it than they need.

PostgreSQL counts both for each table. The counts are read before and after each statement, so the culprit can be
named and its plan shown.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
import pytest
from django.db import connection as django_connection
from psycopg.pq import TransactionStatus

# What this session has not reported yet plus what is reported: together they only grow. Entries are rows read by
# scanning the table, and entries read from its indexes.
_COUNTS = """
SELECT pg_stat_clear_snapshot();
SELECT given.name, pg_stat_get_numscans(given.oid) + pg_stat_get_xact_numscans(given.oid),
       pg_stat_get_tuples_returned(given.oid) + pg_stat_get_xact_tuples_returned(given.oid)
       + (SELECT coalesce(sum(pg_stat_get_tuples_returned(i.indexrelid)
                              + pg_stat_get_xact_tuples_returned(i.indexrelid)), 0)
            FROM pg_index i WHERE i.indrelid = given.oid)::bigint
  FROM (SELECT name, name::regclass AS oid FROM unnest(%s::text[]) AS name) AS given
"""

_EXPLAINED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")


class _Count(NamedTuple):
    scans: int
    entries: int


_Counts = dict[str, _Count]


@dataclass(frozen=True)
class Finding:
    """A statement scanned a table, or read more of it than allowed."""

    step: str
    table: str
    what: str
    statement: str
    plan: str = ""

    def __str__(self) -> str:
        return f"{self.step}: {self.what} {self.table}\n{self.statement}\n{self.plan}"


class Watch:
    """Watches every statement of this process, through Django or not, while a `step` is open."""

    def __init__(self, tables: Sequence[str], *, most_entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.findings: list[Finding] = []
        self.statements = 0
        self._tables = list(tables)
        self._most_entries = most_entries
        self._step = ""
        self._accounted: _Counts = {}
        self._execute = psycopg.Cursor.execute
        self._copy = psycopg.Cursor.copy
        self._patch(monkeypatch)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Watch the statements of a step with this name.

        At its end, reads without a statement are found too: a server-side cursor reads after its statement.
        """
        self._accounted.clear()
        before = self._now()
        self._step = name
        try:
            yield
        finally:
            self._step = ""
        after = self._now()
        for table in after:
            explained = self._accounted.get(table, _Count(0, 0))
            expected = _Count(before[table].scans + explained.scans, before[table].entries + explained.entries)
            if what := self._judge(expected, after[table]):
                self.findings.append(Finding(name, table, what, "(through a cursor on the server)"))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause while the test itself queries the database."""
        name, self._step, before = self._step, "", self._now()
        try:
            yield
        finally:
            self._step = name
        self._account(before, self._now())

    def _account(self, before: _Counts, after: _Counts) -> None:
        for table in before.keys() & after.keys():
            so_far = self._accounted.get(table, _Count(0, 0))
            self._accounted[table] = _Count(
                so_far.scans + after[table].scans - before[table].scans,
                so_far.entries + after[table].entries - before[table].entries,
            )

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        watch, execute, copy = self, self._execute, self._copy

        def watched_execute(cursor: Any, query: Any, params: Any = None, **options: Any) -> Any:
            with watch._around(cursor.connection, query, params):
                return execute(cursor, query, params, **options)

        @contextmanager
        def watched_copy(cursor: Any, query: Any, params: Any = None, **options: Any) -> Iterator[Any]:
            with watch._around(cursor.connection, query, params), copy(cursor, query, params, **options) as data:
                yield data

        monkeypatch.setattr(psycopg.Cursor, "execute", watched_execute)
        monkeypatch.setattr(psycopg.Cursor, "copy", watched_copy)

    @contextmanager
    def _around(self, connection: psycopg.Connection[Any], query: Any, params: Any) -> Iterator[None]:
        if not self._step:
            yield
            return
        before = self._counts(connection)
        yield
        self.statements += 1
        after = self._counts(connection)
        self._account(before, after)
        for table in before.keys() & after.keys():
            what = self._judge(before[table], after[table])
            if what:
                text = query if isinstance(query, str) else query.as_string(connection)
                plan = self._plan(connection, text, params)
                self.findings.append(Finding(self._step, table, what, " ".join(text.split()), plan))

    def _judge(self, before: _Count, after: _Count) -> str:
        if after.scans > before.scans:
            return "scans"
        entries = after.entries - before.entries
        return f"reads {entries} entries of" if entries > self._most_entries else ""

    def _now(self) -> _Counts:
        django_connection.ensure_connection()
        return self._counts(django_connection.connection)

    def _counts(self, connection: psycopg.Connection[Any]) -> _Counts:
        if connection.info.transaction_status == TransactionStatus.INERROR:
            return {}
        rows = self._ask(connection, _COUNTS, [self._tables])
        return {table: _Count(scans, entries) for table, scans, entries in rows}

    def _plan(self, connection: psycopg.Connection[Any], text: str, params: Any) -> str:
        last = text.rpartition(";")[2].lstrip()  # of several that are sent together
        if not last.startswith(_EXPLAINED):
            return ""
        return "\n".join(row[0] for row in self._ask(connection, f"EXPLAIN {last}", params))

    def _ask(self, connection: psycopg.Connection[Any], query: str, params: Any) -> list[Any]:
        cursor = psycopg.ClientCursor(connection)
        self._execute(cursor, query, params)
        while cursor.nextset():
            pass
        return cursor.fetchall()
