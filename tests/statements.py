"""Watches every statement of a test run: those on the conversation tables have to name their chatbots.

The tables are distributed by `chatbot_id` where one PostgreSQL is not enough (docs/scaling.md). A statement that does
not say which chatbots it is about would go to all machines, or be refused where it locks or changes rows. So each
occurrence of these tables in a statement has a condition that compares its own `chatbot_id` with a parameter or a
constant: `= %s`, `= ANY(%s)` or `IN (...)`.

Watched are Django's statements and those that go to psycopg directly, in this process; not those of servers, workers
and commands that a test starts as processes of their own. PostgreSQL's own parser reads each statement once.
"""

import re
import sys
from collections.abc import Callable, Iterator
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
    "conversations_identitylookup",
    "conversations_uploadedfile",
    "conversations_erasedchatter",
    "conversations_refusedidentity",
}

# Which callers are not asked, by the path of the module that runs the statement, and why.
EXEMPT = {
    "tests/": "A test's own set-up and its questions.",
    "scripts/": "Development tools, and the questions of the demo.",
    "devdata/": "Sample data.",
    "benchmarks/": "Floors, and what fills a database.",
    "conversations/migrations/": "Migrations change whole tables.",
    "compliance/retention/": "Maintenance of the whole service: by age, whatever the chatbot.",
    "compliance/reconciliation/": "Compares the whole bucket with the whole database.",
    "console/conversations/transcript_page.py::_conversation_or_404": "The address of a page has the number alone.",
    "compliance/erasure/uci_values.py": "Reads all values once after a designation; no index leads to them.",
}
# Modules that run statements for others: what counts is who calls them.
_FOR_OTHERS = {"common/db.py", "tests/statements.py", "common/pagination.py"}

_ROOT = Path(__file__).parent.parent
_ON_THESE = re.compile("|".join(TABLES))
_PLACEHOLDER = re.compile(r"%(\(\w+\))?[sbt]|%%")


class Fault(NamedTuple):
    """A statement that does not name its chatbots: what is missing, where it was run, its text without values."""

    missing: str
    caller: str
    statement: str

    def __str__(self) -> str:
        return f"{self.caller}: no condition on the chatbot of {self.missing} in\n{self.statement}"


class Watch:
    """Looks at the statements of this process, each text once. `faults` are those of now, to be taken by `take`."""

    def __init__(self) -> None:
        self._missing: dict[str, str] = {}
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
            return original(cursor, query, *args, **kwargs)

        setattr(cursor, name, watched)

    def _look(self, query: Any) -> None:
        text = text_of(query)
        if not _ON_THESE.search(text):
            return
        missing = self._missing.get(text)
        if missing is None:
            missing = self._missing[text] = ", ".join(unnamed(text))
        if missing and not _is_exempt(caller := _caller(sys._getframe())):
            self._faults.append(Fault(missing, caller, text))


def text_of(query: Any) -> str:
    """Return the text of a statement, with a placeholder for each value."""
    if isinstance(query, sql.Composed):
        return "".join(map(text_of, query))
    if isinstance(query, sql.Literal):
        return "%s"
    if isinstance(query, sql.Composable):
        return query.as_string(None)
    return query.decode() if isinstance(query, bytes) else str(query)


def unnamed(text: str) -> Iterator[str]:
    """Yield each of TABLES that stands in a statement without a condition on its chatbot, as it is called there."""
    try:
        statements = parse_sql(_PLACEHOLDER.sub(lambda found: "%" if found[0] == "%%" else "$1", text))
    except ParseError as error:
        yield f"what cannot be parsed ({error})"
        return
    for statement in statements:
        for level in _levels(statement.stmt):
            yield from _unnamed_in(level)


_Level = ast.SelectStmt | ast.UpdateStmt | ast.DeleteStmt


def _levels(node: Any) -> Iterator[_Level]:
    """Yield each query in a statement, the parts of WITH, of UNION and the subqueries included."""
    if isinstance(node, tuple):
        for each in node:
            yield from _levels(each)
    elif isinstance(node, ast.Node):
        if isinstance(node, _Level):
            yield node
        for name in node:
            yield from _levels(getattr(node, name))


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
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_ROOT) and not path.is_relative_to(_ROOT / ".venv"):
            name = path.relative_to(_ROOT).as_posix()
            if name not in _FOR_OTHERS:
                return f"{name}::{frame.f_code.co_name}:{frame.f_lineno}"
        frame = frame.f_back
    return "tests/"


def _is_exempt(caller: str) -> bool:
    return caller.startswith(tuple(EXEMPT))


WATCH = Watch()


@pytest.fixture(autouse=True)
def statements_name_their_chatbots() -> Iterator[None]:
    """Fail a test in which a statement on the conversation tables did not name its chatbots."""
    WATCH.take()
    yield
    if faults := WATCH.take():
        pytest.fail("\n\n".join(map(str, faults)), pytrace=False)
