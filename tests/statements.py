"""Watches every statement of a test run: those on the conversation tables have to be such that Citus takes them.

The tables are distributed by `chatbot_id` where one PostgreSQL is not enough (docs/explanation/citus.md). A statement
on them

- names its chatbots: each occurrence of these tables has a condition that compares its own `chatbot_id` with a
  parameter or a constant: `= %s`, `= ANY(%s)` or `IN (...)`. Otherwise it would go to all machines;
- reads other tables, but reference tables, in parts of its own only: a WITH reads either, and so does the statement
  without its WITHs;
- reads no other table at all if it locks, updates or deletes rows. What it has to know of others are its parameters.

A change of these tables and of reference tables, or one that reads them,

- calls no volatile function if it is an UPDATE or DELETE;
- calls none that is not immutable in RETURNING, in the WHERE of ON CONFLICT, and in CASE and COALESCE of an UPDATE.

Settings are sent alone: with them, Citus would send the machines whatever came in the same text.

Watched are Django's statements and those that go to psycopg directly, in this process; not those of servers, workers
and commands that a test starts as processes of their own. PostgreSQL's own parser reads each statement once.
"""

import re
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import psycopg
import pytest
from pglast import ast, parse_sql
from pglast.enums import A_Expr_Kind, BoolExprType
from pglast.parser import ParseError
from psycopg import sql

TABLES = {
    "conversations_conversation",
    "conversations_message",
    "conversations_identity",
    "conversations_variablevalue",
    "conversations_nameword",
    "conversations_identitylookup",
    "conversations_uploadedfile",
    "conversations_tombstone",
    "conversations_refusedidentity",
}
# On each machine, so any statement may read them.
REFERENCE_TABLES = {"chatbots_chatbot", "chatbots_variable"}

# Which callers are not asked, by the path of the module that runs the statement, and why.
EXEMPT = {
    "tests/": "A test's own set-up and its questions.",
    "scripts/": "Development tools, and the questions of the demo.",
    "devdata/": "Sample data.",
    "benchmarks/": "Floors, and what fills a database.",
    "compliance/erasure/late_data.py::_erase_late": "Late data is found by its mark, whatever the chatbot.",
    "compliance/retention/expiry.py::count": "What is due is found by age, whatever the chatbot.",
    "compliance/retention/objects.py": "Maintenance of the whole service: by age, whatever the chatbot.",
    "compliance/reconciliation/": "Compares the whole bucket with the whole database.",
    "console/conversations/transcript_page.py::open_conversation": "The address of a page has the number alone.",
    "compliance/erasure/uci_values.py": "Reads all values once after a designation; no index leads to them.",
}
# Modules that run statements for others: what counts is who calls them.
_FOR_OTHERS = {"common/db.py", "tests/statements.py", "common/pagination.py"}

_ROOT = f"{Path(__file__).parent.parent}/"
_LOOKED_AT = re.compile("|".join(TABLES | REFERENCE_TABLES | {r"\bSET\b.+;"}))
# What Citus answers to a statement that it cannot plan.
_REFUSED = {"0A000", "XX000"}
_PLACEHOLDER = re.compile(r"%(\(\w+\))?[sbt]|%%")


class Fault(NamedTuple):
    """A statement that breaks the rule: what is wrong, where it was run, its text without values."""

    what: str
    caller: str
    statement: str

    def __str__(self) -> str:
        return f"{self.caller}: {self.what} in\n{self.statement}"


class Watch:
    """Looks at the statements of this process, each text once. `faults` are those of now, to be taken by `take`."""

    def __init__(self) -> None:
        self._known: dict[str, list[str]] = {}
        self._faults: list[Fault] = []

    def install(self) -> None:
        """Look at whatever a cursor of psycopg is asked for, until this process ends."""
        self._wrap(psycopg.Cursor, "execute")
        self._wrap(psycopg.Cursor, "executemany")
        self._wrap(psycopg.Cursor, "copy")
        self._wrap(psycopg.ServerCursor, "execute")

    def take(self) -> list[Fault]:
        """Return the faults since the last time, each once."""
        faults, self._faults = self._faults, []
        return list(dict.fromkeys(faults))

    def _wrap(self, cursor: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(cursor, name)

        def watched(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            self._look(query)
            try:
                return original(cursor, query, *args, **kwargs)
            except psycopg.Error as error:
                self._note_refusal(error, query)
                raise

        setattr(cursor, name, watched)

    def _look(self, query: Any) -> None:
        text = text_of(query)
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = list(faults_in(text)) if _LOOKED_AT.search(text) else []
        if found and not _is_exempt(caller := _caller(sys._getframe())):
            self._faults.extend(Fault(what, caller, text) for what in found)

    def _note_refusal(self, error: psycopg.Error, query: Any) -> None:
        """Keep what a database refused whatever the values: the service may have taken it for a failed attempt."""
        if error.sqlstate in _REFUSED and not _is_exempt(caller := _caller(sys._getframe())):
            self._faults.append(Fault(f"refused ({error.diag.message_primary})", caller, text_of(query)))


def text_of(query: Any) -> str:
    """Return the text of a statement, with a placeholder for each value."""
    if isinstance(query, str):  # first: to compare with the others' abstract base takes longer
        return query
    if isinstance(query, sql.Composed):
        return "".join(map(text_of, query))
    if isinstance(query, sql.Literal):
        return "%s"
    if isinstance(query, sql.Composable):
        return query.as_string(None)
    return str(query.decode())


def faults_in(text: str) -> Iterator[str]:
    """Yield what is wrong with a statement on TABLES."""
    try:
        statements = parse_sql(_PLACEHOLDER.sub(lambda found: "%" if found[0] == "%%" else "$1", text))
    except ParseError as error:
        yield f"cannot be parsed ({error})"
        return
    if len({isinstance(statement.stmt, ast.VariableSetStmt) for statement in statements}) > 1:
        yield "settings are sent together with something else"
    for statement in statements:
        nodes = list(_nodes(statement.stmt))
        for level in nodes:
            if isinstance(level, _Level):
                for table in _unnamed_in(level):
                    yield f"no condition on the chatbot of {table}"
        yield from _mixed(statement.stmt, nodes)
        yield from _not_constant(nodes)


_Level = ast.SelectStmt | ast.UpdateStmt | ast.DeleteStmt
# Of those that statements of ours might call.
_VOLATILE = {"clock_timestamp", "gen_random_uuid", "nextval", "random", "set_config", "uuidv4", "uuidv7"}
_STABLE = {"now", "statement_timestamp", "transaction_timestamp"}


def _nodes(node: Any) -> Iterator[ast.Node]:
    """Yield all nodes of a statement, subqueries included. Not the names of what is locked: they are aliases."""
    if isinstance(node, tuple):
        for each in node:
            yield from _nodes(each)
    elif isinstance(node, ast.Node) and not isinstance(node, ast.LockingClause):
        yield node
        for name in node:
            yield from _nodes(getattr(node, name))


def _mixed(statement: ast.Node, nodes: Collection[ast.Node]) -> Iterator[str]:
    """Yield what is wrong with a statement that reads both TABLES and others.

    Each of its parts may read either: what it is without its WITHs, and each WITH. What locks, updates or deletes
    rows has only one part in this.
    """
    named = {node.ctename for node in nodes if isinstance(node, ast.CommonTableExpr)} | REFERENCE_TABLES
    works = any(
        (isinstance(node, ast.SelectStmt) and node.lockingClause) or isinstance(node, ast.UpdateStmt | ast.DeleteStmt)
        for node in nodes
    )
    parts = [set().union(*_parts(statement))] if works else list(_parts(statement))
    for tables in parts:
        if tables & TABLES and (others := tables - TABLES - named):
            beside = "what is locked or changed" if works else ", ".join(sorted(tables & TABLES))
            yield f"{', '.join(sorted(others))} beside {beside}"


def _parts(statement: ast.Node) -> Iterator[set[str]]:
    """Yield the tables of each part of a statement. The target of an INSERT is not read."""
    tables: set[str] = set()
    left: list[Any] = [statement]
    while left:
        node = left.pop()
        if isinstance(node, tuple):
            left.extend(node)
        elif isinstance(node, ast.CommonTableExpr):
            yield from _parts(node.ctequery)
        elif isinstance(node, ast.RangeVar):
            tables.add(node.relname)
        elif isinstance(node, ast.Node) and not isinstance(node, ast.LockingClause):
            left.extend(getattr(node, name) for name in node if (type(node), name) != (ast.InsertStmt, "relation"))
    yield tables


def _not_constant(nodes: Collection[ast.Node]) -> Iterator[str]:
    """Yield the functions that an INSERT, UPDATE or DELETE calls where Citus takes none that is not constant."""
    if not any(isinstance(node, ast.RangeVar) and node.relname in TABLES | REFERENCE_TABLES for node in nodes):
        return
    for node in nodes:
        if isinstance(node, ast.UpdateStmt | ast.DeleteStmt) and (bad := _called(node) & _VOLATILE):
            yield f"a volatile function ({', '.join(sorted(bad))}) in an UPDATE or DELETE"
        if isinstance(node, ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt):
            for place, part in _constant_places(node):
                if bad := _called(part) & (_VOLATILE | _STABLE):
                    yield f"a function that is not immutable ({', '.join(sorted(bad))}) in {place}"


def _constant_places(change: ast.InsertStmt | ast.UpdateStmt | ast.DeleteStmt) -> Iterator[tuple[str, Any]]:
    yield "RETURNING", change.returningClause
    if isinstance(change, ast.InsertStmt):
        if change.relation.relname in TABLES | REFERENCE_TABLES:
            yield "the WHERE of ON CONFLICT", change.onConflictClause and change.onConflictClause.whereClause
    else:
        left: list[Any] = [change]
        while left:
            node = left.pop()
            if isinstance(node, ast.CaseExpr | ast.CoalesceExpr):
                yield "CASE or COALESCE", node
            elif isinstance(node, tuple):
                left.extend(node)
            # What a subquery or a WITH computes is a value to the change.
            elif isinstance(node, ast.Node) and not isinstance(node, ast.SelectStmt | ast.WithClause):
                left.extend(getattr(node, name) for name in node)


def _called(node: Any) -> set[str]:
    return {_function(each) for each in _nodes(node) if isinstance(each, ast.FuncCall)}


def _function(call: ast.FuncCall) -> str:
    return str(call.funcname[-1].sval) if call.funcname else ""


def _unnamed_in(level: _Level) -> Iterator[str]:
    tables: list[ast.RangeVar] = []
    conditions = list(_conjuncts(level.whereClause))
    sources = level.usingClause if isinstance(level, ast.DeleteStmt) else level.fromClause
    for source in [*(sources or ()), *([] if isinstance(level, ast.SelectStmt) else [level.relation])]:
        _collect(source, tables, conditions)
    ours = {_alias(table): table.relname for table in tables if table.relname in TABLES}
    # Without a table's name the column is that of the only table that has it.
    named = {name or (next(iter(ours)) if len(ours) == 1 else None) for name in map(_names, conditions) if name != ""}
    for alias, table in ours.items():
        if alias not in named:
            yield table if alias == table else f"{table} {alias}"


def _collect(source: Any, tables: list[ast.RangeVar], conditions: list[Any]) -> None:
    if isinstance(source, ast.RangeVar):
        tables.append(source)
    elif isinstance(source, ast.JoinExpr):
        _collect(source.larg, tables, conditions)
        _collect(source.rarg, tables, conditions)
        conditions.extend(_conjuncts(source.quals))


def _alias(table: ast.RangeVar) -> str:
    return str(table.alias.aliasname if table.alias else table.relname)


def _conjuncts(condition: Any) -> Iterator[Any]:
    if isinstance(condition, ast.BoolExpr) and condition.boolop == BoolExprType.AND_EXPR:
        for each in condition.args:
            yield from _conjuncts(each)
    elif condition is not None:
        yield condition


def _names(condition: Any) -> str | None:
    """Return the table whose chatbots a condition names: None if it does not say which table, "" if it names none."""
    kinds = {A_Expr_Kind.AEXPR_OP, A_Expr_Kind.AEXPR_OP_ANY, A_Expr_Kind.AEXPR_IN}
    if (
        not isinstance(condition, ast.A_Expr)
        or condition.kind not in kinds
        or [part.sval for part in condition.name or ()] != ["="]
    ):
        return ""
    for column, value in ((condition.lexpr, condition.rexpr), (condition.rexpr, condition.lexpr)):
        if isinstance(column, ast.ColumnRef) and not _reads(value):
            *table, name = (getattr(part, "sval", "") for part in column.fields)
            if name == "chatbot_id":
                return table[-1] if table else None
    return ""


def _reads(value: Any) -> bool:
    """Return whether a value hangs on rows: on a column, or on a subquery."""
    if isinstance(value, tuple):
        return any(map(_reads, value))
    if isinstance(value, ast.ColumnRef | ast.SubLink):
        return True
    return isinstance(value, ast.Node) and any(_reads(getattr(value, name)) for name in value)


def _caller(frame: FrameType | None) -> str:
    """Return the innermost module of this project that asked for the statement, and the line."""
    while frame is not None:
        path = frame.f_code.co_filename
        name = path.removeprefix(_ROOT)
        if name != path and not name.startswith(".venv/") and name not in _FOR_OTHERS:
            return f"{name}::{frame.f_code.co_name}:{frame.f_lineno}"
        frame = frame.f_back
    return "tests/"


def _is_exempt(caller: str) -> bool:
    return caller.startswith(tuple(EXEMPT))


WATCH = Watch()


@pytest.fixture(autouse=True)
def statements_can_be_distributed() -> Iterator[None]:
    """Fail a test in which a statement on the conversation tables broke the rule."""
    WATCH.take()
    yield
    if faults := WATCH.take():
        pytest.fail("\n\n".join(map(str, faults)), pytrace=False)
